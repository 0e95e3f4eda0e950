//! Both faces over TLS.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use super::support::{READ, Server, ask, options, with_token};
use crate::api::{Api, TlsFiles};
use crate::proto;
use crate::service::Service;

/// A CA, and the files of a certificate for `localhost` that it has signed.
pub(super) fn certificate(folder: &Path) -> (CertifiedIssuer<'static, KeyPair>, TlsFiles) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let files = TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    std::fs::write(&files.cert, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    (ca, files)
}

async fn connect(
    server: &Server,
    ca: Option<&CertificateDer<'static>>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca.cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn both_faces_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, files) = certificate(folder.path());
    let server = Server::start(|options| options.tls = Some(files)).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let stream = connect(&server, Some(ca.der()), protocols).await.unwrap();
        let head = format!("GET /api/v1/openapi.json\nAuthorization: Bearer {READ}");
        assert_eq!(ask(stream, &head, "").await.status, 200);
    }
    let stream = connect(&server, Some(ca.der()), &["h2", "http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.pem()))
        .domain_name("localhost");
    let channel = Channel::from_shared(format!("https://{}", server.address))
        .unwrap()
        .tls_config(tls)
        .unwrap();
    let mut client = with_token(channel.connect().await.unwrap(), READ);
    let status = client
        .list_jobs(proto::ListJobsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    drop((stream, client));

    // Who doesn't know the CA doesn't trust it, and nothing is answered in the clear.
    assert!(connect(&server, None, &[]).await.is_err());
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_no_certificate_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, files) = certificate(folder.path());
    let (_, others) = certificate(tempfile::tempdir().unwrap().keep().as_path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (cert, key, expected) in [
        (
            &folder.path().join("nowhere"),
            &files.key,
            "cannot use the certificate '",
        ),
        (&empty, &files.key, "it holds no certificate in PEM"),
        (&files.cert, &empty, "cannot use the private key '"),
        (&files.key, &files.key, "it holds no certificate in PEM"),
        (&files.cert, &others.key, "cannot use the certificate '"),
    ] {
        let mut options = options(folder.path());
        options.tokens = None;
        options.tls = Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
        });
        let error = Api::bind(&options, Service::stub()).await.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
