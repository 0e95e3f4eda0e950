//! Mends gaps without being asked: queues runs for dates of the last days that need one.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use rankmill_jobs::spec::Schedule;
use tokio::time::Instant;

use super::Dispatcher;
use crate::calendar::last_firing;
use crate::core::JobEntry;
use crate::error::{Error, Result};
use crate::gaps::{choose, with_followers};
use crate::model::{
    BackfillOnly, BackfillOrder, Run, RunId, RunKind, RunState, RunSummary, Trigger,
};

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
        let job = &entry.job.name;
        let dates = self.without_tried(job, horizon(schedule, now), now).await?;
        if dates.is_empty() {
            return Ok(());
        }
        let dates: Vec<NaiveDate> = dates.into_iter().collect();
        let statuses = self.gaps.check(spec, params, &dates).await?;
        let newest_first = choose(&statuses, BackfillOnly::Needed, BackfillOrder::Newest);
        let needed = match spec.compares_ranks() {
            // Each date needs the one before it.
            true => with_followers(&statuses, &newest_first),
            false => newest_first,
        };
        for status in needed {
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

    /// Leaves out the dates of runs that go on, and for a while those that a run has failed on or
    /// that somebody didn't want.
    async fn without_tried(
        &self,
        job: &str,
        mut dates: BTreeSet<NaiveDate>,
        now: DateTime<Utc>,
    ) -> Result<BTreeSet<NaiveDate>> {
        let mut failed: Vec<RunId> = Vec::new();
        self.core.with_index(|index| {
            for run in index.newest(Some(job), None) {
                let (Some(from), Some(to)) = (run.from, run.to) else {
                    continue;
                };
                match tried(run, now) {
                    Tried::No => {}
                    Tried::Whole => dates.retain(|date| *date < from || to < *date),
                    Tried::Partly if dates.range(from..=to).next().is_some() => failed.push(run.id),
                    Tried::Partly => {}
                }
            }
        });
        for id in failed {
            match self.core.read_run(id).await {
                Ok(run) => dates.retain(|date| !failed_on(&run, *date)),
                // Nothing can be told from it.
                Err(Error::NotFound { .. } | Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(dates)
    }
}

/// The dates that are looked after: they are over, and the schedule has fired for them.
fn horizon(schedule: &Schedule, now: DateTime<Utc>) -> BTreeSet<NaiveDate> {
    let yesterday = now.with_timezone(&schedule.zone()).date_naive().pred_opt();
    let last = last_firing(schedule, now).map(|firing| firing.to);
    let newest = last
        .zip(yesterday)
        .map(|(last, yesterday)| last.min(yesterday));
    newest
        .into_iter()
        .flat_map(|newest| (0..schedule.repair_days).map(move |days| (newest, days)))
        .filter_map(|(newest, days)| newest.checked_sub_days(Days::new(days.into())))
        .collect()
}

/// Which of a run's dates are to be left alone.
enum Tried {
    No,
    /// All: it does them, or somebody stopped it.
    Whole,
    /// Those on which it has failed.
    Partly,
}

fn tried(run: &RunSummary, now: DateTime<Utc>) -> Tried {
    let lately = run.finished_at.is_some_and(|at| now - at < AFTER_FAILURE);
    match run.state {
        RunState::Failed if lately => Tried::Partly,
        RunState::Cancelled if lately => Tried::Whole,
        state if state.is_final() => Tried::No,
        _ => Tried::Whole,
    }
}

/// Whether a run that failed did so on a date. One that came to an end of a date did not, also
/// if there was no input: that may have come since.
fn failed_on(run: &Run, date: NaiveDate) -> bool {
    let RunKind::Ranking { from, to, .. } = &run.kind else {
        return false;
    };
    (*from..=*to).contains(&date) && run.dates.iter().all(|result| result.date != date)
}

#[cfg(test)]
mod tests;
