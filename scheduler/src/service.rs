//! What the API offers, once for both of its faces.

mod backfill;
mod jobs;
mod keys;
mod query;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::NaiveDate;
use rankmill_jobs::spec::{Params, Spec};
use tokio_stream::wrappers::WatchStream;

use crate::access::Access;
use crate::backend::Backend;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::generate::LoadGenerator;
use crate::metrics::Metrics;
use crate::model::{
    BackfillPlan, BackfillRequest, DateStatus, Executor, GENERATE, JobView, RunId, RunState,
    RunSummary, RunView, SubmitRun,
};

/// The scheduler as its API sees it. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    access: Access,
    generator: Arc<dyn LoadGenerator>,
    embedded: bool,
    metrics: Metrics,
    role: RwLock<Role>,
}

/// Whether this scheduler leads.
enum Role {
    /// Another one does; where its API is.
    Standby(Option<String>),
    /// It does.
    Leader(Lead),
}

/// What a leader's requests work with.
#[derive(Clone)]
pub(crate) struct Lead {
    pub(crate) core: Arc<Core>,
    pub(crate) gaps: Gaps,
    pub(crate) backend: Backend,
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
    /// A standby, until it is told to lead.
    pub(crate) fn new(
        access: Access,
        generator: Arc<dyn LoadGenerator>,
        embedded: bool,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                access,
                generator,
                embedded,
                metrics,
                role: RwLock::new(Role::Standby(None)),
            }),
        }
    }

    /// A standby that nobody leads, to try the API's faces on.
    #[cfg(test)]
    #[allow(dead_code, reason = "for the tests of the API")]
    pub(crate) fn stub() -> Self {
        struct Nothing;
        impl LoadGenerator for Nothing {
            fn check(&self, _: &serde_json::Value) -> Result<(), String> {
                Ok(())
            }
            fn generate<'a>(
                &'a self,
                _: &'a rankmill_engine::Session,
                _: &'a str,
                _: &'a serde_json::Value,
                _: &'a (dyn Fn(crate::model::Progress) + Sync),
                _: &'a (dyn Fn() -> bool + Sync),
            ) -> futures::future::BoxFuture<'a, Result<(), crate::NotGenerated>> {
                Box::pin(std::future::ready(Ok(())))
            }
        }
        let access = Access::new(&["/".to_owned()]).unwrap();
        Self::new(access, Arc::new(Nothing), true, Metrics::new())
    }

    /// Answers requests from here on.
    pub(crate) fn lead(&self, lead: Lead) {
        self.set_role(Role::Leader(lead));
    }

    /// Refers requests to another scheduler from here on.
    pub(crate) fn follow(&self, leader: Option<String>) {
        self.set_role(Role::Standby(leader));
    }

    fn set_role(&self, role: Role) {
        let mut current = self
            .inner
            .role
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = role;
    }

    fn leading(&self) -> Result<Lead> {
        let role = self
            .inner
            .role
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*role {
            Role::Leader(lead) => Ok(lead.clone()),
            Role::Standby(leader) => Err(Error::Standby {
                leader: leader.clone(),
            }),
        }
    }

    fn core(&self) -> Result<Arc<Core>> {
        Ok(self.leading()?.core)
    }

    /// Whether a spec keeps to what is allowed to all, and to whoever asks.
    fn check_access(&self, caller: &Caller, spec: &Spec, params: &Params) -> Result<()> {
        self.inner.access.check(spec, params)?;
        match &caller.access {
            Some(access) => access.check(spec, params),
            None => Ok(()),
        }
    }

    /// Whether a load generation, which writes anywhere in the lake, keeps to what is allowed to
    /// all and to whoever asks, and has options that can be.
    fn check_generation(
        &self,
        caller: &Caller,
        lake: &str,
        options: &serde_json::Value,
    ) -> Result<()> {
        self.check_lake(caller, lake)?;
        let checked = self.inner.generator.check(options);
        checked.map_err(|reason| Error::invalid(GENERATE, reason))
    }

    /// Whether the whole lake is allowed to all, and to whoever asks.
    fn check_lake(&self, caller: &Caller, lake: &str) -> Result<()> {
        self.inner.access.check_lake(GENERATE, lake)?;
        match &caller.access {
            Some(access) => access.check_lake(GENERATE, lake),
            None => Ok(()),
        }
    }

    /// What Prometheus is told.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Registers a job from its spec, or replaces the one of that name. A job that is new, or
    /// whose schedule is, follows its schedule from now on.
    pub async fn apply_job(
        &self,
        caller: &Caller,
        spec: &str,
        set: BTreeMap<String, String>,
    ) -> Result<JobView> {
        jobs::apply(self, caller, spec, set).await
    }

    /// By name.
    pub async fn jobs(&self) -> Result<Vec<JobView>> {
        Ok(jobs::list(&*self.core()?))
    }

    /// One job.
    pub async fn job(&self, name: &str) -> Result<JobView> {
        jobs::show(&*self.core()?, name)
    }

    /// Pauses or resumes a job. What its schedule would have started while it was paused is not
    /// made up for.
    pub async fn set_paused(&self, caller: &Caller, name: &str, paused: bool) -> Result<JobView> {
        jobs::set_paused(self, caller, name, paused).await
    }

    /// Removes a job; its runs and rankings stay.
    pub async fn delete_job(&self, caller: &Caller, name: &str) -> Result<()> {
        jobs::delete(self, caller, name).await
    }

    /// Queues a run. The same idempotency key gives the run of the first request; a different
    /// request under the same key is a conflict.
    pub async fn submit(
        &self,
        caller: &Caller,
        request: SubmitRun,
        idempotency_key: Option<String>,
    ) -> Result<RunView> {
        submit::submit(self, caller, request, idempotency_key).await
    }

    /// A page of runs, newest first, from memory.
    pub async fn runs(&self, filter: &RunFilter) -> Result<RunPage> {
        query::runs(&*self.core()?, filter)
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<RunView> {
        self.core()?.view(id).await
    }

    /// Stops a run; one that has ended stays as it is.
    pub async fn cancel(&self, caller: &Caller, id: RunId) -> Result<RunView> {
        submit::cancel(self, caller, id).await
    }

    /// Queues a new run like one that has ended; one that goes on is a conflict. The idempotency
    /// key is as for [`submit`](Self::submit).
    pub async fn retry(
        &self,
        caller: &Caller,
        id: RunId,
        idempotency_key: Option<String>,
    ) -> Result<RunView> {
        submit::retry(self, caller, id, idempotency_key).await
    }

    /// The run now and at each change, until it has ended.
    pub async fn watch(&self, id: RunId) -> Result<WatchStream<RunView>> {
        Ok(WatchStream::new(self.core()?.watch(id).await?))
    }

    /// What each date of a job needs.
    pub async fn gaps(&self, job: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<DateStatus>> {
        query::gaps(&self.leading()?, job, from, to).await
    }

    /// A date, `today` or `yesterday` in a job's zone.
    pub async fn date_of(&self, job: &str, text: &str) -> Result<NaiveDate> {
        let entry = self.core()?.job(job)?;
        submit::date_of(entry.spec()?.0, "date", text)
    }

    /// Queues runs for the dates of a job that need it. The same idempotency key gives the plan
    /// of the first request, and queues what that one did not get to.
    pub async fn backfill(
        &self,
        caller: &Caller,
        request: BackfillRequest,
        idempotency_key: Option<String>,
    ) -> Result<BackfillPlan> {
        backfill::backfill(self, caller, &request, idempotency_key).await
    }

    /// The cluster's executors; none if the scheduler computes itself.
    pub async fn executors(&self) -> Result<Vec<Executor>> {
        Ok(self.leading()?.backend.executors().await)
    }

    /// Whether this scheduler computes in its own process.
    pub fn is_embedded(&self) -> bool {
        self.inner.embedded
    }

    /// Whether this scheduler leads and, on a cluster, has an executor.
    pub fn readiness(&self) -> Result<()> {
        let lead = self.leading()?;
        lead.core.check_leads()?;
        match lead.backend.is_ready() {
            true => Ok(()),
            false => Err(Error::Cluster {
                reason: "there is no executor".to_owned(),
            }),
        }
    }
}
