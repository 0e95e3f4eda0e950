//! TLS in front of a plain listener on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{CONNECT_TIMEOUT, Tls};
use crate::error::{Error, Result};

/// Connections forwarded at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Pause after the kernel refused to accept, for instance for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the plain listener behind a [`Front`] at `public` belongs: the same port on a loopback
/// address that doesn't collide with it.
///
/// Behind `127.0.0.1` that is `127.0.0.2`, behind all of IPv4 (`0.0.0.0`) it is `[::1]`; all of
/// IPv6 (`[::]`) leaves no address free and is refused.
pub fn private_address(public: SocketAddr) -> Result<SocketAddr> {
    let ip = match public.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            return Err(Error::Listen {
                address: public,
                source: std::io::Error::other(
                    "with TLS between nodes, bind to one address of this machine or to 0.0.0.0",
                ),
            });
        }
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Ok(SocketAddr::new(ip, public.port()))
}

/// A listener that speaks TLS to the network and plain TCP to this machine.
#[derive(Debug)]
pub struct Front {
    listener: TcpListener,
    address: SocketAddr,
    tls: Tls,
}

impl Front {
    /// Listens at `public`; with port 0 at any free port.
    pub async fn bind(tls: Tls, public: SocketAddr) -> Result<Self> {
        let failed = |source| Error::Listen {
            address: public,
            source,
        };
        let listener = TcpListener::bind(public).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls,
        })
    }

    /// The address it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections of peers that show a certificate of the CA to `private`, until
    /// `shutdown`; then all connections end.
    pub async fn run(self, private: SocketAddr, shutdown: impl Future<Output = ()>) {
        let acceptor = TlsAcceptor::from(self.tls.server());
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => return,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let acceptor = acceptor.clone();
                    connections.spawn(async move {
                        if let Err(e) = forward(acceptor, stream, private).await {
                            tracing::debug!(error = %e, "a connection between nodes ended");
                        }
                        drop(permit);
                    });
                }
                Err(e) => {
                    tracing::warn!(address = %self.address, error = %e, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn forward(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    private: SocketAddr,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut outside = timeout(CONNECT_TIMEOUT, acceptor.accept(stream)).await??;
    let mut inside = timeout(CONNECT_TIMEOUT, TcpStream::connect(private)).await??;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_address_never_collides() {
        for (public, private) in [
            ("10.0.0.5:7", "127.0.0.1:7"),
            ("127.0.0.1:7", "127.0.0.2:7"),
            ("127.0.0.9:7", "127.0.0.1:7"),
            ("0.0.0.0:7", "[::1]:7"),
            ("[::1]:7", "127.0.0.1:7"),
            ("[2001:db8::1]:7", "127.0.0.1:7"),
        ] {
            assert_eq!(
                private_address(public.parse().unwrap()).unwrap(),
                private.parse().unwrap()
            );
        }
        assert!(private_address("[::]:7".parse().unwrap()).is_err());
    }
}
