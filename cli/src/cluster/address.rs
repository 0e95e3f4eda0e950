//! Addresses of schedulers' APIs.

use std::fmt;

use tonic::transport::Uri;

use crate::outcome::Usage;

/// `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
    host: String,
    is_https: bool,
}

impl Address {
    /// Parses what a user typed; without a scheme it is `http`.
    pub(crate) fn parse(text: &str) -> Result<Self, Usage> {
        let text = text.trim();
        let wrong = |why: &str| {
            Usage(format!(
                "'{text}' is not the address of a scheduler ({why}); expected one such as \
                 http://127.0.0.1:7400 or https://host:7400"
            ))
        };
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: Uri = whole.parse().map_err(|_| wrong("not a URL"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("neither http nor https")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let host = uri.host().unwrap_or_default();
        let authority = uri.authority().map_or("", |a| a.as_str());
        if host.is_empty() || authority.contains('@') {
            return Err(wrong("no plain host"));
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            text: match is_https {
                true => format!("https://{authority}"),
                false => format!("http://{authority}"),
            },
            is_https,
        })
    }

    /// The address that a scheduler names as the leader's. A token that was given to an `https`
    /// address is not sent to one that isn't.
    pub(crate) fn of_leader(&self, named: &str) -> Option<Self> {
        let whole = match named.contains("://") {
            true => named.to_owned(),
            false => {
                let scheme = if self.is_https { "https" } else { "http" };
                format!("{scheme}://{named}")
            }
        };
        let leader = Self::parse(&whole).ok()?;
        (leader.is_https || !self.is_https).then_some(leader)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Whether what is sent there doesn't leave this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let plain = Address::parse("localhost:7400").unwrap();
        assert_eq!(plain.as_str(), "http://localhost:7400");
        assert!(plain.is_loopback() && !plain.is_https());
        let far = Address::parse("https://rank.example:7400/").unwrap();
        assert_eq!(far.as_str(), "https://rank.example:7400");
        assert!(!far.is_loopback() && far.is_https());
        assert!(Address::parse("http://[::1]:7400").unwrap().is_loopback());
        for wrong in [
            "",
            "http://",
            "ftp://host:1",
            "http://host:7400/api",
            "http://me:secret@host",
            "two words",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("127.0.0.1:7400"), "{wrong}");
        }
    }

    #[test]
    fn a_leader_is_never_reached_with_less_protection() {
        let plain = Address::parse("http://a:1").unwrap();
        let safe = Address::parse("https://a:1").unwrap();
        let leader = |from: &Address, named| from.of_leader(named).map(|a| a.to_string());
        assert_eq!(leader(&plain, "b:2").as_deref(), Some("http://b:2"));
        assert_eq!(
            leader(&plain, "https://b:2").as_deref(),
            Some("https://b:2")
        );
        assert_eq!(leader(&safe, "b:2").as_deref(), Some("https://b:2"));
        assert_eq!(leader(&safe, "http://b:2"), None);
        assert_eq!(leader(&plain, "not an address"), None);
    }
}
