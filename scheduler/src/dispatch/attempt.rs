//! One attempt of a run, from its start to what is recorded of its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::FutureExt;
use rankmill_jobs::spec::{Params, parse};
use rankmill_jobs::{RunRequest, run as run_job};
use tokio::sync::watch;
use uuid::Uuid;

use super::Dispatcher;
use super::judge::{Failure, Next, PUBLISHED, conclude};
use super::observer::{Notes, RunObserver, observe};
use crate::core::{Core, RunCell, Stop, close_attempt, happened};
use crate::error::{Error, describe};
use crate::metrics::{FailureCause, Metrics};
use crate::model::{Attempt, DateResult, GENERATE, Interruption, Run, RunKind, RunState};

/// Between two tries to record something that must be recorded.
const RECORD_PAUSE: Duration = Duration::from_secs(2);
/// How long a load generation may take to stop before the process does.
const GENERATE_STOP: Duration = Duration::from_secs(10);
/// How long one that is cancelled may take to; writing to a store has ended long before.
const GENERATE_END: Duration = Duration::from_secs(600);
/// How long a run that is stopped while it publishes a date may take to publish it.
const PUBLISH_STOP: Duration = Duration::from_secs(5);

/// How an attempt ended.
#[derive(Debug)]
enum Ended {
    Well,
    Badly(Failure),
    Stopped(Stop),
}

impl Dispatcher {
    /// Runs a queued run once, and records what came of it.
    pub(super) async fn attempt(self, cell: Arc<RunCell>) {
        let core = &self.core;
        let stop = cell.stop.subscribe();
        match begin(core, &cell).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error @ Error::Corrupt { .. }) => {
                core.set_aside(cell.run().id, &error);
                return;
            }
            Err(error) => {
                tracing::warn!(id = %cell.run().id, "not started: {}", error.describe());
                tokio::time::sleep(RECORD_PAUSE).await;
                return;
            }
        }
        let (observer, mut notes) = observe(&cell, &core.metrics);
        let ended = self.execute(&cell, observer, &mut notes, stop).await;
        notes.collect();
        loop {
            match finish(core, &cell, &notes, &ended).await {
                Ok(()) => return,
                // Without a record there is nothing to end.
                Err(error @ Error::NotFound { .. }) => {
                    tracing::error!("{}", error.describe());
                    return;
                }
                Err(error @ Error::Corrupt { .. }) => {
                    core.set_aside(cell.run().id, &error);
                    return;
                }
                Err(Error::Fenced { .. }) => return,
                Err(error) => tracing::warn!("{}", error.describe()),
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    }

    async fn execute(
        &self,
        cell: &Arc<RunCell>,
        observer: RunObserver,
        notes: &mut Notes,
        mut stop: watch::Receiver<Option<Stop>>,
    ) -> Ended {
        let run = cell.run();
        let stopping = AtomicBool::new(false);
        let mut publishing = notes.publishing();
        let work = async {
            let work = self.compute(&run, cell, observer, &stopping);
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => Ended::Well,
                Ok(Err(failure)) => Ended::Badly(failure),
                Err(_) => Ended::Badly(Failure::other("the run panicked; see the log".to_owned())),
            }
        };
        let recorded = async {
            let (ended, ()) = tokio::join!(work, notes.record(&self.core, cell));
            ended
        };
        let mut recorded = Box::pin(recorded);
        let limit = self.core.limits.run_timeout;
        let early = tokio::select! {
            biased;
            ended = &mut recorded => return ended,
            why = stop.wait_for(Option::is_some) => {
                Ended::Stopped(why.ok().and_then(|why| *why).unwrap_or(Stop::Shutdown))
            }
            () = tokio::time::sleep(limit) => Ended::Badly(Failure::timeout(limit)),
        };
        stopping.store(true, Ordering::Relaxed);
        // What is being published may be public already; then the record is to say so.
        let published = publishing.wait_for(|publishing| !publishing);
        tokio::select! {
            biased;
            ended = &mut recorded => return ended,
            _ = published => {}
            () = tokio::time::sleep(PUBLISH_STOP) => {}
        }
        if matches!(run.kind, RunKind::Generate { .. }) {
            // It works on threads, which dropping its future doesn't stop; the next one must not
            // begin beside them. The end of the process does stop them.
            let patience = match early {
                Ended::Stopped(Stop::Shutdown) => GENERATE_STOP,
                _ => GENERATE_END,
            };
            let _ = tokio::time::timeout(patience, recorded).await;
        }
        early
    }

    fn may(&self, allowed: crate::Result<()>) -> Result<(), Failure> {
        allowed.map_err(|error| Failure::forbidden(error.describe()))
    }

    /// The work itself. Dropping the future ends it.
    async fn compute(
        &self,
        run: &Run,
        cell: &Arc<RunCell>,
        observer: RunObserver,
        stopping: &AtomicBool,
    ) -> Result<(), Failure> {
        let lake = &self.core.lake;
        match &run.kind {
            RunKind::Ranking {
                job,
                spec,
                set,
                from,
                to,
                force,
                allow_empty,
            } => {
                let params = Params::new(lake, set.clone());
                let of = |error: &rankmill_jobs::Error| Failure::of(error);
                let spec = parse(spec, job, &params).map_err(|error| of(&error.into()))?;
                self.may(self.access.check(&spec, &params))?;
                let session = self.session.without_tables();
                let session = session.map_err(|error| Failure::other(describe(&error)))?;
                let all = from.iter_days().take_while(|date| date <= to);
                let dates: Vec<NaiveDate> = all.filter(|date| !is_done(run, *date)).collect();
                if dates.is_empty() {
                    return Ok(());
                }
                let request = RunRequest {
                    dates,
                    force: *force,
                    allow_empty: *allow_empty,
                    dates_per_pass: self.core.limits.dates_per_pass,
                };
                let ran = Box::pin(run_job(&session, &spec, &params, &request, &observer)).await;
                ran.map(drop).map_err(|error| of(&error))
            }
            RunKind::Generate { options } => {
                self.may(self.access.check_lake(GENERATE, lake))?;
                // Nothing to say; only its progress is shown.
                drop(observer);
                let progress = |now| cell.advance(|progress| *progress = now);
                let stop = || stopping.load(Ordering::Relaxed);
                let generated = self
                    .generator
                    .generate(&self.session, lake, options, &progress, &stop)
                    .await;
                generated.map_err(Failure::of_generation)
            }
        }
    }
}

