//! Runs: what was asked for, and what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use rankmill_engine::skew::SkewReport;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::{Builder, Uuid};

use super::BackfillId;

/// Identifies a run; ordered by the time it was submitted (UUID version 7).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct RunId(Uuid);

impl RunId {
    /// A new one, later than all before it.
    #[expect(clippy::new_without_default, reason = "every call gives another id")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id of the run that a job's schedule starts at a time: always the same, so that even
    /// two schedulers queue it only once.
    pub(crate) fn of_firing(job: &str, fire_at: DateTime<Utc>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(job);
        hasher.update([0]);
        hasher.update(fire_at.timestamp_micros().to_be_bytes());
        let digest = hasher.finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let millis = u64::try_from(fire_at.timestamp_millis()).unwrap_or_default();
        Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The lowest id that a run submitted at a time can have.
    pub(crate) fn first_at(time: DateTime<Utc>) -> Self {
        let millis = u64::try_from(time.timestamp_millis()).unwrap_or_default();
        Self(Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }

    /// The month that the id carries, as `2026-01`: where its record lies.
    pub(crate) fn month(self) -> String {
        let (seconds, _) = self.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
        let seconds = i64::try_from(seconds).unwrap_or_default();
        let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        time.format("%Y-%m").to_string()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for RunId {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A run's record: `{lake}/_rankmill/runs/{yyyy-mm}/{id}.json`. Only the leading scheduler writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What to do.
    pub kind: RunKind,
    /// Why it was queued.
    pub trigger: Trigger,
    /// Where it stands.
    pub state: RunState,
    /// When it was queued first.
    pub submitted_at: DateTime<Utc>,
    /// When its first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// After a failed attempt: not to be started before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// After this it counts as late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// Every start, in order.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// What became of each date so far, in order.
    #[serde(default)]
    pub dates: Vec<DateResult>,
    /// What happened, for people; the newest 200.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What was skewed in what it has computed so far, and what was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<SkewReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A cancel was asked for.
    #[serde(default)]
    pub cancel_requested: bool,
    /// What the submitter gave to submit it only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Digest of the request that came with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// Name of the token it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// Epoch of the scheduler that wrote this.
    pub epoch: u64,
}

/// What a run does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunKind {
    /// Brings the dates of a job up to date.
    Ranking {
        /// Name of the job.
        job: String,
        /// The spec as it was when the run was queued (YAML).
        spec: String,
        /// Values of its placeholders besides `{lake}` and `{date}`.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// First date.
        from: NaiveDate,
        /// Last date.
        to: NaiveDate,
        /// Publish again what is current already.
        #[serde(default)]
        force: bool,
        /// Publish an empty result where a date has no input.
        #[serde(default)]
        allow_empty: bool,
    },
    /// Makes skewed logs.
    Generate {
        /// Options of `rankmill generate`, checked when it was queued.
        options: serde_json::Value,
    },
}

/// Why a run was queued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// Somebody asked for it.
    Manual,
    /// The job's schedule.
    Schedule {
        /// The time it was due.
        fire_at: DateTime<Utc>,
    },
    /// A backfill.
    Backfill {
        /// Which.
        // Summaries have an id of their own beside it.
        #[serde(rename = "backfill_id")]
        id: BackfillId,
        /// Runs of that backfill at once.
        max_parallel: u32,
        /// Its place among the runs of the backfill, from 0.
        sequence: u32,
    },
    /// A gap that the scheduler found by itself.
    Repair,
    /// Somebody asked to repeat a run that had ended.
    Retry {
        /// Which.
        #[serde(rename = "retry_of")]
        of: RunId,
    },
}

/// Which of two queued runs goes first: the higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Backfills and repairs; they have slots of their own, and never those of the others.
    Background,
    /// Asked for by somebody.
    Normal,
    /// By a schedule.
    Scheduled,
}

impl Trigger {
    /// How urgent such a run is.
    pub fn priority(&self) -> Priority {
        match self {
            Self::Backfill { .. } | Self::Repair => Priority::Background,
            Self::Manual | Self::Retry { .. } => Priority::Normal,
            Self::Schedule { .. } => Priority::Scheduled,
        }
    }
}

/// Where a run stands. Queued → running ⇄ publishing (per group of dates) → one of the last four;
/// a failed attempt that may be repeated goes back to queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    /// Computes.
    Running,
    /// Writes a ranking and its commit point.
    Publishing,
    /// Every date is current, or has no input where that is no failure.
    Succeeded,
    /// It will not be tried again by itself.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// Another run published something newer first.
    Fenced,
}

impl RunState {
    /// Whether nothing more will happen to the run.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Fenced
        )
    }
}

