//! Changing the records of runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::UpdateVersion;
use tokio::sync::watch;

use super::{Core, RECENT_RUNS, State, recover};
use crate::error::{Error, Result};
use crate::model::{Event, Progress, Run, RunId, RunState, RunView};
use crate::queue::Item;
use crate::records::{Index, Indexed, Stored, Written, encode, parse};

/// Records written at once.
const CONCURRENT_WRITES: usize = 16;
/// Events that a run keeps.
const MAX_EVENTS: usize = 200;

/// Why a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked for it.
    Cancel,
    /// The scheduler stops.
    Shutdown,
    /// A scheduled run needs the dates of this one of a backfill or a repair.
    GiveWay,
}

/// A run that goes on.
pub(crate) struct RunCell {
    /// What to write against; held while writing, so that a run has one writer.
    version: tokio::sync::Mutex<UpdateVersion>,
    run: Mutex<Arc<Run>>,
    pub(super) progress: Mutex<Option<Progress>>,
    pub(super) view: watch::Sender<RunView>,
    /// Asks the attempt to stop.
    pub(crate) stop: watch::Sender<Option<Stop>>,
}

impl RunCell {
    fn new(stored: Stored<Run>) -> Self {
        let view = stored.value.view(None, Utc::now());
        Self {
            version: tokio::sync::Mutex::new(stored.version),
            run: Mutex::new(Arc::new(stored.value)),
            progress: Mutex::default(),
            view: watch::channel(view).0,
            stop: watch::channel(None).0,
        }
    }

