//! What the faces have in common with the protocols they speak.

use serde_json::json;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

use super::support::{ADMIN, READ, SUBMIT, Server};
use crate::proto;

#[tokio::test]
async fn every_error_is_a_problem() {
    let server = Server::start(|_| {}).await;
    for (head, body, status, name, detail) in [
        (
            "GET /nowhere",
            "",
            404,
            "not-found",
            "there is nothing at /nowhere; /api/v1/openapi.json tells what there is",
        ),
        (
            "DELETE /api/v1/runs",
            "",
            405,
            "method-not-allowed",
            "DELETE is not for /api/v1/runs",
        ),
        (
            "POST /api/v1/runs\nContent-Type: text/plain",
            "{}",
            415,
            "unsupported-media-type",
            "the body must be JSON: Content-Type: application/json",
        ),
        (
            "POST /api/v1/runs\nContent-Type: application/json",
            "{",
            400,
            "invalid",
            "the body is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "POST /api/v1/jobs\nContent-Type: application/json",
            "{}",
            400,
            "invalid",
            "spec: it is missing",
        ),
        (
            "POST /api/v1/backfills\nContent-Type: application/json",
            r#"{"job": "a", "from": "2026-01-01", "to": 7}"#,
            400,
            "invalid",
            "to: invalid type: integer `7`, expected a string at line 1 column 42",
        ),
        (
            "GET /api/v1/runs?state=gone",
            "",
            400,
            "invalid",
            "state: unknown variant `gone`, expected one of `queued`, `running`, `publishing`, \
             `succeeded`, `failed`, `cancelled`, `fenced`",
        ),
        (
            "GET /api/v1/runs?page_size=1001",
            "",
            400,
            "invalid",
            "page_size: must be 1 to 1000",
        ),
        (
            "GET /api/v1/runs?jobs=x",
            "",
            400,
            "invalid",
            "jobs: there is no such parameter; known: job, state, page_size, page_token",
        ),
        (
            "GET /api/v1/jobs/x/gaps",
            "",
            400,
            "invalid",
            "from: it is missing",
        ),
        (
            "GET /api/v1/runs/x",
            "",
            404,
            "not-found",
            "there is no run 'x'",
        ),
        (
            "GET /api/v1/jobs/%ff",
            "",
            400,
            "invalid",
            "the path is not UTF-8",
        ),
        (
            "POST /api/v1/runs\nContent-Type: application/json\nIdempotency-Key: ä",
            "{}",
            400,
            "invalid",
            "Idempotency-Key: must have 1 to 255 printable ASCII characters",
        ),
        (
            "GET /api/v1/jobs",
            "",
            503,
            "unavailable",
            "this scheduler is a standby",
        ),
    ] {
        let head = format!("{head}\nAuthorization: Bearer {ADMIN}");
        let answer = server.ask(&head, body).await;
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        assert_eq!(
            answer.problem(),
            (name.to_owned(), detail.to_owned()),
            "{head}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let answer = server
        .ask(
            &format!("PUT /api/v1/jobs\nAuthorization: Bearer {ADMIN}"),
            "",
        )
        .await;
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
    let answer = server
        .post("/api/v1/jobs", ADMIN, r#"{"spec": "", "set": {"a": 1}}"#)
        .await;
    assert_eq!(
        answer.json()["errors"],
        json!([{
            "field": "set.a",
            "reason": "invalid type: integer `1`, expected a string at line 1 column 27",
        }])
    );
    server.stop().await;
}

#[tokio::test]
async fn grpc_errors_name_the_field() {
    let server = Server::start(|_| {}).await;
    let mut client = server.grpc(SUBMIT).await;
    let request = proto::SubmitRunRequest {
        what: Some(proto::submit_run_request::What::Generate("{".to_owned())),
        ..Default::default()
    };
    let status = client.submit_run(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("generate: EOF while parsing"),
        "{status}"
    );
    let id = "x".to_owned();
    let status = client
        .get_run(proto::GetRunRequest { id })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "there is no run 'x'")
    );
    let states = vec![99];
    let request = proto::ListRunsRequest {
        states,
        ..Default::default()
    };
    let status = client.list_runs(request).await.unwrap_err();
    assert_eq!(status.message(), "states: 99 is not a state");
    server.stop().await;
}

#[tokio::test]
async fn health_follows_readiness_and_needs_no_token() {
    let server = Server::start(|_| {}).await;
    let mut client = HealthClient::new(server.channel().await);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in ["", "rankmill.v1.Rankmill"] {
        // The stub is not ready.
        let answer = client.check(ask(service)).await.unwrap();
        assert_eq!(answer.get_ref().status(), ServingStatus::NotServing);
    }
    let status = client.check(ask("other")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let mut watched = client.watch(ask("other")).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    // It doesn't hold up the end.
    server.stop().await;
    assert!(watched.message().await.unwrap().is_none());
}

#[tokio::test]
async fn reflection_tells_of_all_services() {
    let server = Server::start(|_| {}).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = |token: &str| {
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = tonic::Request::new(futures::stream::iter([list]));
        if !token.is_empty() {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        request
    };
    let status = client
        .server_reflection_info(request(""))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let answers = client.server_reflection_info(request(READ)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let mut names: Vec<String> = list
        .service
        .into_iter()
        .map(|ServiceResponse { name }| name)
        .collect();
    names.sort();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "rankmill.v1.Rankmill",
    ];
    assert_eq!(names, expected);
    server.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Server::start(|_| {}).await;
    for name in ["a", "b"] {
        server.get(&format!("/api/v1/jobs/{name}"), READ).await;
    }
    server.get("/api/v1/secret", READ).await;
    server.ask("BREW /api/v1/jobs", "").await;
    let mut client = server.grpc(READ).await;
    client
        .list_jobs(proto::ListJobsRequest {})
        .await
        .unwrap_err();
    let metrics = server.ask("GET /metrics", "").await.body;
    for labels in [
        r#"{face="http",method="GET",route="/api/v1/jobs/{name}",status="503"} 2"#,
        r#"{face="http",method="GET",route="unmatched",status="404"} 1"#,
        r#"{face="http",method="other",route="/api/v1/jobs",status="401"} 1"#,
        r#"{face="grpc",method="POST",route="ListJobs",status="Unavailable"} 1"#,
    ] {
        let line = format!("rankmill_api_requests_total{labels}");
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    let line = r#"rankmill_api_request_duration_seconds_count{face="grpc",method="POST",route="ListJobs"} 1"#;
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    server.stop().await;
}
