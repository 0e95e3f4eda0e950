//! How much may be asked for, and what is answered beyond.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::support::{ADMIN, READ, SUBMIT, Server};
use super::tls::certificate;
use crate::api::serve::Timeouts;
use crate::proto;
use crate::service::Service;

#[tokio::test]
async fn large_bodies_are_refused() {
    let server = Server::start(|_| {}).await;
    let large = format!(r#"{{"spec": "{}"}}"#, "x".repeat(1_000));
    let answer = server.post("/api/v1/runs", SUBMIT, &large).await;
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.problem(),
        (
            "too-large".into(),
            "a request may have up to 1000 bytes".into()
        )
    );
    // Told to be large, before it comes.
    let head = format!("POST /api/v1/runs\nAuthorization: Bearer {SUBMIT}\nContent-Length: 5000");
    assert_eq!(server.ask(&head, "").await.status, 413);
    // Not told.
    let head =
        format!("POST /api/v1/runs\nAuthorization: Bearer {SUBMIT}\nTransfer-Encoding: chunked");
    let chunk = format!("{:x}\r\n{}\r\n", 800, "x".repeat(800));
    let answer = server.ask(&head, &format!("{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(answer.status, 413);
    // Whoever may not ask is told so first.
    assert_eq!(
        server.post("/api/v1/runs", "wrong", &large).await.status,
        401
    );
    let fitting = format!(r#"{{"spec": "{}"}}"#, "x".repeat(900));
    assert_eq!(
        server.post("/api/v1/runs", SUBMIT, &fitting).await.status,
        503
    );

    let mut client = server.grpc(ADMIN).await;
    let apply = |bytes| proto::ApplyJobRequest {
        spec: "x".repeat(bytes),
        ..Default::default()
    };
    let status = client.apply_job(apply(1_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "a request may have up to 1000 bytes");
    let status = client.apply_job(apply(900)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn a_long_head_is_refused() {
    let server = Server::start(|_| {}).await;
    let head = format!("GET /healthz\nX-Long: {}", "x".repeat(20_000));
    assert_eq!(server.ask(&head, "").await.status, 431);
    server.stop().await;
}

#[tokio::test]
async fn each_caller_has_a_rate() {
    let server = Server::start(|options| options.requests_per_second = 1).await;
    let mut refused = None;
    // Two at once and one a second: a hundred can't all pass before the clock has run for long.
    for _ in 0..100 {
        let answer = server.get("/api/v1/openapi.json", READ).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.problem().0, "too-many-requests");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Others are not slowed down by it.
    assert_eq!(server.get("/api/v1/openapi.json", ADMIN).await.status, 200);
    // Nor is who guesses tokens faster than who has one.
    let mut statuses = Vec::new();
    for i in 0..100 {
        let status = server
            .get("/api/v1/jobs", &format!("a-guess-at-a-token-{i}"))
            .await
            .status;
        statuses.push(status);
        if status == 429 {
            break;
        }
    }
    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.iter().all(|status| *status == 401));
    // It is still seen whether the scheduler is well.
    assert_eq!(server.ask("GET /healthz", "").await.status, 200);

    let mut client = server.grpc(SUBMIT).await;
    let mut last = None;
    for _ in 0..100 {
        let status = client
            .list_jobs(proto::ListJobsRequest {})
            .await
            .unwrap_err();
        let limited = status.code() == Code::ResourceExhausted;
        last = Some(status);
        if limited {
            break;
        }
    }
    let last = last.unwrap();
    assert_eq!(last.code(), Code::ResourceExhausted);
    assert_eq!(last.metadata().get("retry-after").unwrap(), "1");
    server.stop().await;
}

/// None of these may hold a connection: each answer, or none, is waited for.
#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (_, files) = certificate(folder.path());
    let short = Timeouts {
        handshake: Duration::from_millis(50),
        first_request: Duration::from_millis(50),
        head: Duration::from_millis(50),
        body: Duration::from_millis(50),
    };
    let plain = Server::with(Service::stub(), short, |_| {}).await;
    let tls = Server::with(Service::stub(), short, |options| options.tls = Some(files)).await;
    let half = format!(
        "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SUBMIT}\r\n\
         Content-Length: 10\r\n\r\n{{"
    );
    for (server, said, answer) in [
        (&plain, "", ""),
        (&plain, "PRI * HT", ""),
        (&plain, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0"),
        (&plain, "GET /healthz HTTP/1.1\r\nHost: loc", ""),
        (
            &plain,
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "HTTP/1.1 200",
        ),
        (&plain, half.as_str(), "HTTP/1.1 408"),
        (&tls, "", ""),
        (&tls, "\x16\x03\x01", ""),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with(answer), "{said:?}: {heard:?}");
        assert_eq!(heard.is_empty(), answer.is_empty(), "{said:?}: {heard:?}");
    }
    plain.stop().await;
    tls.stop().await;
}

#[tokio::test]
async fn closing_lets_go_of_idle_connections() {
    let server = Server::start(|_| {}).await;
    let address = server.address;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let mut begin = [0; 12];
    idle.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    server.stop().await;
    for stream in [&mut silent, &mut idle] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }
    assert!(TcpStream::connect(address).await.is_err());
}
