//! How to connect to a scheduler: its certificate, our token.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rankmill_scheduler::proto::rankmill_client::RankmillClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::address::Address;
use crate::args::ClusterChoice;
use crate::outcome::Usage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end is gone is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Of one answer.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connected client.
pub(crate) type Client = RankmillClient<InterceptedService<Channel, Token>>;

/// What all connections of a command have in common.
pub(crate) struct Connector {
    token: Token,
    /// Roots to trust, if any address needs them.
    roots: Vec<Certificate>,
}

/// Adds the token to each request.
#[derive(Clone)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Connector {
    pub(crate) fn new(choice: &ClusterChoice, addresses: &[Address]) -> anyhow::Result<Self> {
        let token = read_token(choice.token_file.as_deref())?;
        let exposed = |address: &&Address| !address.is_https() && !address.is_loopback();
        if token.0.is_some()
            && let Some(address) = addresses.iter().find(exposed)
        {
            eprintln!("warning: the token is sent to {address} unencrypted");
        }
        let roots = match &choice.ca {
            Some(file) => vec![Certificate::from_pem(read(file, "--ca")?)],
            None if addresses.iter().any(Address::is_https) => system_roots()?,
            None => Vec::new(),
        };
        Ok(Self { token, roots })
    }

    /// Connects, or says why not.
    pub(crate) async fn connect(&self, address: &Address) -> Result<Client, String> {
        let endpoint = self.endpoint(address).map_err(|e| innermost(&e))?;
        let channel = endpoint.connect().await.map_err(|e| innermost(&e))?;
        let client = RankmillClient::with_interceptor(channel, self.token.clone());
        Ok(client.max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(address.as_str().to_owned())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match address.is_https() {
            true => {
                let roots = self.roots.iter().cloned();
                endpoint.tls_config(ClientTlsConfig::new().ca_certificates(roots))
            }
            false => Ok(endpoint),
        }
    }
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Token> {
    let (text, whence) = match file {
        Some(file) => (
            String::from_utf8_lossy(&read(file, "--token-file")?).into_owned(),
            format!("the token in '{}'", file.display()),
        ),
        None => match std::env::var("RANKMILL_TOKEN") {
            Ok(text) if !text.is_empty() => (text, "RANKMILL_TOKEN".to_owned()),
            _ => return Ok(Token(None)),
        },
    };
    // The token itself is never told.
    let wrong = || Usage(format!("{whence} is not one: expected visible ASCII text"));
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong().into());
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {text}").parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(Token(Some(value)))
}

fn read(file: &Path, option: &str) -> anyhow::Result<Vec<u8>> {
    let wrong = |e| Usage(format!("{option}: cannot read '{}': {e}", file.display()));
    Ok(std::fs::read(file).map_err(wrong)?)
}

/// The certificates that this system trusts.
fn system_roots() -> anyhow::Result<Vec<Certificate>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(Usage(format!(
            "this system trusts no certificates ({}); give the authority's with --ca FILE",
            why.join("; ")
        )))
        .context("https");
    }
    let roots = found
        .certs
        .iter()
        .map(|der| Certificate::from_pem(pem(der)));
    Ok(roots.collect())
}

/// A certificate in the form that the TLS configuration takes (RFC 7468).
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// What is at the bottom of an error: "transport error" alone helps nobody.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
