//! Follows the calendar: queues the runs that are due.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Dispatcher;
use crate::calendar::{Firing, due};
use crate::core::JobEntry;
use crate::error::{Error, Result};
use crate::model::{Run, RunId, RunKind, RunState, Trigger};

/// How often is looked.
const TICK: Duration = Duration::from_secs(1);

impl Dispatcher {
    pub(super) async fn follow_calendar(&self) {
        // Up to where each job's schedule has been looked at, by this scheduler.
        let mut looked: HashMap<String, DateTime<Utc>> = HashMap::new();
        loop {
            let now = Utc::now();
            for entry in self.core.jobs() {
                let name = entry.job.name.clone();
                let from = match looked.get(&name) {
                    Some(looked) => entry.job.fired_until.max(*looked),
                    None => entry.job.fired_until,
                };
                match self.fire(&entry, from, now).await {
                    Ok(until) => drop(looked.insert(name, until)),
                    Err(error) => tracing::warn!(job = name, "{}", error.describe()),
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Queues what is due of a job; gives the time from which to look next.
    pub(super) async fn fire(
        &self,
        entry: &JobEntry,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>> {
        let Ok((spec, _)) = entry.spec() else {
            return Ok(from);
        };
        let Some(schedule) = spec.schedule.as_ref().filter(|_| !entry.job.paused) else {
            return Ok(from);
        };
        let firings = due(schedule, from, now);
        let Some(last) = firings.last().map(|firing| firing.at) else {
            return Ok(now.max(from));
        };
        for firing in &firings {
            let job = &entry.job.name;
            if !self
                .core
                .with_index(|index| index.has_fired(job, firing.at))
            {
                // One that exists already was queued before a crash.
                self.core.queue(scheduled(entry, firing, now)).await?;
            }
        }
        match self.core.fired(&entry.job.name, last).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(last),
            Err(error) => Err(error),
        }
    }
}

fn scheduled(entry: &JobEntry, firing: &Firing, now: DateTime<Utc>) -> Run {
    let kind = RunKind::Ranking {
        job: entry.job.name.clone(),
        spec: entry.job.spec.clone(),
        set: entry.job.set.clone(),
        from: firing.from,
        to: firing.to,
        force: false,
        allow_empty: false,
    };
    let trigger = Trigger::Schedule { fire_at: firing.at };
    Run {
        id: RunId::of_firing(&entry.job.name, firing.at),
        deadline: firing.deadline,
        ..Run::new(kind, trigger, now)
    }
}

impl Run {
    /// A queued run.
    pub(crate) fn new(kind: RunKind, trigger: Trigger, now: DateTime<Utc>) -> Self {
        Self {
            id: RunId::new(),
            kind,
            trigger,
            state: RunState::Queued,
            submitted_at: now,
            started_at: None,
            finished_at: None,
            not_before: None,
            deadline: None,
            attempts: Vec::new(),
            dates: Vec::new(),
            events: Vec::new(),
            skew: None,
            error: None,
            cancel_requested: false,
            idempotency_key: None,
            request_sha256: None,
            submitted_by: None,
            epoch: 0,
        }
    }
}
