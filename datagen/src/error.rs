//! What can go wrong while a lake is generated.

/// An error of this crate. `Display` tells this layer's part only; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the [`Config`](crate::Config) is out of its range.
    #[error("config: `{field}` is {value}, but must be {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value it has.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Something else's data, another config's or an unfinished lake's, is in the way.
    #[error(
        "`{path}` is there already and is not of this lake; \
         choose another place, or replace it (--replace)"
    )]
    LakeExists {
        /// What was found.
        path: String,
    },
    /// The lake is larger than what is free where it is to go.
    #[error(
        "what is to be made takes about {}, but {} are free there; \
         choose another place, fewer rows or days",
        size(*needed),
        size(*free)
    )]
    NoRoom {
        /// Bytes that are to be written, roughly.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no lake to look at.
    #[error(
        "there is no whole lake: `{path}` isn't there; a generation that was stopped goes on when it is repeated"
    )]
    NoLake {
        /// The truth file that was looked for.
        path: String,
    },
    /// A part could not be encoded as Parquet.
    #[error("cannot encode `{path}`")]
    Encode {
        /// The part.
        path: String,
        /// The encoder's error.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A file could not be read as Parquet.
    #[error("cannot decode `{path}`")]
    Decode {
        /// The file.
        path: String,
        /// The decoder's error.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The object store refused or failed.
    #[error("cannot {action} `{path}`")]
    Store {
        /// What was tried: `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// The object or folder.
        path: String,
        /// The store's error.
        #[source]
        source: object_store::Error,
    },
    /// An upload's task was cancelled or panicked.
    #[error("the upload of `{path}` ended early")]
    Upload {
        /// The part.
        path: String,
        /// How its task ended.
        #[source]
        source: tokio::task::JoinError,
    },
    /// The truth file is not JSON of this version's shape.
    #[error("`{path}` is not a truth file of this version")]
    Truth {
        /// The truth file.
        path: String,
        /// The decoder's error.
        #[source]
        source: serde_json::Error,
    },
    /// [`Progress::is_stopped`](crate::Progress::is_stopped) said so.
    #[error("stopped before the lake was whole")]
    Stopped,
    /// A part that was to be made elsewhere isn't there as it should be.
    #[error("`{path}` was not made, or not as it should be")]
    NotMade {
        /// The part.
        path: String,
    },
    /// The worker threads could not be started.
    #[error("cannot start {threads} worker threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The pool's error.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl Error {
    /// Whether the same call may well succeed later, with nothing changed by the user.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            // What remains after the store's own retries: time-outs, resets, 5xx.
            Self::Store { source, .. } => matches!(
                source,
                object_store::Error::Generic { .. } | object_store::Error::JoinError { .. }
            ),
            Self::Upload { source, .. } => source.is_cancelled(),
            // It is missing then, and will be made.
            Self::NotMade { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn store(
        action: &'static str,
        path: &object_store::path::Path,
        source: object_store::Error,
    ) -> Self {
        Self::Store {
            action,
            path: path.to_string(),
            source,
        }
    }
}
