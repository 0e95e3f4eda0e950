//! Connections: HTTP/1.1 and HTTP/2 on one port, with and without TLS.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Request, header};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::Service;

use super::Api;
use super::gate::Peer;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests under way have so long to finish when the API closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the gate looks after itself.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How long a peer may take, so that one that says nothing holds nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From the connection to the end of its TLS handshake.
    pub(super) handshake: Duration,
    /// From then to the head of the first request.
    pub(super) first_request: Duration,
    /// From an answer of HTTP/1 to the head of the next request.
    pub(super) head: Duration,
    /// From a request's head to the end of its body.
    pub(super) body: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(30),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
        }
    }
}

/// Both faces, each behind the gate.
#[derive(Clone)]
pub(super) struct Faces {
    pub(super) http: Router,
    pub(super) grpc: Router,
}

/// See [`Api::serve`].
pub(super) async fn serve(api: Api, shutdown: impl Future<Output = ()>) {
    let Api {
        listener,
        address,
        tls,
        gate,
        faces,
        timeouts,
        closing,
    } = api;
    let housekeeping = tokio::spawn(async move {
        loop {
            sleep(HOUSEKEEPING).await;
            let gate = Arc::clone(&gate);
            // It reads files.
            drop(tokio::task::spawn_blocking(move || gate.refresh()).await);
        }
    });
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (listener.accept().await, seat)
        };
        let (accepted, seat) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        // Those that are over, so that the set doesn't grow.
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%address, %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (faces, tls, closing) = (faces.clone(), tls.clone(), closing.subscribe());
        connections.spawn(async move {
            let _seat = seat;
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
            }
            let conversation = Conversation {
                faces,
                peer,
                spoken: Arc::default(),
            };
            match tls {
                None => converse(stream, conversation, timeouts, closing).await,
                Some(tls) => {
                    let tls = tls.accept(stream);
                    match timeout(timeouts.handshake, tls).await {
                        Ok(Ok(stream)) => converse(stream, conversation, timeouts, closing).await,
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
                    }
                }
            }
        });
    }
    drop(listener);
    closing.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(%address, "requests were cut off");
        connections.shutdown().await;
    }
    housekeeping.abort();
}

/// Answers the requests of a connection until it ends.
async fn converse<S>(
    stream: S,
    conversation: Conversation,
    timeouts: Timeouts,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    let (peer, spoken) = (conversation.peer, Arc::clone(&conversation.spoken));
    let service = TowerToHyperService::new(conversation);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Until a whole request has come, no timer of HTTP's may run yet.
    let mut silent = pin!(sleep(timeouts.first_request));
    let mut waiting = true;
    let mut open = true;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "a connection ended badly");
                }
                return;
            }
            () = &mut silent, if waiting => {
                waiting = false;
                if !spoken.load(Ordering::Relaxed) {
                    tracing::debug!(%peer, "a connection without a request");
                    return;
                }
            }
            _ = closing.wait_for(|closing| *closing), if open => {
                open = false;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Sends each request of a connection to its face.
#[derive(Clone)]
struct Conversation {
    faces: Faces,
    peer: SocketAddr,
    spoken: Arc<AtomicBool>,
}

impl<B> Service<Request<B>> for Conversation
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routers always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.spoken.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(self.peer));
        let face = match is_grpc(request.headers()) {
            true => &mut self.faces.grpc,
            false => &mut self.faces.http,
        };
        face.call(request)
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
