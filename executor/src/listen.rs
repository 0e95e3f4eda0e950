//! The ports of an executor.

use std::net::{IpAddr, SocketAddr};

use rankmill_engine::transport::{Front, Tls, private_address};
use tokio::net::TcpListener;

use crate::error::{Error, Result};
use crate::options::Options;

/// What an executor listens at. Ballista opens the task port itself and advertises the number
/// that it opened, so this only says where.
pub(crate) struct Ports {
    /// Where shuffle files are fetched; open.
    pub(crate) flight: TcpListener,
    /// The number of that port.
    pub(crate) flight_port: u16,
    /// Where Ballista is to listen for tasks.
    pub(crate) tasks: SocketAddr,
    /// TLS in front of `tasks`, at the same port number.
    pub(crate) front: Option<Front>,
}

impl Ports {
    pub(crate) async fn open(options: &Options, tls: Option<&Tls>) -> Result<Self> {
        let (flight, flight_port) = listen(options.bind, options.port).await?;
        let (tasks, front) = match tls {
            Some(tls) => {
                let public = SocketAddr::new(options.bind, options.grpc_port);
                let front = Front::bind(tls.clone(), public)
                    .await
                    .map_err(Error::Setup)?;
                let private = private_address(front.address()).map_err(Error::Setup)?;
                (private, Some(front))
            }
            None if options.grpc_port == 0 => {
                // Freed at once for Ballista; if another process is quicker, joining is
                // tried again with another port.
                let (_, port) = listen(options.bind, 0).await?;
                (SocketAddr::new(options.bind, port), None)
            }
            None => (SocketAddr::new(options.bind, options.grpc_port), None),
        };
        Ok(Self {
            flight,
            flight_port,
            tasks,
            front,
        })
    }
}

async fn listen(bind: IpAddr, port: u16) -> Result<(TcpListener, u16)> {
    let address = SocketAddr::new(bind, port);
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}

/// The host that others are told to reach this node by; an IPv6 address in brackets.
pub(crate) fn advertised(options: &Options, reached_from: IpAddr) -> String {
    let ip = if options.bind.is_unspecified() {
        reached_from
    } else {
        options.bind
    };
    options.advertise.clone().unwrap_or_else(|| bracketed(ip))
}

/// An address as it stands in a URL.
pub(crate) fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
