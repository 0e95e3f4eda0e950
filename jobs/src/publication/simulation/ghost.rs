//! The ghost log: what really happened, and the invariants that it must satisfy.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use object_store::path::Path;

use super::actors::target_paths;
use super::world::State;
use crate::publication::commit::sha256_hex;
use crate::publication::{Commit, CommitRef, Error, Fingerprint, Latest, Outcome, RunId};

#[derive(Debug, Default)]
pub(super) struct Ghost {
    /// Every effective change of a commit point, by date, in order.
    logs: BTreeMap<NaiveDate, Vec<Commit>>,
    latest: Option<NaiveDate>,
    runs: BTreeMap<RunId, Run>,
}

#[derive(Debug)]
pub(super) struct Run {
    /// `None` for a rollback, which takes an old generation's.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) force: bool,
    /// Known once the run has begun.
    pub(super) epoch: Option<u64>,
    /// What the run was told: `None` while it runs, or if it died.
    pub(super) told: Option<Told>,
}

#[derive(Debug)]
pub(super) enum Told {
    Outcome(Outcome),
    Unknown,
    Failed,
}

impl From<Result<Outcome, Error>> for Told {
    fn from(result: Result<Outcome, Error>) -> Self {
        match result {
            Ok(outcome) => Self::Outcome(outcome),
            Err(Error::OutcomeUnknown { .. }) => Self::Unknown,
            Err(_) => Self::Failed,
        }
    }
}

impl Ghost {
    pub(super) fn log(&self, date: NaiveDate) -> &[Commit] {
        self.logs.get(&date).map_or(&[], Vec::as_slice)
    }

    pub(super) fn dates(&self) -> Vec<NaiveDate> {
        self.logs.keys().copied().collect()
    }

    pub(super) fn begin(&mut self, run_id: RunId, run: Run) {
        self.runs.insert(run_id, run);
    }

    pub(super) fn run(&mut self, run_id: RunId) -> &mut Run {
        self.runs.get_mut(&run_id).unwrap()
    }

    pub(super) fn refers_to(&self, path: &Path) -> bool {
        let mut commits = self.logs.values().flatten();
        commits.any(|commit| target_paths(commit).iter().any(|(held, _)| held == path))
    }
}

impl State {
    /// Checks and logs a write that has just taken effect.
    pub(super) fn witness(&mut self, path: &Path) {
        let bytes = self.objects[path].bytes.clone();
        match path.filename() {
            Some("current.json") => match serde_json::from_slice(&bytes) {
                Ok(commit) => self.witness_commit(commit),
                Err(error) => self.fail(format!("{path}: {error}")),
            },
            Some("latest.json") => {
                let latest: Latest = serde_json::from_slice(&bytes).unwrap();
                if self.ghost.latest > Some(latest.date) {
                    self.fail("latest.json moved back".to_owned());
                }
                self.ghost.latest = Some(latest.date);
            }
            _ => {}
        }
    }

    fn witness_commit(&mut self, commit: Commit) {
        let id = commit.id;
        let last = self.ghost.log(commit.date).last().cloned();
        let last_id = last.as_ref().map(|last| last.id);
        let follows = last_id.map_or(0, |last| last.generation) + 1;
        let rank = |id: &CommitRef| (id.epoch, id.run_id);
        self.note(|| format!("COMMITTED {id:?} after {last_id:?}"));
        if id.generation != follows || commit.previous != last_id {
            self.fail(format!("{id:?} does not follow {last_id:?}"));
        }
        if last_id.is_some_and(|last| rank(&last) >= rank(&id)) {
            self.fail(format!("{id:?} does not rise over {last_id:?}"));
        }
        let mut logged = self.ghost.logs.values().flatten();
        if logged.any(|earlier| earlier.id.run_id == id.run_id) {
            self.fail(format!("run {} committed twice", id.run_id));
        }
        let run = self.ghost.run(id.run_id);
        let asked = run.force || run.fingerprint.is_none();
        if !asked && last.is_some_and(|last| last.covers(&commit.fingerprint)) {
            self.fail(format!("{id:?}: what was current was published again"));
        }
        self.check_whole(&commit);
        self.tally.commits += 1;
        self.tally.rollbacks += u64::from(commit.rolled_back_to.is_some());
        self.ghost.logs.entry(commit.date).or_default().push(commit);
    }

