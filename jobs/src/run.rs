//! One run of a job: which dates need work, computing them, publishing each.

mod compute;
mod passes;
mod publish;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use rankmill_engine::skew::SkewReport;
use rankmill_engine::{Location, ScanProgress, Session};

pub use compute::explain;

pub(crate) use self::compute::has_rows;
use self::compute::{compute, shared_days};
use self::passes::Passes;
use self::publish::{fingerprint, publish};
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::publication::{Commit, Publication, RunId, Target, probe, read_current, read_file};
use crate::result::read_parquet;
use crate::spec::{Params, Spec};

/// Computations begun anew because the input changed under them.
const MAX_ATTEMPTS: usize = 3;
/// Commit points read at once.
const CONCURRENT_READS: usize = 16;
/// Dates published at once: nearly all of the time is spent waiting for the store.
const PUBLISHED_AT_ONCE: usize = 4;
/// The rows of a published result.
pub(crate) const PARQUET_NAME: &str = "part-0.parquet";
/// The same rows for the serving layer.
const JSON_NAME: &str = "ranking.json";

/// What to run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The dates to bring up to date.
    pub dates: Vec<NaiveDate>,
    /// Publish again what is current already.
    pub force: bool,
    /// Publish an empty result where a date has no input, instead of calling it a gap.
    pub allow_empty: bool,
    /// Dates of a ranking to compute and publish before the next ones begin. None: one by one
    /// where they are large, many together where they are small.
    pub dates_per_pass: Option<NonZeroUsize>,
}

/// Hears how a run goes; called from the run's own task, so it must be quick.
pub trait Observer: Send + Sync {
    /// Reading begins: files, rows where the files say (Parquet does), bytes as stored.
    fn reading(&self, files: usize, rows: Option<u64>, bytes: u64);
    /// A few times a second while reading.
    fn progress(&self, scanned: ScanProgress);
    /// The computation of a date is done, its publication begins.
    fn publishing(&self, date: NaiveDate);
    /// What was skewed in a computation that ended well.
    fn skewed(&self, _found: &SkewReport) {}
    /// A computation begins anew.
    fn retrying(&self, reason: &Error);
    /// A date is done.
    fn date_done(&self, report: &DateReport);
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// For each date, in order.
    pub dates: Vec<DateReport>,
    /// What the scans of the logs and dimensions read.
    pub scanned: ScanProgress,
    /// Rows that `where` let through; not known for SQL.
    pub rows: u64,
    /// Rows left out because their item is null.
    pub null_items: u64,
    /// For each lookup.
    pub unmatched: Vec<Unmatched>,
    /// What was skewed, and what was done about it.
    pub skew: SkewReport,
    /// From listing the input to the last commit.
    pub elapsed: Duration,
}

/// Rows whose key a dimension doesn't have; they rank under `unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// The dimension.
    pub path: String,
    /// The log's key.
    pub key: String,
    /// Rows.
    pub rows: u64,
}

/// How a date ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateReport {
    /// The date.
    pub date: NaiveDate,
    /// What became of it.
    pub outcome: DateOutcome,
}

/// What became of a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateOutcome {
    /// This run published it.
    Published {
        /// Its number among the date's publications.
        generation: u64,
        /// Rows of the result.
        rows: u64,
    },
    /// The same was current already.
    AlreadyCurrent {
        /// The generation that is.
        generation: u64,
    },
    /// A later run published first; this one's result is dropped.
    Fenced {
        /// The generation that stands.
        generation: u64,
        /// The run that published it.
        run_id: RunId,
    },
    /// There is no input.
    Gap {
        /// Where it was looked for.
        path: String,
    },
}

/// Where a spec publishes.
pub fn target_of(session: &Session, spec: &Spec, params: &Params) -> Result<Target> {
    // The output's path never depends on the date.
    let filled = spec.fill(params, NaiveDate::default());
    let failed = Inputs::engine_error(&spec.name);
    let place = Location::parse(&filled.output.path).map_err(&failed)?;
    let store = session.stores().of(&place).map_err(&failed)?;
    Ok(Target::new(store, place.path().clone()))
}

