//! What can go wrong when publishing or reading a ranking.

use chrono::NaiveDate;
use object_store::Error as StoreError;

use super::RunId;

/// Why a ranking could not be published or read. The cause, where there is one, is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed, after retries where they could help. Nothing was committed.
    #[error("cannot {operation} {path}")]
    Store {
        /// What was tried: read, write, list, …
        operation: &'static str,
        /// The object's path in the store.
        path: String,
        /// The store's last answer.
        #[source]
        source: StoreError,
    },
    /// The store failed while committing, and it could not be found out whether the commit took
    /// effect. Run again under a *new* run id: if it did take effect, that run will find its work
    /// already current.
    #[error(
        "unknown outcome: run {run_id} may or may not have committed {path} (date {date}, {attempts} attempts)"
    )]
    OutcomeUnknown {
        /// The date of the ranking.
        date: NaiveDate,
        /// The run in doubt.
        run_id: RunId,
        /// Path of the commit point.
        path: String,
        /// Conditional writes that were sent.
        attempts: u32,
        /// Why it could not be found out.
        #[source]
        source: Box<Error>,
    },
    /// An object of ours cannot be parsed. It is never overwritten: repair or remove it by hand.
    #[error("{path} is not what rankmill writes there; repair or remove it by hand")]
    Corrupt {
        /// The object's path in the store.
        path: String,
        /// Where parsing failed.
        #[source]
        source: serde_json::Error,
    },
    /// A commit written by a newer rankmill.
    #[error("{path} has version {found}; this rankmill reads version {supported}: upgrade it")]
    UnsupportedVersion {
        /// The object's path in the store.
        path: String,
        /// The version it carries.
        found: u32,
        /// The version this build reads and writes.
        supported: u32,
    },
    /// An object contradicts its place, such as a commit of another date.
    #[error("{path} says {field} {found}, but {expected} belongs there")]
    Inconsistent {
        /// The object's path in the store.
        path: String,
        /// The field that contradicts.
        field: &'static str,
        /// What belongs there.
        expected: String,
        /// What it says.
        found: String,
    },
    /// A commit refers to an object that is not there.
    #[error("{path} is missing, though a commit refers to it")]
    Missing {
        /// The object's path in the store.
        path: String,
    },
    /// A published file differs from what its commit says.
    #[error(
        "{path} is damaged: {found_bytes} bytes, sha256 {found_sha256}; the commit says {expected_bytes} bytes, sha256 {expected_sha256}"
    )]
    Damaged {
        /// The object's path in the store.
        path: String,
        /// Size by the commit.
        expected_bytes: u64,
        /// Size found.
        found_bytes: u64,
        /// Digest by the commit, in hex.
        expected_sha256: Box<str>,
        /// Digest found, in hex.
        found_sha256: Box<str>,
    },
    /// A file name or path that cannot be one in a store.
    #[error("'{name}' cannot name a published file")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A draft names a file twice.
    #[error("the draft holds '{name}' twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A run id that was used before. Each attempt needs its own.
    #[error("run id {run_id} was used before: {path} exists; take a new one")]
    RunIdReused {
        /// The run id.
        run_id: RunId,
        /// What shows that it was used.
        path: String,
    },
    /// Nothing is published for the date.
    #[error("nothing is published for date {date}: {path} does not exist")]
    NotPublished {
        /// The date.
        date: NaiveDate,
        /// Path of the commit point.
        path: String,
    },
    /// A generation that the date's history does not hold.
    #[error("date {date} has no generation {generation}; its newest is {newest}")]
    NoSuchGeneration {
        /// The date.
        date: NaiveDate,
        /// The generation asked for.
        generation: u64,
        /// The newest there is.
        newest: u64,
    },
    /// The store accepts a conditional write whose condition does not hold, so that two runs could
    /// overwrite each other unseen.
    #[error("{store} ignores conditional writes ({check}); rankmill cannot publish there safely")]
    ConditionalPutIgnored {
        /// The store.
        store: String,
        /// What was tried.
        check: &'static str,
    },
    /// The store gives no ETag to write against.
    #[error("the store gave no ETag for {path}; rankmill cannot publish there safely")]
    NoETag {
        /// The object's path in the store.
        path: String,
    },
}

impl Error {
    /// Whether the same job may succeed if it runs again, under a new run id.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store { source, .. } => is_transient(source),
            Self::OutcomeUnknown { .. } => true,
            _ => false,
        }
    }
}

/// Whether a store's error may go away by itself. Conflicts count: their meaning is found out by
/// reading again.
pub(super) fn is_transient(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::NotSupported { .. }
            | StoreError::InvalidPath { .. }
            | StoreError::UnknownConfigurationKey { .. }
    )
}
