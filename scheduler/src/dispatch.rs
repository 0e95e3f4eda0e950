//! What a leading scheduler does by itself: it starts runs, follows the calendar, mends gaps and
//! keeps its records in order.

mod attempt;
mod firings;
mod housekeeping;
mod judge;
mod observer;
mod repair;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rankmill_engine::Session;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::core::{Core, Stop};
use crate::gaps::Gaps;
use crate::generate::LoadGenerator;
use crate::model::{RunId, RunState};
use crate::queue::{Item, giving_way, startable};

/// How often is looked for runs whose wait is over, besides when something happens.
const TICK: Duration = Duration::from_secs(1);
/// How long runs may take to be put back when the scheduler stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What runs need.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    pub(crate) core: Arc<Core>,
    pub(crate) session: Session,
    pub(crate) generator: Arc<dyn LoadGenerator>,
    pub(crate) gaps: Gaps,
}

/// Why a dispatcher is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The scheduler stops: runs go back to the queue.
    Shutdown,
    /// Another one leads: nothing more is done.
    Lost,
}

impl Dispatcher {
    /// Works until told to end.
    pub(crate) async fn work(self, mut halt: watch::Receiver<Option<Halt>>) {
        let mut chores = JoinSet::new();
        let this = self.clone();
        chores.spawn(async move { this.follow_calendar().await });
        let this = self.clone();
        chores.spawn(async move { this.repair().await });
        let this = self.clone();
        chores.spawn(async move { this.keep_house().await });

        let mut attempts = Attempts::default();
        let why = loop {
            let wait = attempts.start(&self);
            tokio::select! {
                biased;
                why = halt.wait_for(Option::is_some) => {
                    break why.ok().and_then(|why| *why).unwrap_or(Halt::Lost);
                }
                () = attempts.ended() => {}
                () = self.core.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        };
        // Dropping the tasks drops what they compute.
        drop(chores);
        if why == Halt::Shutdown {
            self.core.close();
            attempts.stop(&self.core).await;
        }
    }
}

/// How long until a queued run's wait is over; at most a tick.
fn until_next(queued: &[Item], now: DateTime<Utc>) -> Duration {
    let waits = queued.iter().map(|item| item.ready_at - now);
    let next = waits.filter(|wait| *wait > TimeDelta::zero()).min();
    let next = next.and_then(|wait| wait.to_std().ok());
    next.map_or(TICK, |wait| wait.min(TICK))
}

/// The attempts under way.
#[derive(Default)]
struct Attempts {
    tasks: JoinSet<()>,
    runs: HashMap<Id, RunId>,
}

impl Attempts {
    /// Starts what may start; gives how long to wait before looking again.
    fn start(&mut self, dispatcher: &Dispatcher) -> Duration {
        let core = &dispatcher.core;
        let under_way = |id: RunId| self.runs.values().any(|run| *run == id);
        let mut running: Vec<Item> = Vec::new();
        let mut queued: Vec<Item> = Vec::new();
        for (item, state) in core.items() {
            if under_way(item.id) {
                running.push(item);
            } else if state == RunState::Queued {
                queued.push(item);
            }
        }
        let now = Utc::now();
        for id in startable(&queued, &running, &core.limits, now) {
            let Some(cell) = core.active(id) else {
                continue;
            };
            cell.stop.send_replace(None);
            let attempt = dispatcher.clone().attempt(cell);
            let task = self.tasks.spawn(attempt);
            self.runs.insert(task.id(), id);
        }
        for id in giving_way(&queued, &running, &core.limits, now) {
            if let Some(cell) = core.active(id) {
                // A cancel is not taken back.
                let gives_way = |stop: &mut Option<Stop>| {
                    let unasked = stop.is_none();
                    stop.get_or_insert(Stop::GiveWay);
                    unasked
                };
                cell.stop.send_if_modified(gives_way);
            }
        }
        core.count_runs();
        until_next(&queued, now)
    }

    /// One has ended.
    async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((task, ()))) => drop(self.runs.remove(&task)),
            Some(Err(error)) => {
                tracing::error!(%error, "an attempt ended badly");
                self.runs.remove(&error.id());
            }
        }
    }

    /// Puts what runs back into the queue.
    async fn stop(&mut self, core: &Core) {
        for id in self.runs.values() {
            if let Some(cell) = core.active(*id) {
                cell.stop.send_replace(Some(Stop::Shutdown));
            }
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("some runs could not be put back; the next scheduler finds them");
        }
    }
}