/// Whether an earlier attempt has published a date that is to be published whether or not it is
/// current: once is enough. Of other runs the publication finds it out.
fn is_done(run: &Run, date: NaiveDate) -> bool {
    let published = |done: &DateResult| done.date == date && done.outcome == PUBLISHED;
    matches!(run.kind, RunKind::Ranking { force: true, .. }) && run.dates.iter().any(published)
}

/// Records the start; false if the run is not to start any more.
async fn begin(core: &Core, cell: &RunCell) -> crate::Result<bool> {
    core.check_open()?;
    let now = Utc::now();
    let mut starts = false;
    let run = core
        .update(cell, |run| {
            starts = start(run, &core.instance, now);
        })
        .await?;
    if starts && run.attempts.len() == 1 {
        let waited = now - run.submitted_at;
        core.metrics
            .run_started(waited.to_std().unwrap_or_default());
    }
    Ok(starts)
}

/// Starts an attempt in the record, if the run is to start.
fn start(run: &mut Run, instance: &str, now: DateTime<Utc>) -> bool {
    if run.state.is_final() {
        return false;
    }
    // A start that seemed to fail may have been recorded all the same.
    let reason = "it did not begin".to_owned();
    close_attempt(run, now, Some(reason), Some(Interruption::SchedulerStopped));
    if run.cancel_requested {
        run.state = RunState::Cancelled;
        run.finished_at = Some(now);
        happened(run, now, "cancelled");
        return false;
    }
    run.state = RunState::Running;
    run.not_before = None;
    run.error = None;
    run.started_at = run.started_at.or(Some(now));
    run.attempts.push(Attempt {
        started_at: now,
        finished_at: None,
        reason: None,
        interrupted: None,
    });
    let attempt = run.attempts.len();
    happened(run, now, format!("attempt {attempt} starts on {instance}"));
    true
}

/// Records the end.
async fn finish(core: &Core, cell: &RunCell, notes: &Notes, ended: &Ended) -> crate::Result<()> {
    let now = Utc::now();
    let chance = f64::from(Uuid::now_v7().as_u128() as u16) / f64::from(u16::MAX);
    let run = core
        .update(cell, |run| {
            notes.apply(run);
            end(core, run, ended, now, chance);
        })
        .await?;
    count(&core.metrics, &run, ended);
    Ok(())
}

/// What the end of an attempt changes in the record.
fn end(core: &Core, run: &mut Run, ended: &Ended, now: DateTime<Utc>, chance: f64) {
    if run.state.is_final() {
        return;
    }
    let done = |run: &mut Run, state: RunState| {
        run.state = state;
        run.finished_at = Some(now);
    };
    match ended {
        Ended::Well => {
            let (state, reason) = conclude(&run.trigger, &run.dates);
            if let Some(reason) = &reason {
                happened(run, now, reason);
            }
            run.error = reason.filter(|_| state != RunState::Succeeded);
            close_attempt(run, now, run.error.clone(), None);
            done(run, state);
        }
        // A cancel goes before whatever else came in its way.
        _ if run.cancel_requested || matches!(ended, Ended::Stopped(Stop::Cancel)) => {
            close_attempt(run, now, Some("cancelled".to_owned()), None);
            happened(run, now, "cancelled");
            done(run, RunState::Cancelled);
        }
        Ended::Stopped(why) => {
            let (reason, interruption) = match why {
                Stop::GiveWay => ("made room for a scheduled run", Interruption::GaveWay),
                Stop::Cancel | Stop::Shutdown => {
                    ("scheduler stopped", Interruption::SchedulerStopped)
                }
            };
            close_attempt(run, now, Some(reason.to_owned()), Some(interruption));
            happened(run, now, reason);
            run.state = RunState::Queued;
        }
        Ended::Badly(failure) => {
            let reason = Some(failure.reason.clone());
            close_attempt(run, now, reason.clone(), failure.interrupted);
            match failure.next(run, &core.limits, chance) {
                Next::Fail => {
                    happened(run, now, format!("failed: {}", failure.reason));
                    run.error = reason;
                    done(run, RunState::Failed);
                }
                Next::Again(wait) => {
                    let wait_ms = wait.as_millis();
                    happened(
                        run,
                        now,
                        format!("tries again after {wait_ms} ms: {}", failure.reason),
                    );
                    run.error = reason;
                    run.state = RunState::Queued;
                    let wait = TimeDelta::from_std(wait).unwrap_or_default();
                    run.not_before = Some(now + wait);
                }
            }
        }
    }
}

fn count(metrics: &Metrics, run: &Run, ended: &Ended) {
    match ended {
        Ended::Badly(failure) => metrics.attempt_failed(failure.cause),
        Ended::Well if run.state == RunState::Failed => {
            metrics.attempt_failed(FailureCause::Input);
        }
        _ => {}
    }
}
