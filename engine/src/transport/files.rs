//! Certificates and keys, from the files that name them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use super::CONNECT_TIMEOUT;
use crate::error::{Error, Result};

/// Where the certificates for mutual TLS between nodes lie; all files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTls {
    /// Certificates of the authority that signed every node's certificate.
    pub ca: PathBuf,
    /// This node's certificate, with intermediate ones after it if there are any.
    pub cert: PathBuf,
    /// The private key of `cert`.
    pub key: PathBuf,
}

impl NodeTls {
    /// Reads and checks the files. The error names the file and what is wrong with it.
    pub fn load(&self) -> Result<Tls> {
        let (ca_pem, cert_pem, key_pem) = (read(&self.ca)?, read(&self.cert)?, read(&self.key)?);
        let chain = certificates(&self.cert, &cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|e| wrong(&self.key, format!("it holds no private key in PEM ({e})")))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, &ca_pem)? {
            roots
                .add(certificate)
                .map_err(|e| wrong(&self.ca, e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mismatch = |e: rustls::Error| {
            let reason = format!("it does not go with the key '{}' ({e})", self.key.display());
            wrong(&self.cert, reason)
        };

        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&self.cert, e.to_string()))?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| wrong(&self.ca, e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&self.cert, e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        // gRPC wants HTTP/2 agreed on; health checks speak HTTP/1.1.
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let (ca, identity) = (
            Certificate::from_pem(&ca_pem),
            Identity::from_pem(&cert_pem, &key_pem),
        );
        Ok(Tls {
            grpc_client: ClientTlsConfig::new()
                .ca_certificate(ca.clone())
                .identity(identity.clone())
                .timeout(CONNECT_TIMEOUT),
            grpc_server: ServerTlsConfig::new()
                .client_ca_root(ca)
                .identity(identity)
                .timeout(CONNECT_TIMEOUT),
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// Mutual TLS between nodes, ready for use; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    grpc_client: ClientTlsConfig,
    grpc_server: ServerTlsConfig,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS for a tonic client; the peer's name is taken from its URL.
    pub fn grpc_client(&self) -> ClientTlsConfig {
        self.grpc_client.clone()
    }

    /// TLS for a tonic server of our own, which then needs no [`Front`](super::Front).
    pub fn grpc_server(&self) -> ServerTlsConfig {
        self.grpc_server.clone()
    }

    /// Speaks TLS on an open connection to `host`, a name or an address without its port.
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.client))
            .connect(name, stream)
            .await
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| wrong(path, format!("it cannot be read ({e})")))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| wrong(path, format!("it is not PEM ({e})")))?;
    if found.is_empty() {
        return Err(wrong(path, "it holds no certificate in PEM".into()));
    }
    Ok(found)
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::NodeTls {
        path: path.to_owned(),
        reason,
    }
}
