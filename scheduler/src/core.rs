//! What a leading scheduler knows: its jobs, every run, and the runs that go on. All changes of
//! records go through here, carry its epoch, and end with it once another scheduler leads.

mod jobs;
mod progress;
mod recover;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rankmill_jobs::publication::Retry;
use tokio::sync::{Notify, watch};

pub(crate) use jobs::{JobEntry, no_job};
pub(crate) use recover::{close_attempt, recover};
pub(crate) use runs::{RunCell, Stop, happened};

use crate::error::{Error, Result};
use crate::lease::Standing;
use crate::metrics::Metrics;
use crate::model::{Run, RunId, RunState};
use crate::options::Limits;
use crate::records::{Folder, Index, Layout, Loaded, load};

/// For so long after a change of leaders, the one before may queue runs without having noticed.
pub(crate) const STRAY_AGE: Duration = Duration::from_secs(10 * 60);
/// Ended runs whose records are kept in memory.
const RECENT_RUNS: usize = 256;

/// What a leading scheduler knows.
pub(crate) struct Core {
    pub(crate) folder: Folder,
    pub(crate) layout: Layout,
    pub(crate) lake: String,
    pub(crate) instance: String,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Told when a run may have become startable.
    pub(crate) wake: Notify,
    standing: watch::Receiver<Standing>,
    /// Set once a record shows that another scheduler has taken over.
    fenced: watch::Sender<Option<u64>>,
    state: Mutex<State>,
    /// Held while a job's record is written.
    job_writes: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<String, Arc<JobEntry>>,
    index: Index,
    active: BTreeMap<RunId, Arc<RunCell>>,
    recent: VecDeque<Arc<Run>>,
    /// Ended runs that are in no segment of the index yet, by month.
    unindexed: HashMap<String, Vec<RunId>>,
    /// Runs that the metrics were told are late.
    late: HashSet<RunId>,
    /// Records that can't be parsed, with the reason.
    corrupt: Vec<String>,
    /// It stops: nothing new is accepted.
    closed: bool,
}

/// What a core is made of.
pub(crate) struct CoreOptions {
    pub(crate) folder: Folder,
    pub(crate) layout: Layout,
    pub(crate) lake: String,
    pub(crate) instance: String,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) standing: watch::Receiver<Standing>,
}

impl Core {
    /// Reads the records, and queues what the scheduler before left unfinished.
    pub(crate) async fn take_over(options: CoreOptions) -> Result<Arc<Self>> {
        let begun = Instant::now();
        let loaded = load(&options.folder, &options.layout).await?;
        let core = Arc::new(Self {
            folder: options.folder,
            layout: options.layout,
            lake: options.lake,
            instance: options.instance,
            epoch: options.epoch,
            limits: options.limits,
            metrics: options.metrics,
            wake: Notify::new(),
            standing: options.standing,
            fenced: watch::channel(None).0,
            state: Mutex::default(),
            job_writes: tokio::sync::Mutex::default(),
        });
        core.fill(loaded);
        core.recover_all().await?;
        core.count_runs();
        let (runs, jobs) = {
            let state = core.state();
            (state.index.len(), state.jobs.len())
        };
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(epoch = core.epoch, runs, jobs, took_ms, "took over");
        Ok(core)
    }

    fn fill(&self, loaded: Loaded) {
        for error in loaded.corrupt {
            self.report_corrupt(&error);
        }
        for job in loaded.jobs {
            self.know_job(job);
        }
        let mut state = self.state();
        for run in loaded.indexed {
            state.index.put(run);
        }
        drop(state);
        for run in loaded.runs {
            self.know_run(run);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this scheduler leads now. What was written before a check that succeeds was
    /// written before any successor read the records.
    pub(crate) fn check_leads(&self) -> Result<()> {
        if let Some(epoch) = *self.fenced.borrow() {
            return Err(Error::Fenced { epoch });
        }
        match &*self.standing.borrow() {
            Standing::Leads { epoch, until } if *epoch == self.epoch && Instant::now() < *until => {
                Ok(())
            }
            _ => Err(Error::Standby { leader: None }),
        }
    }

    /// Whether something new may be queued.
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.state().closed {
            true => Err(Error::Standby { leader: None }),
            false => self.check_leads(),
        }
    }

    /// Nothing new is accepted from here on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Ends the streams of those who watch runs.
    pub(crate) fn forget_runs(&self) {
        self.state().active.clear();
    }

    /// Another scheduler has written a record.
    fn lost_to(&self, epoch: u64) -> Error {
        let _ = self.fenced.send_replace(Some(epoch));
        Error::Fenced { epoch }
    }

    /// Hears when a record shows that another scheduler has taken over.
    pub(crate) fn fenced(&self) -> watch::Receiver<Option<u64>> {
        self.fenced.subscribe()
    }

    /// Logs a record that can't be parsed, once.
    pub(crate) fn report_corrupt(&self, error: &Error) {
        let text = error.describe();
        let mut state = self.state();
        if !state.corrupt.contains(&text) {
            tracing::error!("{text}");
            state.corrupt.push(text);
        }
    }

    /// Tells the metrics how many runs are in each state.
    pub(crate) fn count_runs(&self) {
        for state in [
            RunState::Queued,
            RunState::Running,
            RunState::Publishing,
            RunState::Succeeded,
            RunState::Failed,
            RunState::Cancelled,
            RunState::Fenced,
        ] {
            let count = self.with_index(|index| index.count(state));
            self.metrics.set_runs(state, count as usize);
        }
    }
}

/// How long records are tried to be read and written: longer than a lease lasts.
pub(crate) const RECORD_RETRY: Retry = Retry {
    attempts: 10,
    first_wait: std::time::Duration::from_millis(50),
    longest_wait: std::time::Duration::from_secs(3),
};
