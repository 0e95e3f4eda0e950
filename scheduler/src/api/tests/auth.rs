//! Who may do what.

use tonic::Code;

use super::support::{ADMIN, READ, SUBMIT, Server, options, three_tokens, write_tokens};
use crate::api::Api;
use crate::proto;
use crate::service::Service;

#[tokio::test]
async fn without_a_known_token_nothing_is_told() {
    let server = Server::start(|_| {}).await;
    for head in [
        "GET /api/v1/jobs",
        "GET /api/v1/openapi.json",
        "GET /api/v1/nowhere",
        "POST /api/v1/runs",
        "GET /api/v1/jobs\nAuthorization: Basic YTpi",
        "GET /api/v1/jobs?token=token-of-ada-who-is-admin",
    ] {
        let answer = server.ask(head, "").await;
        assert_eq!(answer.status, 401, "{head}");
        assert_eq!(answer.problem().0, "unauthenticated");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="rankmill""#)
        );
    }
    let last_wrong = format!("{}x", &ADMIN[..ADMIN.len() - 1]);
    for token in ["wrong", &ADMIN[1..], &last_wrong, &format!("{ADMIN}x")] {
        let answer = server.get("/api/v1/jobs", token).await;
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="rankmill", error="invalid_token""#)
        );
        assert!(!answer.body.contains(token));
        let mut client = server.grpc(token).await;
        let status = client
            .list_jobs(proto::ListJobsRequest {})
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    let mut client = server.grpc("").await;
    let status = client
        .list_jobs(proto::ListJobsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(
        status.message(),
        "a token is needed: Authorization: Bearer …"
    );
    server.stop().await;
}

#[tokio::test]
async fn each_role_includes_the_lower_ones() {
    let server = Server::start(|_| {}).await;
    let requests = [
        ("GET /api/v1/jobs", 0),
        ("GET /api/v1/runs", 0),
        ("GET /api/v1/jobs/x/gaps?from=2026-01-01", 0),
        ("GET /api/v1/executors", 0),
        ("GET /api/v1/openapi.json", 0),
        ("POST /api/v1/runs", 1),
        ("POST /api/v1/runs/x/cancel", 1),
        ("POST /api/v1/runs/x/retry", 1),
        ("POST /api/v1/backfills", 1),
        ("POST /api/v1/jobs", 2),
        ("DELETE /api/v1/jobs/x", 2),
        ("POST /api/v1/jobs/x/pause", 2),
        ("POST /api/v1/jobs/x/resume", 2),
    ];
    for (request, needed) in requests {
        for (role, token) in [READ, SUBMIT, ADMIN].into_iter().enumerate() {
            let head = format!("{request}\nAuthorization: Bearer {token}");
            let answer = server.ask(&head, "").await;
            assert_ne!(answer.status, 401);
            assert_eq!(answer.status == 403, role < needed, "{head}: {answer:?}");
            if role < needed {
                let needed = ["read", "submit", "admin"][needed];
                let detail = answer.problem().1;
                assert!(detail.starts_with(&format!("this needs a token of the role {needed};")));
                let challenge = answer.header("www-authenticate").unwrap();
                let scope = format!(r#"error="insufficient_scope", scope="{needed}""#);
                assert!(challenge.ends_with(&scope), "{challenge}");
            }
        }
    }
    let mut client = server.grpc(READ).await;
    let status = client
        .submit_run(proto::SubmitRunRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut client = server.grpc(SUBMIT).await;
    let status = client
        .apply_job(proto::ApplyJobRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    server.stop().await;
}

#[tokio::test]
async fn probes_need_no_token() {
    let server = Server::start(|_| {}).await;
    assert_eq!(server.ask("GET /healthz", "").await.body, "ok\n");
    // The stub is not ready.
    let ready = server.ask("GET /readyz", "").await;
    assert_eq!(
        (ready.status, ready.header("retry-after")),
        (503, Some("2"))
    );
    assert_eq!(ready.problem().0, "unavailable");
    let metrics = server.ask("GET /metrics", "").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text;")
    );
    assert!(metrics.body.contains(
        r#"rankmill_api_requests_total{face="http",method="GET",route="/readyz",status="503"} 1"#
    ));
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_read_again() {
    let server = Server::start(|_| {}).await;
    let new = "token-of-eve-who-is-new";
    assert_eq!(server.get("/api/v1/openapi.json", new).await.status, 401);
    let text = three_tokens().replace(READ, new);
    write_tokens(server.folder.path(), &text);
    while server.get("/api/v1/openapi.json", new).await.status != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/api/v1/openapi.json", READ).await.status, 401);
    server.stop().await;
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut elsewhere = options(folder.path());
    elsewhere.bind = "0.0.0.0:0".parse().unwrap();
    elsewhere.tokens = None;
    let error = Api::bind(&elsewhere, Service::stub()).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "cannot use the API's address 0.0.0.0:0: it can be reached from elsewhere, and there are \
         no tokens; give a file of tokens, or bind to 127.0.0.1"
    );
    let missing = options(folder.path());
    let error = Api::bind(&missing, Service::stub()).await.err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("cannot use the file of tokens '"),
        "{error}"
    );

    let server = Server::start(|options| options.tokens = None).await;
    let answer = server.ask("GET /api/v1/openapi.json", "").await;
    assert_eq!(answer.status, 200);
    let mut client = server.grpc("").await;
    let status = client
        .list_jobs(proto::ListJobsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for header in ["Host: example.org", "Origin: https://example.org"] {
        let answer = server
            .ask(&format!("GET /api/v1/openapi.json\n{header}"), "")
            .await;
        assert_eq!(answer.status, 403, "{header}");
        answer.problem();
    }
    server.stop().await;
}
