//! Mends gaps without being asked: queues runs for dates of the last days that need one.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use rankmill_jobs::spec::Schedule;
use tokio::time::Instant;

use super::Dispatcher;
use crate::calendar::next_firing;
use crate::core::JobEntry;
use crate::error::Result;
use crate::model::{DateState, Run, RunKind, RunState, RunSummary, Trigger};

/// How often jobs are looked over for one that is due to be checked.
const TICK: Duration = Duration::from_secs(15);
/// How often a job's dates are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5 * 60);
/// A date whose run has failed, or was stopped by somebody, is left alone for so long.
const AFTER_FAILURE: TimeDelta = TimeDelta::hours(6);

impl Dispatcher {
    pub(super) async fn repair(&self) {
        let mut checked: HashMap<String, Instant> = HashMap::new();
        loop {
            tokio::time::sleep(TICK).await;
            for entry in self.core.jobs() {
                let name = &entry.job.name;
                let last = checked.get(name);
                if last.is_some_and(|last| last.elapsed() < CHECK_EVERY) {
                    continue;
                }
                checked.insert(name.clone(), Instant::now());
                if let Err(error) = self.repair_job(&entry, Utc::now()).await {
                    tracing::warn!(job = name, "{}", error.describe());
                }
            }
        }
    }

    /// Queues a run for each date of the horizon that needs one.
    pub(super) async fn repair_job(&self, entry: &JobEntry, now: DateTime<Utc>) -> Result<()> {
        let (spec, params) = entry.spec()?;
        let Some(schedule) = spec.schedule.as_ref().filter(|_| !entry.job.paused) else {
            return Ok(());
        };
        self.access.check(spec, params)?;
        let mut dates: BTreeSet<NaiveDate> = horizon(schedule, now).into_iter().collect();
        let job = &entry.job.name;
        self.core.with_index(|index| {
            for run in index.newest(Some(job), None) {
                if keeps_off(run, now)
                    && let (Some(from), Some(to)) = (run.from, run.to)
                {
                    dates.retain(|date| *date < from || to < *date);
                }
            }
        });
        let dates: Vec<NaiveDate> = dates.into_iter().collect();
        if dates.is_empty() {
            return Ok(());
        }
        let statuses = self.gaps.check(spec, params, &dates).await?;
        for status in statuses.iter().rev() {
            if !matches!(status.state, DateState::Missing | DateState::Stale) {
                continue;
            }
            let kind = RunKind::Ranking {
                job: job.clone(),
                spec: entry.job.spec.clone(),
                set: entry.job.set.clone(),
                from: status.date,
                to: status.date,
                force: false,
                allow_empty: false,
            };
            self.core
                .queue(Run::new(kind, Trigger::Repair, now))
                .await?;
        }
        Ok(())
    }
}

/// The dates that are looked after: they are over, and the schedule has fired for them.
fn horizon(schedule: &Schedule, now: DateTime<Utc>) -> Vec<NaiveDate> {
    let today = now.with_timezone(&schedule.zone()).date_naive();
    let next = next_firing(schedule, now).map_or(today, |firing| firing.to);
    let end = today.min(next);
    (1..=u64::from(schedule.repair_days))
        .filter_map(|days| end.checked_sub_days(Days::new(days)))
        .collect()
}

/// Whether a run's dates are to be left alone: it does them, or has just failed to, or somebody
/// didn't want it.
fn keeps_off(run: &RunSummary, now: DateTime<Utc>) -> bool {
    let in_vain = matches!(run.state, RunState::Failed | RunState::Cancelled);
    let failed_at = run.finished_at.filter(|_| in_vain);
    !run.state.is_final() || failed_at.is_some_and(|at| now - at < AFTER_FAILURE)
}
