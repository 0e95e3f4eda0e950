//! Connections that a node opens.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Endpoint, Uri};

use super::{CONNECT_TIMEOUT, Tls};

/// What Ballista calls for each connection before it opens it; the type of its
/// `override_create_grpc_client_endpoint`.
pub type EndpointOverride =
    Arc<dyn Fn(Endpoint) -> Result<Endpoint, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// The head of an answer takes at most this long; the rows after it may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection without traffic is probed this often, …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// … and given up when the answer takes longer than this: a cut cable sends no reset.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Flow control of shuffle fetches; what Ballista sets where it sets something.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Bounds every connection in time, and makes it TLS if `tls` is given.
pub fn endpoint_override(tls: Option<Tls>) -> EndpointOverride {
    Arc::new(move |endpoint| {
        let endpoint = match &tls {
            Some(tls) => Endpoint::from(https(endpoint.uri())?).tls_config(tls.grpc_client())?,
            None => endpoint,
        };
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEP_ALIVE_INTERVAL))
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES))
    })
}

/// The same address as `https://`. An endpoint's address can't be changed, only replaced.
fn https(uri: &Uri) -> Result<Uri, Box<dyn Error + Send + Sync>> {
    let authority = uri
        .authority()
        .ok_or_else(|| format!("'{uri}' names no host"))?;
    Ok(Uri::builder()
        .scheme("https")
        .authority(authority.clone())
        .path_and_query("/")
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scheme_changes() {
        for (from, to) in [
            ("http://node-1:50050", "https://node-1:50050/"),
            ("http://[::1]:7", "https://[::1]:7/"),
            ("https://node-1:50050/", "https://node-1:50050/"),
        ] {
            assert_eq!(https(&from.parse().unwrap()).unwrap().to_string(), to);
        }
        assert!(https(&"/no-host".parse().unwrap()).is_err());
    }

    #[test]
    fn without_tls_connections_are_bounded_too() {
        let endpoint = endpoint_override(None)(Endpoint::from_static("http://node:1")).unwrap();
        assert_eq!(endpoint.get_connect_timeout(), Some(CONNECT_TIMEOUT));
        assert_eq!(endpoint.uri().to_string(), "http://node:1/");
    }
}
