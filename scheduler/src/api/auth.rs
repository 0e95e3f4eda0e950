//! Who asks, and whether they may.

mod tokens;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

pub(super) use self::tokens::TokenFile;
use super::problem::{Kind, Problem, Unauthenticated};
use crate::service::Caller;

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Look at everything.
    Read,
    /// Queue, cancel and repeat runs.
    Submit,
    /// Apply, pause, resume and delete jobs.
    Admin,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Submit, Self::Admin];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = |role: &Self| role.to_string() == text;
        Self::ALL.into_iter().find(named).ok_or(())
    }
}

/// The role that a request of the HTTP face needs. What isn't known to need less needs most.
pub(super) fn role_for_http(method: &Method, path: &str) -> Role {
    let below = |folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if method == Method::GET || method == Method::HEAD {
        Role::Read
    } else if method == Method::POST && (below("/api/v1/runs") || below("/api/v1/backfills")) {
        Role::Submit
    } else {
        Role::Admin
    }
}

/// Somebody who may ask something.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) role: Role,
    pub(super) caller: Caller,
}

impl Identity {
    pub(super) fn require(&self, needed: Role) -> Result<(), Problem> {
        if self.role >= needed {
            return Ok(());
        }
        Err(Problem::role_needed(needed, self.role))
    }
}

/// Tells who asks.
#[derive(Debug)]
pub(super) struct Auth {
    /// Without it everybody on this machine may do everything.
    tokens: Option<TokenFile>,
}

impl Auth {
    pub(super) fn new(tokens: Option<TokenFile>) -> Self {
        Self { tokens }
    }

    /// Who a request comes from.
    pub(super) fn identify(&self, request: &Parts) -> Result<Identity, Problem> {
        let Some(tokens) = &self.tokens else {
            refuse_web_pages(request)?;
            return Ok(Identity {
                role: Role::Admin,
                caller: Caller::default(),
            });
        };
        let token = bearer(&request.headers)?;
        tokens
            .find(token)
            .ok_or_else(|| Problem::unauthenticated(Unauthenticated::UnknownToken))
    }

    /// Reads the tokens again if their file has changed.
    pub(super) fn refresh(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.refresh();
        }
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let none = || Problem::unauthenticated(Unauthenticated::NoToken);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(none());
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().split_once(' '))
        .ok_or_else(none)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(none());
    }
    Ok(token.trim())
}

/// An API without tokens trusts this machine's users, not the pages that their browsers show: a
/// page of another site may send requests here, and may even have its own name lead here.
fn refuse_web_pages(request: &Parts) -> Result<(), Problem> {
    let header = |name| request.headers.get(name).and_then(|v| v.to_str().ok());
    let authority = request
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| header(header::HOST))
        .unwrap_or_default();
    if !is_loopback(host_of(authority)) {
        return Err(Problem::new(
            Kind::Forbidden,
            "without tokens this API answers to localhost and 127.0.0.1 only, by these names",
        ));
    }
    let same_site = header(header::ORIGIN).is_none_or(|origin| {
        let (_, host) = origin.split_once("://").unwrap_or_default();
        host == authority
    });
    if request.headers.contains_key(header::ORIGIN) && !same_site {
        return Err(Problem::new(
            Kind::Forbidden,
            "without tokens this API answers no pages of other sites",
        ));
    }
    Ok(())
}

/// The host in `host:port`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn roles_of_requests() {
        for (method, path, role) in [
            (Method::GET, "/api/v1/jobs", Role::Read),
            (Method::HEAD, "/api/v1/runs", Role::Read),
            (Method::POST, "/api/v1/runs", Role::Submit),
            (Method::POST, "/api/v1/runs/x/cancel", Role::Submit),
            (Method::POST, "/api/v1/backfills", Role::Submit),
            (Method::POST, "/api/v1/runsx", Role::Admin),
            (Method::POST, "/api/v1/jobs", Role::Admin),
            (Method::DELETE, "/api/v1/jobs/x", Role::Admin),
            (Method::DELETE, "/api/v1/runs/x", Role::Admin),
            (Method::POST, "/api/v1/new", Role::Admin),
            (Method::PUT, "/", Role::Admin),
        ] {
            assert_eq!(role_for_http(&method, path), role, "{method} {path}");
        }
    }

    #[test]
    fn bearer_tokens() {
        let token = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).ok().map(str::to_owned)
        };
        assert_eq!(token(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["bearer  abc "]).as_deref(), Some("abc"));
        for values in [
            &[][..],
            &["abc"],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(token(values), None, "{values:?}");
        }
    }

    #[test]
    fn without_tokens_only_this_machine_may_ask() {
        let asks = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            Auth::new(None).identify(&parts).is_ok()
        };
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:7400",
            "[::1]:7400",
            "127.8.8.8",
        ] {
            assert!(asks("/", &[("host", host)]), "{host}");
            let origin = format!("http://{host}");
            assert!(asks("/", &[("host", host), ("origin", &origin)]), "{host}");
            assert!(asks(&format!("http://{host}/x"), &[]), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.nip.io:80",
            "10.0.0.1",
        ] {
            assert!(!asks("/", &[("host", host)]), "{host}");
        }
        for origin in [
            "null",
            "http://example.org",
            "http://localhost:81",
            "http://127.0.0.1",
        ] {
            let headers = [("host", "localhost:80"), ("origin", origin)];
            assert!(!asks("/", &headers), "{origin}");
        }
    }
}
