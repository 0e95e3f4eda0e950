//! A job on a lake, run in this process.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use chrono::{Days, NaiveDate};
use datafusion::arrow::array::RecordBatch;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use rankmill_engine::{ScanProgress, Session, SessionOptions, joins_in_parts};
use rankmill_jobs::publication::{Commit, RunId, history, read_current, read_file, rollback};
use rankmill_jobs::spec::{Params, Spec, parse};
use rankmill_jobs::{
    DateOutcome, DateReport, Error, Inspection, Inspector, Observer, RunReport, RunRequest,
    read_ranking, run, target_of,
};
use tokio::runtime::Runtime;

use crate::lake::{Lake, Value, rows_of};

/// One for all tests: tests come and go on threads of their own.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Planning recurses, and unoptimised frames are large.
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
        .unwrap()
});

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub(crate) struct Quiet;

impl Observer for Quiet {
    fn reading(&self, _: usize, _: Option<u64>, _: u64) {}
    fn progress(&self, _: ScanProgress) {}
    fn publishing(&self, _: NaiveDate) {}
    fn retrying(&self, _: &Error) {}
    fn date_done(&self, _: &DateReport) {}
}

/// Day 0 is the first of 2026.
pub(crate) fn day(number: i64) -> NaiveDate {
    let first: NaiveDate = "2026-01-01".parse().unwrap();
    first + Days::new(number.try_into().unwrap())
}

/// Days since 1970-01-01.
pub(crate) fn epoch_day(number: i64) -> i64 {
    (day(number) - NaiveDate::default()).num_days()
}

#[derive(Clone)]
pub(crate) struct Job {
    session: Session,
    params: Params,
    spec: Spec,
    request: RunRequest,
}

impl Job {
    pub(crate) fn new(lake: &Lake, yaml: &str) -> Self {
        Self::with_params(lake, yaml, BTreeMap::new())
    }

    pub(crate) fn with_params(lake: &Lake, yaml: &str, set: BTreeMap<String, String>) -> Self {
        let params = Params::new(lake.path(), set);
        let spec = parse(yaml, "test.yaml", &params);
        Self {
            session: Session::new(&SessionOptions::default()).unwrap(),
            spec: spec.unwrap_or_else(|e| unreachable!("{e}\n{yaml}")),
            params,
            request: RunRequest {
                dates: Vec::new(),
                force: false,
                allow_empty: false,
                dates_per_pass: None,
            },
        }
    }

    /// With another number of partitions and rows in a batch.
    pub(crate) fn split(mut self, threads: usize, batch_rows: usize) -> Self {
        let options = SessionOptions {
            threads: Some(threads),
            ..SessionOptions::default()
        };
        self.session = Session::new(&options).unwrap();
        let state = self.session.context().state_ref();
        let mut state = state.write();
        *state.config_mut() = state.config().clone().with_batch_size(batch_rows);
        drop(state);
        self
    }

    /// Planned as after a join that took too much memory.
    pub(crate) fn with_joins_in_parts(self) -> Self {
        let state = self.session.context().state_ref();
        let mut state = state.write();
        *state.config_mut() = joins_in_parts(state.config().clone());
        drop(state);
        self
    }

    /// With tables of dimensions up to so many bytes, and so much memory.
    pub(crate) fn limited(
        self,
        threads: usize,
        table_bytes: usize,
        memory_bytes: Option<usize>,
    ) -> Self {
        let options = SessionOptions {
            threads: Some(threads),
            table_bytes: Some(table_bytes),
            memory_bytes,
            ..SessionOptions::default()
        };
        self.on(Session::new(&options).unwrap())
    }

    /// Computing as a session does.
    pub(crate) fn on(mut self, session: Session) -> Self {
        self.session = session;
        self
    }

    /// With so many dates in a pass; by their size if none.
    pub(crate) fn in_passes_of(mut self, dates: Option<usize>) -> Self {
        self.request.dates_per_pass = dates.and_then(NonZeroUsize::new);
        self
    }

    pub(crate) fn forced(mut self) -> Self {
        self.request.force = true;
        self
    }

    pub(crate) fn allowing_empty(mut self) -> Self {
        self.request.allow_empty = true;
        self
    }

