//! How the nodes of a cluster talk: bounded connections, and mutual TLS where it is asked for.
//!
//! Ballista opens plain `http://` connections and plain listeners only. Two things put TLS
//! around them:
//! - **Clients**: every connection that Ballista opens goes through an endpoint override, and
//!   [`endpoint_override`] gives one. It turns `http://` into `https://`, presents this node's
//!   certificate, and checks the peer's against the CA and the host name or address in the
//!   URL. Without TLS it still sets time-outs and keep-alives, which Ballista leaves out in
//!   places.
//! - **Servers**: a [`Front`] listens on the public address, requires a client certificate of
//!   the CA, and forwards the bytes to Ballista's listener on a loopback address
//!   ([`private_address`]) with the **same port number**, because Ballista advertises the port
//!   that it listens on.
//!
//! A node's certificate therefore serves as server's and as client's: if it restricts its use
//! (extended key usage), it must name both, and its subject alternative names must hold the
//! host or address under which the other nodes know this one. Who has an account on the same
//! machine can reach the loopback address without a certificate; TLS guards the network.

mod client;
mod files;
mod front;

pub use client::{EndpointOverride, endpoint_override};
pub use files::{NodeTls, Tls};
pub use front::{Front, private_address};

/// Opening a connection between nodes, its TLS handshake included, takes at most this long.
pub const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
