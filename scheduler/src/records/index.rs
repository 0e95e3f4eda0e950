//! What is known of every run, in memory, so that lists and look-ups cost no request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Run, RunId, RunState, RunSummary, Trigger};

/// A run in the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    #[serde(flatten)]
    pub(crate) summary: RunSummary,
    /// Name of the token it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) submitted_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_sha256: Option<String>,
}

impl From<&Run> for Indexed {
    fn from(run: &Run) -> Self {
        Self {
            summary: run.summary(),
            submitted_by: run.submitted_by.clone(),
            idempotency_key: run.idempotency_key.clone(),
            request_sha256: run.request_sha256.clone(),
        }
    }
}

/// Who gave a key, and which: two tokens never share a key.
type Key = (Option<String>, String);

/// Every run.
#[derive(Debug, Default)]
pub(crate) struct Index {
    runs: BTreeMap<RunId, Indexed>,
    by_job: HashMap<String, BTreeSet<RunId>>,
    by_key: HashMap<Key, RunId>,
    counts: HashMap<RunState, u64>,
}

impl Index {
    /// Adds a run, or replaces what is known of it.
    pub(crate) fn put(&mut self, run: Indexed) {
        let id = run.summary.id;
        if let Some(job) = &run.summary.job {
            match self.by_job.get_mut(job) {
                Some(runs) => {
                    runs.insert(id);
                }
                None => {
                    self.by_job.insert(job.clone(), BTreeSet::from([id]));
                }
            }
        }
        if let Some(key) = &run.idempotency_key {
            let key = (run.submitted_by.clone(), key.clone());
            self.by_key.insert(key, id);
        }
        *self.counts.entry(run.summary.state).or_default() += 1;
        if let Some(before) = self.runs.insert(id, run)
            && let Some(count) = self.counts.get_mut(&before.summary.state)
        {
            *count -= 1;
        }
    }

    pub(crate) fn get(&self, id: RunId) -> Option<&Indexed> {
        self.runs.get(&id)
    }

    pub(crate) fn contains(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// The run that was submitted under a key.
    pub(crate) fn by_key(&self, by: Option<&str>, key: &str) -> Option<&Indexed> {
        let key = (by.map(str::to_owned), key.to_owned());
        self.by_key.get(&key).and_then(|id| self.runs.get(id))
    }

    /// All runs, newest first, of one job if one is named, older than `before` if that is given.
    pub(crate) fn newest<'a>(
        &'a self,
        job: Option<&str>,
        before: Option<RunId>,
    ) -> Box<dyn Iterator<Item = &'a RunSummary> + 'a> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Unbounded, end);
        match job {
            None => Box::new(self.runs.range(range).rev().map(|(_, run)| &run.summary)),
            Some(job) => match self.by_job.get(job) {
                None => Box::new(std::iter::empty()),
                Some(ids) => Box::new(
                    ids.range(range)
                        .rev()
                        .filter_map(|id| self.runs.get(id))
                        .map(|run| &run.summary),
                ),
            },
        }
    }

    /// How many runs are in a state. Asked several times a second, however many runs there are.
    pub(crate) fn count(&self, state: RunState) -> u64 {
        self.counts.get(&state).copied().unwrap_or(0)
    }

    /// For each of some dates of a job, the newest run for it that has ended.
    pub(crate) fn newest_ended(
        &self,
        job: &str,
        dates: &BTreeSet<NaiveDate>,
    ) -> BTreeMap<NaiveDate, &RunSummary> {
        let mut open = dates.clone();
        let mut found = BTreeMap::new();
        for run in self.newest(Some(job), None) {
            if open.is_empty() {
                break;
            }
            let (true, Some(from), Some(to)) = (run.state.is_final(), run.from, run.to) else {
                continue;
            };
            let covered: Vec<NaiveDate> = open.range(from..=to).copied().collect();
            for date in covered {
                open.remove(&date);
                found.insert(date, run);
            }
        }
        found
    }

    /// Whether the schedule of a job has queued a run for a time it was due.
    pub(crate) fn has_fired(&self, job: &str, fire_at: DateTime<Utc>) -> bool {
        let id = RunId::of_firing(job, fire_at);
        self.runs
            .get(&id)
            .is_some_and(|run| matches!(run.summary.trigger, Trigger::Schedule { .. }))
    }
}