    pub(crate) fn run(&self, days: &[i64]) -> Result<RunReport, Error> {
        let mut job = self.clone();
        job.request.dates = days.iter().map(|number| day(*number)).collect();
        block_on(
            async move { run(&job.session, &job.spec, &job.params, &job.request, &Quiet).await },
        )
    }

    /// Runs and describes what became of each day: `published 1`, `current 1`, `gap`.
    pub(crate) fn outcomes(&self, days: &[i64]) -> Vec<String> {
        let report = self.run(days).unwrap();
        report.dates.iter().map(|d| outcome(&d.outcome)).collect()
    }

    /// What went wrong, the causes included.
    pub(crate) fn error(&self, days: &[i64]) -> String {
        let error = self.run(days).unwrap_err();
        let mut text = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    pub(crate) fn batch(&self, number: i64) -> Option<(Commit, RecordBatch)> {
        let job = self.clone();
        block_on(async move {
            let target = target_of(&job.session, &job.spec, &job.params).unwrap();
            read_ranking(&target, &job.spec.name, day(number)).await
        })
        .unwrap()
    }

    pub(crate) fn rows(&self, number: i64) -> Vec<Vec<Value>> {
        self.batch(number)
            .map_or_else(Vec::new, |(_, batch)| rows_of(&batch))
    }

    /// A published file, byte for byte.
    pub(crate) fn file(&self, number: i64, name: &'static str) -> Option<Vec<u8>> {
        let job = self.clone();
        block_on(async move {
            let target = target_of(&job.session, &job.spec, &job.params).unwrap();
            let commit = read_current(&target, day(number)).await.unwrap()?;
            let file = commit.file(name).unwrap();
            Some(read_file(&target, &commit, file).await.unwrap().into())
        })
    }

    /// Generations of a day, newest first.
    pub(crate) fn generations(&self, number: i64) -> Vec<u64> {
        let job = self.clone();
        block_on(async move {
            let target = target_of(&job.session, &job.spec, &job.params).unwrap();
            let commits = history(&target, day(number)).await.unwrap();
            commits.iter().map(|commit| commit.id.generation).collect()
        })
    }

    /// Uses a store for all places that begin with `address`.
    pub(crate) fn use_store(&self, address: &str, store: Arc<dyn ObjectStore>) {
        let address = url::Url::parse(address).unwrap();
        self.session.stores().register_store(&address, store);
    }

    /// The job goes on with another spec.
    pub(crate) fn change_spec(&mut self, yaml: &str) {
        self.spec = parse(yaml, "test.yaml", &self.params).unwrap();
    }

    pub(crate) fn inspector(&self) -> Inspector {
        Inspector::new(self.session.clone())
    }

    /// Where days stand, by an inspector that may remember other inspections.
    pub(crate) fn inspect(
        &self,
        inspector: &Inspector,
        days: &[i64],
    ) -> Result<Vec<Inspection>, Error> {
        let (job, round) = (self.clone(), inspector.round());
        let dates: Vec<NaiveDate> = days.iter().map(|number| day(*number)).collect();
        block_on(async move { round.inspect(&job.spec, &job.params, &dates).await })
    }

    pub(crate) fn roll_back(&self, number: i64, to: u64) {
        let job = self.clone();
        block_on(async move {
            let target = target_of(&job.session, &job.spec, &job.params).unwrap();
            rollback(&target, day(number), to, RunId::new())
                .await
                .unwrap();
        });
    }

    pub(crate) fn explain(&self, number: i64) -> Result<String, Error> {
        let job = self.clone();
        block_on(async move {
            let dates = [day(number)];
            rankmill_jobs::explain(&job.session, &job.spec, &job.params, &dates).await
        })
    }
}

fn outcome(outcome: &DateOutcome) -> String {
    match outcome {
        DateOutcome::Published { generation, .. } => format!("published {generation}"),
        DateOutcome::AlreadyCurrent { generation } => format!("current {generation}"),
        DateOutcome::Fenced { generation, .. } => format!("fenced {generation}"),
        DateOutcome::Gap { .. } => "gap".to_owned(),
    }
}
