//! Mutual TLS between nodes.

use std::path::Path;

use rankmill_engine::transport::{NodeTls, endpoint_override};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::support::{QUERY, cluster, free_port, options, rows, session, spawn, until_executors};

/// An authority, and a certificate of it for `127.0.0.1`, in files of this name.
fn certificates(folder: &Path, name: &str) -> NodeTls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let node_key = KeyPair::generate().unwrap();
    let node = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let node = node.signed_by(&node_key, &issuer).unwrap();
    let write = |kind: &str, pem: String| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    NodeTls {
        ca: write("ca", ca.pem()),
        cert: write("cert", node.pem()),
        key: write("key", node_key.serialize_pem()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_compute_and_nobody_else_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path(), "ours");
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, Some(tls.clone())).await;
    let mut ports = vec![cluster.address().port()];
    for _ in 0..2 {
        let mut options = options(cluster.address().to_string(), folder.path());
        options.tls = Some(tls.clone());
        (options.port, options.grpc_port) = (free_port(), free_port());
        ports.extend([options.port, options.grpc_port]);
        spawn(options);
    }
    until_executors(&cluster, 2).await;
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);

    let ours = endpoint_override(Some(tls.load().unwrap()));
    let theirs = certificates(folder.path(), "theirs").load().unwrap();
    let theirs = endpoint_override(Some(theirs));
    let ca = Certificate::from_pem(std::fs::read(&tls.ca).unwrap());
    for port in ports {
        let plain = Endpoint::new(format!("http://127.0.0.1:{port}")).unwrap();
        assert!(answers(ours(plain.clone()).unwrap()).await, "{port}");
        assert!(!answers(plain.clone()).await, "{port}: without TLS");
        let of_others = theirs(plain).unwrap();
        assert!(!answers(of_others).await, "{port}: another authority");
        let nameless = Endpoint::new(format!("https://127.0.0.1:{port}")).unwrap();
        let nameless = nameless.tls_config(ClientTlsConfig::new().ca_certificate(ca.clone()));
        assert!(!answers(nameless.unwrap()).await, "{port}: no certificate");
        assert!(!speaks_http(port).await, "{port}: plain HTTP");
    }
}

/// Whether a gRPC server answers there, if only that it doesn't know the method.
async fn answers(endpoint: Endpoint) -> bool {
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let mut client = tonic::client::Grpc::new(channel);
    if client.ready().await.is_err() {
        return false;
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = "/nobody.Knows/This".parse().unwrap();
    let answer = client.unary(tonic::Request::new(()), path, codec).await;
    // The scheduler's port serves more than gRPC and says it in HTTP.
    matches!(answer, Err(status) if status.code() == tonic::Code::Unimplemented
        || status.message().contains("404 Not Found"))
}

async fn speaks_http(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let question = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(question).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1")
}

#[tokio::test]
async fn a_wrong_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = certificates(folder.path(), "good");
    let other = certificates(folder.path(), "other");
    let refused = |change: &dyn Fn(&mut NodeTls)| {
        let mut tls = good.clone();
        change(&mut tls);
        tls.load().unwrap_err().to_string()
    };
    let missing = folder.path().join("missing.pem");
    assert!(refused(&|tls| tls.ca = missing.clone()).contains("missing.pem"));
    let text = refused(&|tls| tls.cert = good.key.clone());
    assert!(
        text.contains("good-key.pem") && text.contains("no certificate"),
        "{text}"
    );
    let text = refused(&|tls| tls.key = good.cert.clone());
    assert!(
        text.contains("good-cert.pem") && text.contains("no private key"),
        "{text}"
    );
    let text = refused(&|tls| tls.key = other.key.clone());
    assert!(
        text.contains("good-cert.pem") && text.contains("other-key.pem"),
        "{text}"
    );
}
