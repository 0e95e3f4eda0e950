//! What the API offers, once for both of its faces.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use tokio_stream::wrappers::WatchStream;

use crate::access::Access;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{
    BackfillPlan, BackfillRequest, DateStatus, Executor, JobView, RunId, RunState, RunSummary,
    RunView, SubmitRun,
};

/// The scheduler as its API sees it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    metrics: Metrics,
}

/// Who asks: the name of a token, written to the runs it submits.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// None where the API needs no token.
    pub name: Option<String>,
    /// Where its specs may read and write, besides what is allowed to all; none: no further bound.
    pub access: Option<Arc<Access>>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of one job.
    pub job: Option<String>,
    /// In one of these states; all if empty.
    pub states: Vec<RunState>,
    /// At most 1000; 50 if 0.
    pub page_size: u32,
    /// From the page before.
    pub page_token: Option<String>,
}

/// A page of runs, newest first.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunSummary>,
    /// Gives the next page; none on the last.
    pub next_page_token: Option<String>,
}

impl Service {
    /// What Prometheus is told.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    #[cfg(test)]
    pub(crate) fn stub() -> Self {
        Self {
            metrics: Metrics::new(),
        }
    }

    /// Registers a job from its spec, or replaces the one of that name.
    pub async fn apply_job(
        &self,
        caller: &Caller,
        spec: &str,
        set: BTreeMap<String, String>,
    ) -> Result<JobView> {
        let _ = (caller, spec, set);
        Err(later())
    }

    /// By name.
    pub async fn jobs(&self) -> Result<Vec<JobView>> {
        Err(later())
    }

    /// One job.
    pub async fn job(&self, name: &str) -> Result<JobView> {
        let _ = name;
        Err(later())
    }

    /// Pauses or resumes a job.
    pub async fn set_paused(&self, caller: &Caller, name: &str, paused: bool) -> Result<JobView> {
        let _ = (caller, name, paused);
        Err(later())
    }

    /// Removes a job; its runs and rankings stay.
    pub async fn delete_job(&self, caller: &Caller, name: &str) -> Result<()> {
        let _ = (caller, name);
        Err(later())
    }

    /// Queues a run. The same idempotency key gives the run of the first request; a different
    /// request under the same key is a conflict.
    pub async fn submit(
        &self,
        caller: &Caller,
        request: SubmitRun,
        idempotency_key: Option<String>,
    ) -> Result<RunView> {
        let _ = (caller, request, idempotency_key);
        Err(later())
    }

    /// A page of runs, newest first, from memory.
    pub async fn runs(&self, filter: &RunFilter) -> Result<RunPage> {
        let _ = filter;
        Err(later())
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<RunView> {
        let _ = id;
        Err(later())
    }

    /// Stops a run; one that has ended stays as it is.
    pub async fn cancel(&self, caller: &Caller, id: RunId) -> Result<RunView> {
        let _ = (caller, id);
        Err(later())
    }

    /// Queues a new run like one that has ended; one that goes on is a conflict.
    pub async fn retry(&self, caller: &Caller, id: RunId) -> Result<RunView> {
        let _ = (caller, id);
        Err(later())
    }

    /// The run now and at each change, until it has ended.
    pub async fn watch(&self, id: RunId) -> Result<WatchStream<RunView>> {
        let _ = id;
        Err(later())
    }

    /// What each date of a job needs.
    pub async fn gaps(&self, job: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<DateStatus>> {
        let _ = (job, from, to);
        Err(later())
    }

    /// A date, `today` or `yesterday` in a job's zone.
    pub async fn date_of(&self, job: &str, text: &str) -> Result<NaiveDate> {
        let _ = (job, text);
        Err(later())
    }

    /// Queues runs for the dates of a job that need it.
    pub async fn backfill(
        &self,
        caller: &Caller,
        request: BackfillRequest,
    ) -> Result<BackfillPlan> {
        let _ = (caller, request);
        Err(later())
    }

    /// The cluster's executors; none if the scheduler computes itself.
    pub async fn executors(&self) -> Result<Vec<Executor>> {
        Err(later())
    }

    /// Whether this scheduler computes in its own process.
    pub fn is_embedded(&self) -> bool {
        false
    }

    /// Whether this scheduler leads and, on a cluster, has an executor.
    pub fn readiness(&self) -> Result<()> {
        Err(later())
    }
}

fn later() -> Error {
    Error::Conflict {
        reason: "not here yet".to_owned(),
    }
}