    /// A commit's files and manifest are there and say what they should.
    fn check_whole(&mut self, commit: &Commit) {
        for (path, sha256) in target_paths(commit) {
            let object = self.objects.get(&path);
            let whole = object.is_some_and(|object| match &sha256 {
                Some(sha256) => sha256_hex(&object.bytes) == *sha256,
                None => {
                    serde_json::from_slice::<Commit>(&object.bytes)
                        .ok()
                        .as_ref()
                        == Some(commit)
                }
            });
            if !whole {
                self.fail(format!("{:?}: {path} is not whole", commit.id));
            }
        }
    }

    /// A reader has read `commit` whole, having begun when the log held `before` commits.
    pub(super) fn check_read(
        &mut self,
        date: NaiveDate,
        before: usize,
        commit: Option<&Commit>,
        seen: &mut u64,
    ) {
        let log = self.ghost.log(date);
        let was_current = match commit {
            None => before == 0,
            Some(commit) => log[before.saturating_sub(1)..].contains(commit),
        };
        if !was_current {
            let id = commit.map(|commit| commit.id);
            self.fail(format!("a reader saw {id:?}, which was not current"));
        }
        let generation = commit.map_or(0, |commit| commit.id.generation);
        if generation < *seen {
            self.fail(format!("a reader went back from {seen} to {generation}"));
        }
        *seen = generation;
        self.tally.whole_reads += 1;
    }

    /// After all is over: what is published stays whole, and what each run was told is true.
    pub(super) fn check_end(&mut self) {
        let commits: Vec<Commit> = self.ghost.logs.values().flatten().cloned().collect();
        for commit in &commits {
            self.check_whole(commit);
        }
        if self.faults == 0 && self.tally.crashes == 0 {
            let newest = self.ghost.logs.keys().max().copied();
            if self.ghost.latest != newest {
                self.fail(format!("latest.json does not say {newest:?}"));
            }
        }
        let runs = std::mem::take(&mut self.ghost.runs);
        for (run_id, run) in runs {
            let held = commits.iter().find(|commit| commit.id.run_id == run_id);
            let held = held.map(|commit| commit.id.generation);
            let by_is_logged = |by: &CommitRef| commits.iter().find(|commit| commit.id == *by);
            let truth = match &run.told {
                None => true,
                Some(Told::Unknown) => {
                    self.tally.unknown += 1;
                    true
                }
                Some(Told::Failed) => {
                    self.tally.failed += 1;
                    held.is_none() && self.faults > 0
                }
                Some(Told::Outcome(Outcome::Committed { generation })) => held == Some(*generation),
                Some(Told::Outcome(Outcome::AlreadyCurrent { by })) => {
                    self.tally.already_current += 1;
                    let covers = by_is_logged(by).is_some_and(|by| {
                        let fingerprint = run.fingerprint.as_ref();
                        fingerprint.is_none_or(|fingerprint| by.covers(fingerprint))
                    });
                    held.is_none() && covers && !run.force
                }
                Some(Told::Outcome(Outcome::Fenced { by })) => {
                    self.tally.fenced += 1;
                    let higher = run
                        .epoch
                        .is_none_or(|epoch| (by.epoch, by.run_id) > (epoch, run_id));
                    held.is_none() && by_is_logged(by).is_some() && higher
                }
            };
            if !truth {
                let told = &run.told;
                self.fail(match held {
                    Some(held) => format!("{run_id} was told {told:?} but committed {held}"),
                    None => format!("{run_id} was told {told:?}, which is not true"),
                });
            }
        }
    }
}
