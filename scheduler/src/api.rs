//! Placeholder: the API's faces.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::error::{Error, Result};
use crate::service::Service;

/// Where and how the API is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address and port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// File of tokens.
    pub tokens: Option<PathBuf>,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// Larger requests are refused.
    pub max_request_bytes: usize,
    /// More are refused.
    pub requests_per_second: u32,
}

/// Certificate and key, as PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate's chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The API, listening.
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
    _service: Service,
}

impl Api {
    /// Listens.
    pub async fn bind(options: &Options, service: Service) -> Result<Self> {
        let failed = |e: std::io::Error| Error::Setup {
            what: format!("the API's address {}", options.bind),
            reason: e.to_string(),
        };
        let listener = TcpListener::bind(options.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            _service: service,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        shutdown.await;
        drop(self.listener);
        Ok(())
    }
}
