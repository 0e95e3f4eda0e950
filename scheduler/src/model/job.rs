//! Jobs that were applied.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RunSummary;

/// A job as it was applied: `{lake}/_rankmill/jobs/{name}.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name, as in the spec.
    pub name: String,
    /// The spec as applied (YAML).
    pub spec: String,
    /// Values of its placeholders besides `{lake}` and `{date}`.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Neither started by its schedule nor repaired.
    #[serde(default)]
    pub paused: bool,
    /// Counts how often it was applied, from 1.
    pub revision: u64,
    /// When it was applied last.
    pub applied_at: DateTime<Utc>,
    /// Firings of the schedule up to here have been queued, or are not to be.
    pub fired_until: DateTime<Utc>,
}

/// A job's record with who wrote it. Only the leading scheduler writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    #[serde(flatten)]
    pub(crate) job: Job,
    /// Epoch of the scheduler that wrote this; older records have none.
    #[serde(default)]
    pub(crate) epoch: u64,
}

/// A job as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct JobView {
    /// The record.
    #[serde(flatten)]
    pub job: Job,
    /// When the schedule starts it next.
    pub next_at: Option<DateTime<Utc>>,
    /// Its newest run.
    pub last_run: Option<RunSummary>,
}