/// One start of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; without it, it runs, or its scheduler died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it ended without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It ended by no fault of the run: it doesn't count as one of the attempts that a run has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interruption>,
}

/// What ended an attempt that might have gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// The scheduler was asked to stop.
    SchedulerStopped,
    /// The scheduler died, or another one took over.
    SchedulerDied,
    /// A run of a backfill or a repair made room for a scheduled one.
    GaveWay,
    /// The cluster lost an executor, or could not compute for a while.
    ClusterFailed,
}

/// What became of a date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DateResult {
    /// The date.
    pub date: NaiveDate,
    /// `published`, `already_current`, `fenced` or `gap`.
    pub outcome: String,
    /// The generation that is current now; 0 for a gap.
    #[serde(default)]
    pub generation: u64,
    /// Rows published.
    #[serde(default)]
    pub rows: u64,
}

/// Something that happened to a run, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub message: String,
}

/// How far a run has come; kept in memory only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Files to read.
    pub files: u64,
    /// Files read.
    pub files_done: u64,
    /// Rows read.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Tasks known so far; 0 in one process.
    pub tasks: u64,
    /// Tasks done.
    pub tasks_done: u64,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Name of the job; none for load generation.
    pub job: Option<String>,
    /// Where it stands.
    pub state: RunState,
    /// Why it was queued.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// First date.
    pub from: Option<NaiveDate>,
    /// Last date.
    pub to: Option<NaiveDate>,
    /// When it was queued.
    pub submitted_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// After this it counts as late.
    pub deadline: Option<DateTime<Utc>>,
    /// Starts so far.
    pub attempts: u32,
    /// Whether it ended, or still goes on, after its deadline.
    #[serde(default)]
    pub late: bool,
    /// Why it failed.
    pub error: Option<String>,
}

impl RunSummary {
    /// Whether it ended, or still goes on, after its deadline.
    pub(crate) fn is_late(&self, now: DateTime<Utc>) -> bool {
        let end = self.finished_at.unwrap_or(now);
        self.deadline.is_some_and(|deadline| end > deadline)
    }

    /// As it is shown now: a run that goes on becomes late without any change.
    pub(crate) fn at(self, now: DateTime<Utc>) -> Self {
        Self {
            late: self.is_late(now),
            ..self
        }
    }
}

impl Run {
    /// What a list shows, but for whether it is late.
    pub(crate) fn summary(&self) -> RunSummary {
        let (job, from, to) = match &self.kind {
            RunKind::Ranking { job, from, to, .. } => (Some(job.clone()), Some(*from), Some(*to)),
            RunKind::Generate { .. } => (None, None, None),
        };
        RunSummary {
            id: self.id,
            job,
            state: self.state,
            trigger: self.trigger.clone(),
            from,
            to,
            submitted_at: self.submitted_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            deadline: self.deadline,
            attempts: self.attempts.len() as u32,
            late: false,
            error: self.error.clone(),
        }
    }
}

impl Run {
    /// As the API shows it.
    pub(crate) fn view(&self, progress: Option<Progress>, now: DateTime<Utc>) -> RunView {
        RunView {
            summary: self.summary().at(now),
            attempts_made: self.attempts.clone(),
            dates: self.dates.clone(),
            events: self.events.clone(),
            skew: self.skew.clone(),
            progress,
            submitted_by: self.submitted_by.clone(),
        }
    }
}

/// A run as the API shows it: without its spec, with its progress.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RunView {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Every start.
    pub attempts_made: Vec<Attempt>,
    /// What became of each date so far.
    pub dates: Vec<DateResult>,
    /// What happened.
    pub events: Vec<Event>,
    /// Hot keys, how evenly tasks were loaded, and decisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub skew: Option<SkewReport>,
    /// Only while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Name of the token it was submitted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
}

/// The field of [`SubmitRun`] that asks for a load generation.
pub(crate) const GENERATE: &str = "generate";

/// What can be submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRun {
    /// Name of an applied job; or `spec`, or `generate`.
    #[serde(default)]
    pub job: Option<String>,
    /// A spec (YAML), run once without being applied.
    #[serde(default)]
    pub spec: Option<String>,
    /// Options of a load-generation run; those of `rankmill generate`.
    #[serde(default)]
    pub generate: Option<serde_json::Value>,
    /// Values of the spec's placeholders besides `{lake}` and `{date}`; for a job, those it was
    /// applied with are the default.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// First date: `2026-01-31`, `today` or `yesterday` in the job's zone.
    #[serde(default)]
    pub from: Option<String>,
    /// Last date; `from` if left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Publish again what is current already.
    #[serde(default)]
    pub force: bool,
    /// Publish an empty result where a date has no input.
    #[serde(default)]
    pub allow_empty: bool,
}
