//! What can go wrong with a job.

use chrono::NaiveDate;
use datafusion::error::DataFusionError;

use crate::publication;
use crate::spec::SpecError;

/// Result of a job.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a job; says its own layer only, the cause is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spec is wrong in itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// SQL of the spec doesn't fit the data.
    #[error("{job}: {field}: `{sql}`: {reason}")]
    Sql {
        /// Name of the job.
        job: String,
        /// Field of the spec.
        field: String,
        /// As written.
        sql: String,
        /// What the planner says.
        reason: String,
    },
    /// A column that the data doesn't have, or that can't be used so.
    #[error("{job}: {field}: {reason}")]
    Field {
        /// Name of the job.
        job: String,
        /// Field of the spec.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// There is nothing to read for a date.
    #[error("{job}: {date} is a gap: there is no input at '{path}' for it")]
    Gap {
        /// Name of the job.
        job: String,
        /// The date.
        date: NaiveDate,
        /// Where input was looked for.
        path: String,
    },
    /// A key that should occur once in a dimension.
    #[error(
        "{job}: {field}: '{path}' has {column} {examples} more than once; \
         a dimension needs one row for each key"
    )]
    DuplicateKey {
        /// Name of the job.
        job: String,
        /// Field of the spec.
        field: String,
        /// The dimension.
        path: String,
        /// Its key.
        column: String,
        /// Some keys.
        examples: String,
    },
    /// The files changed under the computation.
    #[error("{job}: the input changed while it was read: {what}")]
    InputChanged {
        /// Name of the job.
        job: String,
        /// A file, and how it changed.
        what: String,
    },
    /// A result that must not be published.
    #[error("{job}: {date}: the result is not published: {reason}")]
    Verification {
        /// Name of the job.
        job: String,
        /// The date.
        date: NaiveDate,
        /// What was found.
        reason: String,
    },
    /// Reading or computing failed.
    #[error("{job}: computing failed")]
    Engine {
        /// Name of the job.
        job: String,
        /// Why.
        #[source]
        source: Box<rankmill_engine::Error>,
    },
    /// A result can't be written as Parquet or JSON.
    #[error("{job}: the result can't be encoded as {format}")]
    Encode {
        /// Name of the job.
        job: String,
        /// parquet or json.
        format: &'static str,
        /// Why.
        #[source]
        source: Box<DataFusionError>,
    },
    /// Publishing failed.
    #[error("{job}: publishing failed")]
    Publication {
        /// Name of the job.
        job: String,
        /// Why.
        #[source]
        source: Box<publication::Error>,
    },
}

impl Error {
    /// Whether the same run may succeed later without anyone mending anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::InputChanged { .. } => true,
            Self::Engine { source, .. } => source.retryable(),
            Self::Publication { source, .. } => source.retryable(),
            _ => false,
        }
    }

    /// Whether it is the caller's doing: a wrong spec, as opposed to a job that failed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Spec(_) | Self::Sql { .. } | Self::Field { .. })
    }
}

/// What a planner says, in one line and without its own prefixes.
pub(crate) fn reason_of(error: &DataFusionError) -> String {
    let root = error.find_root();
    let text = match root {
        DataFusionError::SQL(parser, _) => parser.to_string(),
        other => other.strip_backtrace(),
    };
    let mut text = text.as_str();
    // The advice to report a bug is meant for those who call the planner.
    if let Some((before, _)) = text.split_once(" This issue was likely caused by a bug") {
        text = before;
    }
    while let Some((prefix, rest)) = text.split_once(": ") {
        if !PLANNER_PREFIXES.contains(&prefix.to_ascii_lowercase().as_str()) {
            break;
        }
        text = rest;
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How the planner begins its messages, by the layer they come from.
const PLANNER_PREFIXES: [&str; 8] = [
    "arrow error",
    "error during planning",
    "execution error",
    "internal error",
    "parser error",
    "schema error",
    "sql error",
    "sql parser error",
];
