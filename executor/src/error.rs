//! What keeps an executor from running.

use std::net::SocketAddr;
use std::path::PathBuf;

use ballista_core::error::BallistaError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the executor; a lost scheduler is none, see [`Stopped`](crate::Stopped).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that makes no sense.
    #[error("{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The working folder can't be used.
    #[error("cannot work in '{}'", path.display())]
    WorkDir {
        /// The folder, or what is in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A port can't be opened.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates, stores or the runtime.
    #[error("the executor cannot be set up")]
    Setup(#[source] rankmill_engine::Error),
    /// The signals that stop an executor can't be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The scheduler could not be joined; another attempt may succeed.
    #[error("cannot join the scheduler at {scheduler}: {reason}")]
    Join {
        /// Its address.
        scheduler: String,
        /// What Ballista says.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anyone mending anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Join { .. })
    }

    pub(crate) fn join(scheduler: &str, reason: &BallistaError) -> Self {
        Self::Join {
            scheduler: scheduler.to_owned(),
            reason: reason.to_string(),
        }
    }
}