/// Brings the dates of a job up to date, in order. A ranking reads the files of some dates in one
/// pass; each date is published on its own. A date that is current already costs a listing.
/// An error leaves the dates published so far; running again does the rest.
pub async fn run(
    session: &Session,
    spec: &Spec,
    params: &Params,
    request: &RunRequest,
    observer: &dyn Observer,
) -> Result<RunReport> {
    let begun = Instant::now();
    let target = target_of(session, spec, params)?;
    let mut dates = request.dates.clone();
    dates.sort_unstable();
    dates.dedup();
    let mut report = RunReport {
        dates: Vec::new(),
        scanned: ScanProgress::default(),
        rows: 0,
        null_items: 0,
        unmatched: Vec::new(),
        skew: SkewReport::default(),
        elapsed: Duration::ZERO,
    };
    if let Some(first) = dates.first() {
        // Nothing is written, not even to probe, where there is nothing to read: a lake's
        // address may be mistyped.
        Inputs::list(session, &spec.fill(params, *first), &[*first]).await?;
        probe(&target).await.map_err(publication_error(spec))?;
    }
    let mut passes = Passes::new(spec, request.dates_per_pass, session.keeps_in_memory());
    while !dates.is_empty() {
        let later = dates.split_off(passes.look().min(dates.len()));
        let pass = Pass {
            session,
            spec: spec.fill(params, dates[0]),
            spec_hash: spec.hash(params),
            target: &target,
            request,
            observer,
        };
        let mut attempt = 1;
        let postponed = loop {
            match pass.run(&dates, &mut passes, &mut report).await {
                Err(reason @ Error::InputChanged { .. }) if attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                    observer.retrying(&reason);
                    // The input is checked before anything is published: all dates begin anew.
                    report.dates.retain(|done| !dates.contains(&done.date));
                }
                other => break other?,
            }
        };
        dates = postponed;
        dates.extend(later);
    }
    report.elapsed = begun.elapsed();
    Ok(report)
}

/// One pass over the files for some dates.
struct Pass<'a> {
    session: &'a Session,
    /// Filled in for these dates.
    spec: Spec,
    spec_hash: String,
    target: &'a Target,
    request: &'a RunRequest,
    observer: &'a dyn Observer,
}

