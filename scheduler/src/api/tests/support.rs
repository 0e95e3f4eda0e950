//! A server on a free port, and a plain HTTP/1.1 client.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::api::serve::Timeouts;
use crate::api::{Api, Options};
use crate::proto::rankmill_client::RankmillClient;
use crate::service::Service;

pub(super) const READ: &str = "token-of-rea-who-reads";
pub(super) const SUBMIT: &str = "token-of-sam-who-submits";
pub(super) const ADMIN: &str = "token-of-ada-who-is-admin";

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

pub(super) fn options(folder: &Path) -> Options {
    Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        tokens: Some(folder.join("tokens")),
        tls: None,
        max_request_bytes: 1_000,
        requests_per_second: 0,
    }
}

pub(super) fn write_tokens(folder: &Path, text: &str) -> PathBuf {
    let (new, path) = (folder.join("tokens.new"), folder.join("tokens"));
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

pub(super) fn three_tokens() -> String {
    format!("ada admin {ADMIN}\nsam submit {SUBMIT}\nrea read {READ}\n")
}

impl Server {
    pub(super) async fn start(change: impl FnOnce(&mut Options)) -> Self {
        Self::with(Service::stub(), Timeouts::default(), change).await
    }

    pub(super) async fn with(
        service: Service,
        timeouts: Timeouts,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tokens(folder.path(), &three_tokens());
        let mut options = options(folder.path());
        change(&mut options);
        let api = Api::with_timeouts(&options, service, timeouts)
            .await
            .unwrap();
        let address = api.address();
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(async move {
            api.serve(async { drop(stopped.await) }).await.unwrap();
        });
        Self {
            address,
            folder,
            stop,
            done,
        }
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap();
    }

    /// `head` is the request's first line without the version, then headers.
    pub(super) async fn ask(&self, head: &str, body: &str) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, head, body).await
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Answer {
        let head = format!("GET {path}\nAuthorization: Bearer {token}");
        self.ask(&head, "").await
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: &str) -> Answer {
        let head =
            format!("POST {path}\nAuthorization: Bearer {token}\nContent-Type: application/json");
        self.ask(&head, body).await
    }

    pub(super) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }

    pub(super) async fn grpc(&self, token: &str) -> RankmillClient<WithToken> {
        with_token(self.channel().await, token)
    }
}

pub(super) type WithToken = InterceptedService<Channel, Bearer>;

#[derive(Clone)]
pub(super) struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> tonic::Result<tonic::Request<()>> {
        if !self.0.is_empty() {
            let value: MetadataValue<_> = format!("Bearer {}", self.0).parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(super) fn with_token(channel: Channel, token: &str) -> RankmillClient<WithToken> {
    RankmillClient::with_interceptor(channel, Bearer(token.to_owned()))
}

/// An answer of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The problem's name and detail; fails if the answer isn't a problem as RFC 9457 has it.
    pub(super) fn problem(&self) -> (String, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(!problem["title"].as_str().unwrap().is_empty());
        let kind = problem["type"].as_str().unwrap();
        let name = kind.strip_prefix("urn:rankmill:problem:").unwrap();
        (
            name.to_owned(),
            problem["detail"].as_str().unwrap().to_owned(),
        )
    }
}

pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    head: &str,
    body: &str,
) -> Answer {
    let mut lines = head.lines();
    let mut request = format!("{} HTTP/1.1\r\n", lines.next().unwrap());
    let headers: Vec<&str> = lines.collect();
    let has = |name: &str| {
        headers
            .iter()
            .any(|h| h.to_ascii_lowercase().starts_with(name))
    };
    if !has("host:") {
        request.push_str("Host: localhost\r\n");
    }
    if !has("content-length:") && !has("transfer-encoding:") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for header in &headers {
        request.push_str(&format!("{header}\r\n"));
    }
    request.push_str(&format!("Connection: close\r\n\r\n{body}"));
    // The server may refuse, and close, before it has read all.
    drop(stream.write_all(request.as_bytes()).await);
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    Answer {
        status: status.parse().unwrap(),
        headers,
        body: if chunked {
            unchunk(body)
        } else {
            body.to_owned()
        },
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].strip_prefix("\r\n").unwrap();
    }
    whole
}
