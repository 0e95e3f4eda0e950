//! What can go wrong in the scheduler.

mod secrets;

use std::fmt::Display;

use rankmill_jobs as jobs;

pub use secrets::scrub;

/// Result of the scheduler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the scheduler; says its own layer only, the cause is the source. The API maps
/// [`Error::kind`] to its codes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such thing.
    #[error("there is no {what} '{name}'")]
    NotFound {
        /// job, run.
        what: &'static str,
        /// Its name or id.
        name: String,
    },
    /// A request that can't be right.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which part of it.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A request that doesn't fit the state of things.
    #[error("{reason}")]
    Conflict {
        /// Why.
        reason: String,
    },
    /// A spec reads or writes where it may not.
    #[error("{field}: '{path}' is not under one of the allowed prefixes")]
    Forbidden {
        /// Field of the spec.
        field: String,
        /// The path as it resolves.
        path: String,
    },
    /// Another scheduler leads.
    #[error("this scheduler is a standby")]
    Standby {
        /// API address of the one that leads, where it is known.
        leader: Option<String>,
    },
    /// Another scheduler has taken over; this one must do nothing more.
    #[error("another scheduler has taken over (epoch {epoch})")]
    Fenced {
        /// Its epoch.
        epoch: u64,
    },
    /// Something was written, or may have been, by a scheduler that could not make sure of it.
    #[error(
        "it is not known whether this was done; look before asking again, or ask under the same \
         idempotency key"
    )]
    Unsure {
        /// What came in between.
        #[source]
        source: Box<Error>,
    },
    /// A job's own error.
    #[error(transparent)]
    Job(#[from] jobs::Error),
    /// The engine's error.
    #[error(transparent)]
    Engine(#[from] rankmill_engine::Error),
    /// The lake's records can't be read or written.
    #[error("cannot {operation} {path}")]
    Store {
        /// read, write, list.
        operation: &'static str,
        /// The object's path in the store.
        path: String,
        /// The store's last answer.
        #[source]
        source: object_store::Error,
    },
    /// A record of ours that can't be parsed. It is never overwritten.
    #[error("{path} is not what rankmill writes there; repair or remove it by hand")]
    Corrupt {
        /// The object's path in the store.
        path: String,
        /// Where parsing failed.
        #[source]
        source: serde_json::Error,
    },
    /// A port, certificate or token file can't be used.
    #[error("cannot use {what}: {reason}")]
    Setup {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
    /// Ballista's scheduler failed.
    #[error("the cluster failed: {reason}")]
    Cluster {
        /// What it said.
        reason: String,
    },
}

/// What the caller of the API can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask for something that exists.
    NotFound,
    /// Mend the request.
    Invalid,
    /// Look at the state first.
    Conflict,
    /// Ask an administrator.
    Forbidden,
    /// Ask the scheduler that leads, or again later: nothing was done.
    Unavailable,
    /// Look whether it was done; an idempotency key makes it safe to ask again.
    Unsure,
    /// Nothing.
    Internal,
}

impl Error {
    /// An invalid field.
    pub fn invalid(field: impl Into<String>, reason: impl Display) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// What was begun may have been done all the same.
    pub(crate) fn unsure(self) -> Self {
        Self::Unsure {
            source: Box::new(self),
        }
    }

    /// Of a write: one that was given up may have taken effect, one that was refused has not.
    pub(crate) fn perhaps_done(self) -> Self {
        match self.kind() {
            ErrorKind::Unavailable => self.unsure(),
            _ => self,
        }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Standby { .. } | Self::Fenced { .. } => ErrorKind::Unavailable,
            Self::Unsure { .. } => ErrorKind::Unsure,
            Self::Job(error) if error.is_usage() => ErrorKind::Invalid,
            Self::Job(error) if error.retryable() => ErrorKind::Unavailable,
            Self::Engine(error) if error.retryable() => ErrorKind::Unavailable,
            Self::Store { source, .. } if rankmill_engine::store_error_is_transient(source) => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// What a caller may be told of an error: our own layers, down to the first that isn't ours.
pub(crate) fn public_reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut layer = std::error::Error::source(error);
    while let Some(next) = layer {
        if !is_ours(next) {
            break;
        }
        text.push_str(": ");
        text.push_str(&next.to_string());
        layer = next.source();
    }
    scrub(&text)
}

fn is_ours(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<Error>()
        || error.is::<Box<Error>>()
        || error.is::<jobs::Error>()
        || error.is::<rankmill_engine::Error>()
        || error.is::<Box<rankmill_engine::Error>>()
        || error.is::<jobs::publication::Error>()
        || error.is::<Box<jobs::publication::Error>>()
}

impl Error {
    /// The error with its causes, one a line.
    pub fn describe(&self) -> String {
        describe(self)
    }
}

/// An error with its causes, one a line, without repeating what a cause says already. It may be
/// recorded, logged and shown: what a store says of keys and signatures is left out.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        let lines = cause_text.lines().map(str::trim);
        let line = lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let line = scrub(&line);
        if text.is_empty() {
            text = line;
        } else if !text.contains(&line) {
            text.push_str("\n  because: ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}
