//! The API: gRPC and HTTP/JSON on one port, two thin faces over [`Service`].
//!
//! A request passes the gate (who asks, may they, not too often, not too large), then its face
//! translates, and the service answers. Which face is told by the content type.

mod auth;
mod gate;
mod grpc;
mod http;
mod limits;
mod problem;
mod serve;
mod tls;
mod translate;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::auth::{Auth, TokenFile};
use self::gate::Gate;
use self::limits::{Throttle, Watches};
use self::serve::Timeouts;
use crate::error::{Error, Result};
use crate::service::Service;

/// Where and how the API is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address and port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// File of tokens, a line for each: `name role token [prefix …]`. The role is read, submit or
    /// admin; the prefixes bound what the specs of its holder may read and write. Read again when
    /// it changes. Without it everything is allowed, and `bind` must be a loopback address.
    pub tokens: Option<PathBuf>,
    /// Served with TLS if given.
    pub tls: Option<TlsFiles>,
    /// Requests with larger bodies are refused.
    pub max_request_bytes: usize,
    /// Requests beyond this rate are refused, counted for each token, or address where there is
    /// none; twice as many may come at once. 0: no limit.
    pub requests_per_second: u32,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, then those that signed it.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// The API, listening.
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    gate: Arc<Gate>,
    faces: serve::Faces,
    timeouts: Timeouts,
    /// Set when watches are to end.
    closing: watch::Sender<bool>,
}

impl Api {
    /// Reads tokens and certificate, and listens; nothing is answered before [`Api::serve`].
    ///
    /// # Errors
    /// If the address, the tokens or the certificate can't be used, or if the address can be
    /// reached from elsewhere and there are no tokens.
    pub async fn bind(options: &Options, service: Service) -> Result<Self> {
        Self::with_timeouts(options, service, Timeouts::default()).await
    }

    async fn with_timeouts(
        options: &Options,
        service: Service,
        timeouts: Timeouts,
    ) -> Result<Self> {
        let tokens = match &options.tokens {
            Some(path) => Some(TokenFile::open(path)?),
            None if options.bind.ip().is_loopback() => None,
            None => {
                return Err(Error::Setup {
                    what: format!("the API's address {}", options.bind),
                    reason: "it can be reached from elsewhere, and there are no tokens; \
                             give a file of tokens, or bind to 127.0.0.1"
                        .to_owned(),
                });
            }
        };
        if tokens.is_some() && options.tls.is_none() && !options.bind.ip().is_loopback() {
            tracing::warn!(
                address = %options.bind,
                "tokens travel unencrypted: give the API a certificate, or put TLS before it"
            );
        }
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let failed = |error: std::io::Error| Error::Setup {
            what: format!("the API's address {}", options.bind),
            reason: error.to_string(),
        };
        let listener = TcpListener::bind(options.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let gate = Arc::new(Gate::new(
            Auth::new(tokens),
            Throttle::new(options.requests_per_second),
            options.max_request_bytes,
            timeouts.body,
            service.metrics().clone(),
        ));
        let (closing, until) = watch::channel(false);
        let watches = Watches::new();
        let faces = serve::Faces {
            http: http::router(service.clone(), watches.clone(), until.clone(), &gate),
            grpc: grpc::router(service, watches, until, &gate, options.max_request_bytes)?,
        };
        Ok(Self {
            listener,
            address,
            tls,
            gate,
            faces,
            timeouts,
            closing,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, then ends watches and lets the requests under way finish, for a
    /// few seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        serve::serve(self, shutdown).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
