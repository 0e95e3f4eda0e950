//! What can go wrong while computing.

use std::net::SocketAddr;
use std::path::PathBuf;

use datafusion::error::DataFusionError;

/// Result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine; says its own layer only, the cause is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path that is neither a local path nor an s3:// address.
    #[error("'{path}' is not a place to read or write: {reason}")]
    Location {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object store can't be set up.
    #[error("cannot use the object store of '{url}'")]
    StoreSetup {
        /// Address of the store.
        url: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// Listing the files of a source failed.
    #[error("cannot list '{path}'")]
    List {
        /// Folder or pattern.
        path: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// A file is there but can't be read as what it should be.
    #[error("cannot read '{path}': it is not a whole {format} file")]
    BrokenFile {
        /// The file.
        path: String,
        /// parquet, csv or json.
        format: &'static str,
        /// Why.
        #[source]
        source: Box<DataFusionError>,
    },
    /// Two files of a source have a column of different types.
    #[error(
        "the files of a source disagree: column '{column}' is {first_type} in '{first}' \
         and {second_type} in '{second}'"
    )]
    SchemaConflict {
        /// The column.
        column: String,
        /// A file.
        first: String,
        /// Its type there.
        first_type: String,
        /// Another file.
        second: String,
        /// Its type there.
        second_type: String,
    },
    /// A folder named `key=value` whose value isn't a date.
    #[error("'{path}' has no date: expected a folder such as '{key}=2026-01-31'")]
    PartitionDate {
        /// The file.
        path: String,
        /// Name of the partition.
        key: String,
    },
    /// A source that has no file at all.
    #[error("there are no files at '{path}'")]
    NoFiles {
        /// Folder or pattern.
        path: String,
    },
    /// A column that a source doesn't have, or not of a type that is needed.
    #[error("'{path}' {reason}")]
    Column {
        /// Folder or pattern.
        path: String,
        /// What is wrong with the column.
        reason: String,
    },
    /// Planning or executing failed.
    #[error("the computation failed")]
    Compute(#[source] Box<DataFusionError>),
    /// A certificate or key for TLS between nodes.
    #[error("cannot use '{}' for TLS between nodes: {reason}", path.display())]
    NodeTls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address of this machine that can't be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cluster could not compute a plan.
    #[error("the cluster failed: {reason}")]
    Cluster {
        /// What it said.
        reason: String,
        /// What is behind it.
        cause: ClusterFault,
    },
}

/// What is behind a failure of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterFault {
    /// Executors were lost, or there are none: not the plan's fault.
    Executors,
    /// A store, a disk or a connection failed; it may not do so the next time.
    Transient,
    /// The plan can't be computed.
    Plan,
}

impl Error {
    /// Whether the same call may succeed later without anyone mending anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::List { source, .. } => store_error_is_transient(source),
            Self::Compute(source) | Self::BrokenFile { source, .. } => match source.find_root() {
                DataFusionError::ObjectStore(e) => store_error_is_transient(e),
                DataFusionError::IoError(_) => true,
                _ => false,
            },
            Self::Cluster { cause, .. } => *cause != ClusterFault::Plan,
            _ => false,
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(source: DataFusionError) -> Self {
        Self::Compute(Box::new(source))
    }
}

/// Whether a store may answer otherwise the next time: a time-out or a server's error does, a
/// missing object or a refused credential does not.
pub fn store_error_is_transient(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. })
}