    /// The run as it was recorded last.
    pub(crate) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.run.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Core {
    /// Adds a run as it was found in the lake.
    pub(super) fn know_run(&self, stored: Stored<Run>) {
        let run = &stored.value;
        let id = run.id;
        let mut state = self.state();
        state.index.put(Indexed::from(run));
        if run.state.is_final() {
            state.unindexed.entry(id.month()).or_default().push(id);
        } else {
            state.active.insert(id, Arc::new(RunCell::new(stored)));
        }
    }

    /// Takes up the runs that the scheduler before left unfinished.
    pub(super) async fn recover_all(&self) -> Result<()> {
        let cells: Vec<Arc<RunCell>> = self.state().active.values().cloned().collect();
        stream::iter(cells)
            .filter(|cell| {
                let run = cell.run();
                std::future::ready(run.state != RunState::Queued || run.cancel_requested)
            })
            .map(|cell| async move { self.recover_one(&cell).await })
            .buffer_unordered(CONCURRENT_WRITES)
            .try_collect()
            .await
    }

    async fn recover_one(&self, cell: &RunCell) -> Result<()> {
        let now = Utc::now();
        let recovered = self
            .update(cell, |run| recover(run, &self.limits, now))
            .await;
        match recovered {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error @ Error::Corrupt { .. }) => {
                self.report_corrupt(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes up a run that another scheduler queued after this one had read the records.
    pub(crate) async fn adopt(&self, stored: Stored<Run>) -> Result<()> {
        let id = stored.value.id;
        if stored.value.epoch > self.epoch {
            return Err(self.lost_to(stored.value.epoch));
        }
        self.know_run(stored);
        match self.active(id) {
            Some(cell) if cell.run().state != RunState::Queued => self.recover_one(&cell).await?,
            _ => {}
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a new run. `None` if a run of that id exists already.
    pub(crate) async fn queue(&self, run: Run) -> Result<Option<Arc<RunCell>>> {
        let Some(cell) = self.write_new(run).await? else {
            return Ok(None);
        };
        self.admit([&cell]);
        Ok(Some(self.active(cell.run().id).unwrap_or(cell)))
    }

    /// Queues new runs, none of which starts before all are written: else they would not start
    /// in their order. If one can't be written, those before it are queued all the same. One that
    /// exists already stays as it is.
    pub(crate) async fn queue_all(&self, runs: Vec<Run>) -> Result<()> {
        let writes: Vec<_> = runs.into_iter().map(|run| self.write_new(run)).collect();
        let is_one = writes.len() == 1;
        let mut results = stream::iter(writes).buffered(CONCURRENT_WRITES);
        let mut written: Vec<Arc<RunCell>> = Vec::new();
        let ended = loop {
            match results.next().await {
                Some(Ok(new)) => written.extend(new),
                // Others may have been written.
                Some(Err(error)) if !is_one => break Err(error.unsure()),
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        drop(results);
        self.admit(&written);
        ended
    }

    /// Writes the record of a new run.
    async fn write_new(&self, mut run: Run) -> Result<Option<Arc<RunCell>>> {
        self.check_open()?;
        run.epoch = self.epoch;
        let path = self.layout.run(run.id);
        let bytes = encode(&path, &run)?;
        let written = self.folder.write(&path, bytes, None).await;
        let version = match written.map_err(Error::perhaps_done)? {
            Written::Done(version) => version,
            Written::Conflict(None) => return Err(removed(run.id)),
            Written::Conflict(Some((bytes, version))) => {
                let value: Run = parse(&path, &bytes)?;
                if !self.with_index(|index| index.contains(value.id)) {
                    self.adopt(Stored { value, version }).await?;
                }
                return Ok(None);
            }
        };
        // Only now is it sure that a successor finds it.
        self.check_leads().map_err(Error::unsure)?;
        let stored = Stored {
            value: run,
            version,
        };
        Ok(Some(Arc::new(RunCell::new(stored))))
    }

    /// Takes runs that were written into the queue, all at once.
    fn admit<'a>(&self, cells: impl IntoIterator<Item = &'a Arc<RunCell>>) {
        let mut state = self.state();
        for cell in cells {
            let run = cell.run();
            // Whoever looks for strays may have found it first.
            if !state.index.contains(run.id) {
                state.index.put(Indexed::from(&*run));
                state.active.insert(run.id, Arc::clone(cell));
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Changes a run's record. `change` may be called several times, each time on what the record
    /// says then. The future may be dropped: the next change finds out whether it took effect.
    pub(crate) async fn update(
        &self,
        cell: &RunCell,
        mut change: impl FnMut(&mut Run),
    ) -> Result<Arc<Run>> {
        let mut version = cell.version.lock().await;
        let mut before: Run = (*cell.run()).clone();
        // What stands in the lake may differ from what is known since a write was given up.
        let mut known = true;
        loop {
            let mut after = before.clone();
            change(&mut after);
            if known && after == before {
                return Ok(cell.run());
            }
            after.epoch = self.epoch;
            let path = self.layout.run(after.id);
            let bytes = encode(&path, &after)?;
            match self.folder.write(&path, bytes, Some(&version)).await? {
                Written::Done(new) => {
                    *version = new;
                    return Ok(self.changed(cell, after));
                }
                Written::Conflict(None) => {
                    self.forget(after.id);
                    return Err(removed(after.id));
                }
                Written::Conflict(Some((bytes, found))) => {
                    before = parse(&path, &bytes)?;
                    if before.epoch > self.epoch {
                        return Err(self.lost_to(before.epoch));
                    }
                    if before.epoch < self.epoch {
                        // The last words of the scheduler before.
                        recover(&mut before, &self.limits, Utc::now());
                    }
                    *version = found;
                    known = false;
                }
            }
        }
    }

    /// Makes a change known that has been recorded.
    fn changed(&self, cell: &RunCell, run: Run) -> Arc<Run> {
        let now = Utc::now();
        let run = Arc::new(run);
        let ended = run.state.is_final();
        {
            let mut known = cell.run.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Arc::clone(&run);
        }
        if ended || run.state == RunState::Queued {
            *cell.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        cell.view.send_replace(run.view(cell.progress(), now));
        let mut state = self.state();
        state.index.put(Indexed::from(&*run));
        if ended && state.active.remove(&run.id).is_some() {
            let month = run.id.month();
            state.unindexed.entry(month).or_default().push(run.id);
            state.recent.truncate(RECENT_RUNS - 1);
            state.recent.push_front(Arc::clone(&run));
            let late = run.summary().is_late(now) && state.late.insert(run.id);
            drop(state);
            if late {
                self.metrics.run_late();
            }
            let begun = run.started_at.unwrap_or(now);
            let took = (now - begun).to_std().unwrap_or_default();
            self.metrics.run_finished(run.state, took);
            self.wake.notify_one();
        }
        run
    }

    /// Does nothing more for a run whose record is broken: that is for people.
    pub(crate) fn set_aside(&self, id: RunId, error: &Error) {
        self.report_corrupt(error);
        self.state().active.remove(&id);
        self.wake.notify_one();
    }

    fn forget(&self, id: RunId) {
        tracing::error!(%id, "the record of a run was removed");
        self.state().active.remove(&id);
    }

    /// Tells the metrics of runs that have passed their deadline.
    pub(crate) fn count_late(&self) {
        let now = Utc::now();
        let mut state = self.state();
        let State { active, late, .. } = &mut *state;
        for (id, cell) in active {
            if cell.run().summary().is_late(now) && late.insert(*id) {
                self.metrics.run_late();
            }
        }
    }

    /// A run that goes on.
    pub(crate) fn active(&self, id: RunId) -> Option<Arc<RunCell>> {
        self.state().active.get(&id).cloned()
    }

    /// All runs that go on, as the queue sees them.
    pub(crate) fn items(&self) -> Vec<(Item, RunState)> {
        let state = self.state();
        let runs = state.active.values().map(|cell| cell.run());
        runs.map(|run| (Item::from(&*run), run.state)).collect()
    }

    /// All runs that go on.
    pub(crate) fn unfinished(&self) -> Vec<Arc<Run>> {
        let state = self.state();
        state.active.values().map(|cell| cell.run()).collect()
    }

    /// A run's record.
    pub(crate) async fn read_run(&self, id: RunId) -> Result<Arc<Run>> {
        let missing = || Error::NotFound {
            what: "run",
            name: id.to_string(),
        };
        {
            let state = self.state();
            if let Some(cell) = state.active.get(&id) {
                return Ok(cell.run());
            }
            if let Some(run) = state.recent.iter().find(|run| run.id == id) {
                return Ok(Arc::clone(run));
            }
            if !state.index.contains(id) {
                return Err(missing());
            }
        }
        let path = self.layout.run(id);
        let stored = self.folder.read_record::<Run>(&path).await?;
        Ok(Arc::new(stored.ok_or_else(missing)?.value))
    }

    /// Ended runs of a month that are in no segment of the index, if there are at least so many,
    /// or if no run of a month that is over goes on any more.
    pub(crate) fn take_unindexed(
        &self,
        this_month: &str,
        least: usize,
        most: usize,
    ) -> Option<(String, Vec<Indexed>)> {
        let mut state = self.state();
        let State {
            index,
            unindexed,
            active,
            ..
        } = &mut *state;
        let going_on: HashSet<String> = active.keys().map(|id| id.month()).collect();
        let enough = |month: &String, ids: &[RunId]| {
            let is_over = month.as_str() < this_month && !going_on.contains(month);
            ids.len() >= least || (is_over && !ids.is_empty())
        };
        let (month, ids) = unindexed
            .iter_mut()
            .find(|(month, ids)| enough(month, ids))?;
        let taken = ids.split_off(ids.len().saturating_sub(most));
        let runs = taken.iter().filter_map(|id| index.get(*id).cloned());
        Some((month.clone(), runs.collect()))
    }

    /// Puts back what could not be written.
    pub(crate) fn put_unindexed(&self, month: String, ids: Vec<RunId>) {
        self.state().unindexed.entry(month).or_default().extend(ids);
    }

    /// Looks into the index.
    pub(crate) fn with_index<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.state().index)
    }
}

fn removed(id: RunId) -> Error {
    Error::NotFound {
        what: "run",
        name: id.to_string(),
    }
}

/// Adds an event; the oldest go when there are many.
pub(crate) fn happened(run: &mut Run, at: DateTime<Utc>, message: impl Into<String>) {
    let event = Event {
        at,
        message: message.into(),
    };
    // A change that is applied twice says things once.
    if !run.events.contains(&event) {
        run.events.push(event);
    }
    let surplus = run.events.len().saturating_sub(MAX_EVENTS);
    run.events.drain(..surplus);
}
