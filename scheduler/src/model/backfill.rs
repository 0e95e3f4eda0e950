//! Backfills: runs for many dates of a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{DateStatus, RunId};

/// Identifies a backfill; its runs carry it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct BackfillId(Uuid);

impl BackfillId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "every call gives another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for BackfillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<BackfillId> for String {
    fn from(id: BackfillId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for BackfillId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for BackfillId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which dates of a range a backfill takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackfillOnly {
    /// Missing and stale ones.
    #[default]
    Needed,
    /// Those with input and nothing published.
    Missing,
    /// Those published from other input, or by another spec or engine.
    Stale,
    /// Those whose newest run has failed.
    Failed,
    /// All that have input; current ones are published again.
    All,
}

/// Which dates go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackfillOrder {
    /// The latest date first.
    #[default]
    Newest,
    /// The earliest date first.
    Oldest,
}

/// A backfill to queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// Name of an applied job.
    pub job: String,
    /// First date: `2026-01-31`, `today` or `yesterday` in the job's zone.
    pub from: String,
    /// Last date.
    pub to: String,
    /// Which dates.
    #[serde(default)]
    pub only: BackfillOnly,
    /// Which first. A job that compares ranks with the day before always goes from the earliest
    /// date to the latest, one by one.
    #[serde(default)]
    pub order: BackfillOrder,
    /// Runs of this backfill at once.
    #[serde(default = "one")]
    pub max_parallel: u32,
    /// Only says what would be queued.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a backfill queued, or would queue.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BackfillPlan {
    /// None for a dry run, and where nothing had to be queued.
    pub id: Option<BackfillId>,
    /// Each date waits for the one before it, whatever order and number at once were asked for:
    /// the job compares ranks with the day before. Published dates that follow on one that is
    /// done are done too, also after the last date asked for.
    pub in_order: bool,
    /// The dates, in the order in which they run.
    pub dates: Vec<DateStatus>,
    /// For each date its run, in the same order; empty for a dry run. A run that was under way
    /// already is not queued once more.
    pub run_ids: Vec<RunId>,
}

fn one() -> u32 {
    1
}