impl Pass<'_> {
    /// Brings the dates up to date, save those at their end that it gives back.
    async fn run(
        &self,
        dates: &[NaiveDate],
        passes: &mut Passes,
        report: &mut RunReport,
    ) -> Result<Vec<NaiveDate>> {
        // Before the input is listed: a run that begins later reads a later listing, and has a
        // higher epoch.
        let begun: Vec<BoxFuture<'_, _>> = dates
            .iter()
            .map(|date| Publication::begin(self.target, *date, RunId::new()).boxed())
            .collect();
        let begun: Vec<Publication> = stream::iter(begun)
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await
            .map_err(publication_error(&self.spec))?;
        let mut publications: BTreeMap<NaiveDate, Publication> =
            dates.iter().copied().zip(begun).collect();
        let inputs = Inputs::list(self.session, &self.spec, dates).await?;
        let mut todo = self
            .dates_to_compute(dates, &inputs, &publications, report)
            .await?;
        let logs: Vec<u64> = todo.iter().map(|date| inputs.log_bytes(*date)).collect();
        let mut postponed = todo.split_off(passes.take(&logs, inputs.lookup_bytes()));
        if todo.is_empty() {
            return Ok(postponed);
        }
        let mut shared = None;
        if self.spec.sql.is_some() && todo.len() > 1 {
            shared = shared_days(self.session, &self.spec, &inputs, &todo).await?;
            if shared.is_none() {
                // Each is published before the next one begins.
                passes.one_by_one();
                postponed.splice(0..0, todo.split_off(1));
            }
        }
        let computed = compute(
            self.session,
            &self.spec,
            &inputs,
            &todo,
            shared,
            self.observer,
        );
        let computed = computed.await;
        // Whatever came out, it counts only if the files are still those that were listed.
        inputs
            .check_unchanged(self.session, &self.spec, &todo)
            .await?;
        let mut computed = computed?;
        report.scanned.add(computed.scanned);
        self.observer.skewed(&computed.skew);
        report.skew.add(computed.skew.clone());
        // One after the other where each is compared with the one before.
        let at_once = match self.spec.compares_ranks() {
            true => 1,
            false => PUBLISHED_AT_ONCE,
        };
        for dates in todo.chunks(at_once) {
            let mut publishing: Vec<BoxFuture<'_, _>> = Vec::new();
            let mut failed = None;
            for date in dates {
                let Some(publication) = publications.remove(date) else {
                    continue;
                };
                let totals = computed.totals.get(date);
                if let Some(totals) = totals {
                    report.rows += totals.rows;
                    report.null_items += totals.null_items;
                    self.add_unmatched(report, &inputs, &totals.unmatched);
                }
                let rows = match computed.rows_of(&self.spec, *date) {
                    Ok(rows) => rows,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                self.observer.publishing(*date);
                let published = publish(self, publication, &inputs, *date, rows);
                publishing.push(published.map(|outcome| (*date, outcome)).boxed());
            }
            // All of them end, also where one fails: what is public is reported.
            for (date, outcome) in join_all(publishing).await {
                match outcome {
                    Ok(outcome) => self.done(report, date, outcome),
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(postponed)
    }

    /// The dates whose result would differ from what is published.
    async fn dates_to_compute(
        &self,
        dates: &[NaiveDate],
        inputs: &Inputs,
        publications: &BTreeMap<NaiveDate, Publication>,
        report: &mut RunReport,
    ) -> Result<Vec<NaiveDate>> {
        let mut todo: Vec<NaiveDate> = Vec::new();
        for date in dates {
            if !self.request.allow_empty
                && let Some(Error::Gap { path, .. }) = inputs.gap(*date)
            {
                self.done(report, *date, DateOutcome::Gap { path });
                continue;
            }
            // A new ranking of the day before changes the rank changes of this one.
            let follows = self.spec.compares_ranks() && todo.last() == date.pred_opt().as_ref();
            let current = match publications.get(date) {
                Some(publication) if !follows && !self.request.force => {
                    let now = fingerprint(self, inputs, *date).await?;
                    publication
                        .is_current(&now)
                        .then(|| publication.current().map(|commit| commit.id.generation))
                        .flatten()
                }
                _ => None,
            };
            if let Some(generation) = current {
                self.done(report, *date, DateOutcome::AlreadyCurrent { generation });
            } else if let Some(path) = self.gap_within_files(inputs, *date).await? {
                self.done(report, *date, DateOutcome::Gap { path });
            } else {
                todo.push(*date);
            }
        }
        Ok(todo)
    }

    /// Where the date is in a column, files may span a date without a row of it: then the log
    /// where it is missing.
    async fn gap_within_files(&self, inputs: &Inputs, date: NaiveDate) -> Result<Option<String>> {
        if self.request.allow_empty {
            return Ok(None);
        }
        for input in &inputs.logs {
            if input.date_column().is_some()
                && !has_rows(self.session, &self.spec, inputs, input, date).await?
            {
                return Ok(Some(input.source.base().to_string()));
            }
        }
        Ok(None)
    }

    fn done(&self, report: &mut RunReport, date: NaiveDate, outcome: DateOutcome) {
        let done = DateReport { date, outcome };
        self.observer.date_done(&done);
        report.dates.push(done);
        report.dates.sort_by_key(|d| d.date);
    }

    fn add_unmatched(&self, report: &mut RunReport, inputs: &Inputs, rows: &[u64]) {
        let lookups = self.spec.lookups.iter().zip(&inputs.lookups);
        for ((lookup, input), rows) in lookups.zip(rows) {
            let path = input.source.base().to_string();
            let key = lookup.on.fact().to_owned();
            let known = report
                .unmatched
                .iter_mut()
                .find(|u| u.path == path && u.key == key);
            match known {
                Some(unmatched) => unmatched.rows += rows,
                None => report.unmatched.push(Unmatched {
                    path,
                    key,
                    rows: *rows,
                }),
            }
        }
    }
}

/// The published result of a date: its commit and its rows, checked against the commit's digest.
pub async fn read_ranking(
    target: &Target,
    job: &str,
    date: NaiveDate,
) -> Result<Option<(Commit, RecordBatch)>> {
    let failed = |source| Error::Publication {
        job: job.to_owned(),
        source: Box::new(source),
    };
    let Some(commit) = read_current(target, date).await.map_err(failed)? else {
        return Ok(None);
    };
    let Some(file) = commit.files.iter().find(|file| file.name() == PARQUET_NAME) else {
        return Err(Error::Verification {
            job: job.to_owned(),
            date,
            reason: format!("the published result has no '{PARQUET_NAME}'"),
        });
    };
    let bytes = read_file(target, &commit, file).await.map_err(failed)?;
    let rows = read_parquet(bytes).map_err(|source| Error::Encode {
        job: job.to_owned(),
        format: "parquet",
        source: Box::new(source),
    })?;
    Ok(Some((commit, rows)))
}

fn publication_error(spec: &Spec) -> impl Fn(crate::publication::Error) -> Error + use<> {
    let job = spec.name.clone();
    move |source| Error::Publication {
        job: job.clone(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scheduler spawns runs: this compiles only while their futures are `Send`.
    #[test]
    fn a_run_can_be_spawned() {
        fn is_send<T: Send>(_: impl FnOnce(&'static Session, &'static Spec, &'static Params) -> T) {
        }
        is_send(|session, spec, params| async move {
            let request = RunRequest {
                dates: Vec::new(),
                force: false,
                allow_empty: false,
                dates_per_pass: None,
            };
            let ran = run(session, spec, params, &request, &Silent).await;
            explain(session, spec, params, &request.dates).await.is_ok() && ran.is_ok()
        });
    }

    struct Silent;

    impl Observer for Silent {
        fn reading(&self, _files: usize, _rows: Option<u64>, _bytes: u64) {}
        fn progress(&self, _scanned: ScanProgress) {}
        fn publishing(&self, _date: NaiveDate) {}
        fn retrying(&self, _reason: &Error) {}
        fn date_done(&self, _report: &DateReport) {}
    }
}
