//! What every request passes before its face sees it: who asks, may they, not too often, not too
//! large. The order matters: what costs little comes first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::task::JoinSet;
use tonic::Status;

use super::auth::{Auth, Role, role_for_http};
use super::grpc;
use super::limits::{Key, Throttle};
use super::problem::{Kind, Problem};
use crate::metrics::Metrics;

/// The peer of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Which face a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Http,
    Grpc,
}

/// What both faces' requests pass.
pub(super) struct Gate {
    auth: Auth,
    throttle: Throttle,
    max_request_bytes: usize,
    /// A body must have arrived so long after its head.
    body_timeout: Duration,
    metrics: Metrics,
}

/// What a request needs to pass.
enum Needs {
    /// Nothing: it asks how this scheduler is.
    Nothing,
    Role(Role),
}

/// A request that may be answered.
struct Admitted {
    request: Request,
    /// Whether it may change something.
    changes: bool,
}

impl Gate {
    pub(super) fn new(
        auth: Auth,
        throttle: Throttle,
        max_request_bytes: usize,
        body_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            auth,
            throttle,
            max_request_bytes,
            body_timeout,
            metrics,
        }
    }

    /// To be called about once a second.
    pub(super) fn refresh(&self) {
        self.auth.refresh();
        self.throttle.forget();
    }

    async fn admit(&self, face: Face, request: Request) -> Result<Admitted, Problem> {
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().copied();
        let ip = peer.map_or([0, 0, 0, 0].into(), |peer| peer.0.ip());
        let needs = face.needs(&parts);
        let changes = matches!(needs, Needs::Role(role) if role > Role::Read);
        match needs {
            Needs::Nothing => self.throttle.admit(&Key::probe(ip))?,
            Needs::Role(role) => {
                let identity = self.auth.identify(&parts);
                let name = identity.as_ref().ok().and_then(|i| i.caller.name.clone());
                let key = name.map_or_else(|| Key::address(ip), Key::Token);
                self.throttle.admit(&key)?;
                let identity = identity?;
                identity.require(role)?;
                parts.extensions.insert(identity.caller);
            }
        }
        // Only the reflection service asks in several messages.
        if face == Face::Grpc && grpc::is_reflection(parts.uri.path()) {
            let request = Request::from_parts(parts, body);
            return Ok(Admitted { request, changes });
        }
        let body = self.whole_body(&parts, body).await?;
        let request = Request::from_parts(parts, body);
        Ok(Admitted { request, changes })
    }

    async fn whole_body(&self, parts: &Parts, body: Body) -> Result<Body, Problem> {
        let too_large = || Problem::too_large(self.max_request_bytes);
        let told: Option<usize> = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if told.is_some_and(|bytes| bytes > self.max_request_bytes) {
            return Err(too_large());
        }
        let read = to_bytes(body, self.max_request_bytes);
        match tokio::time::timeout(self.body_timeout, read).await {
            Ok(Ok(bytes)) => Ok(Body::from(bytes)),
            // The limit, or a connection that is gone: then nobody reads the answer.
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(Problem::new(
                Kind::Slow,
                "the request's body did not arrive",
            )),
        }
    }

    fn count(&self, face: Face, method: &Method, route: &str, answer: &Response, took: Duration) {
        match face {
            Face::Http => {
                let status = answer.status();
                let method = known_method(method);
                self.metrics
                    .request("http", method, route, status.as_str(), took);
            }
            Face::Grpc => {
                // Without a status in its head, the answer has a message at least.
                let status = Status::from_header_map(answer.headers());
                let code = status.map_or(tonic::Code::Ok, |status| status.code());
                let code = format!("{code:?}");
                self.metrics.request("grpc", "POST", route, &code, took);
            }
        }
    }
}

impl Face {
    fn needs(self, request: &Parts) -> Needs {
        let path = request.uri.path();
        match self {
            Self::Http if super::http::is_probe(path) => Needs::Nothing,
            Self::Http => Needs::Role(role_for_http(&request.method, path)),
            Self::Grpc if grpc::is_health(path) => Needs::Nothing,
            Self::Grpc => Needs::Role(grpc::role_for(path)),
        }
    }

    /// The pattern of a request's path: one of a bounded number.
    fn route(self, request: &Request) -> String {
        match self {
            Self::Http => {
                let matched = request.extensions().get::<MatchedPath>();
                matched.map_or("unmatched", MatchedPath::as_str).to_owned()
            }
            Self::Grpc => grpc::route(request.uri().path()).to_owned(),
        }
    }

    fn refuse(self, problem: Problem) -> Response {
        match self {
            Self::Http => problem.into_response(),
            Self::Grpc => problem.into_status().into_http(),
        }
    }
}

/// The layer around the routes of the HTTP face.
pub(super) async fn http(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut answer = pass(Face::Http, &gate, request, next).await;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// The layer around the routes of the gRPC face.
pub(super) async fn grpc(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    pass(Face::Grpc, &gate, request, next).await
}

async fn pass(face: Face, gate: &Gate, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = face.route(&request);
    let answer = match gate.admit(face, request).await {
        Ok(admitted) => match answer(admitted, next).await {
            Some(answer) => answer,
            None => face.refuse(Problem::new(Kind::Internal, "the request failed")),
        },
        Err(problem) => face.refuse(problem),
    };
    gate.count(face, &method, &route, &answer, begun.elapsed());
    answer
}

/// Answers on a task of its own, so that a panic is this request's alone: then there is no answer.
async fn answer(Admitted { request, changes }: Admitted, next: Next) -> Option<Response> {
    let answer = next.run(request);
    if changes {
        // A caller who hangs up must not stop a change half-way.
        return tokio::spawn(answer).await.ok();
    }
    // Nobody waits for the answer to a question any more when this is dropped, and the set with it.
    let mut asked = JoinSet::new();
    asked.spawn(answer);
    asked.join_next().await?.ok()
}

fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
