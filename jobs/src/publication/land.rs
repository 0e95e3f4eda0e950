//! The commit itself: the manifest, then `current.json`, until the outcome is known.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::PutMode;

use super::commit::{Commit, CommitRef, Fingerprint, PublishedFile, VERSION};
use super::decide::{Claim, Decision};
use super::error::is_transient;
use super::latest::{self, Latest};
use super::mark;
use super::reader::read_manifest;
use super::target::store_error;
use super::{Error, Outcome, Publication};

/// What decides after a failed attempt: [`decide`](super::decide::decide), except in tests that
/// prove that the simulation would notice a wrong one.
pub(super) type Judge = fn(&Claim<'_>, Option<&Commit>, &[CommitRef]) -> Decision;

/// The part of a commit that does not depend on the commit it replaces.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) job: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) rows: u64,
    pub(super) files: Vec<PublishedFile>,
    pub(super) rolled_back_to: Option<u64>,
}

impl Publication {
    pub(super) async fn land(
        &mut self,
        judge: Judge,
        body: &Body,
        force: bool,
    ) -> Result<Outcome, Error> {
        // Once, so that a repeated attempt writes the same manifest.
        let committed_at = self.target.clock.now();
        let path = self.target.current_path(self.date);
        // The first generation that this run tried to become, and how often it tried.
        let mut attempted = None;
        let mut attempts = 0;
        loop {
            let commit = self.next(body, committed_at);
            let generation = commit.id.generation;
            match self.attempt(&commit).await {
                Ok(None) => {
                    self.hint_at(&commit).await;
                    return Ok(Outcome::Committed { generation });
                }
                Err(error) => return Err(self.in_doubt(attempts, error)),
                Ok(Some(cause)) => {
                    attempts += 1;
                    let oldest = *attempted.get_or_insert(generation);
                    let decided = self.look_again(judge, body, force, oldest).await;
                    match decided.map_err(|error| self.in_doubt(attempts, error))? {
                        Decision::Committed { generation } => {
                            if let Some(current) = self.current() {
                                self.hint_at(current).await;
                            }
                            return Ok(Outcome::Committed { generation });
                        }
                        Decision::AlreadyCurrent { by } => {
                            return Ok(Outcome::AlreadyCurrent { by });
                        }
                        Decision::Fenced { by } => return Ok(Outcome::Fenced { by }),
                        Decision::Retry => {}
                    }
                    // A store that turns the first attempt down for good has not acted on it.
                    if attempts == 1 && !is_transient(&cause) {
                        return Err(store_error("commit", &path)(cause));
                    }
                    let mut tries = attempts - 1;
                    let paused = self.target.pause("commit", &path, cause, &mut tries).await;
                    paused.map_err(|error| self.in_doubt(attempts, error))?;
                }
            }
        }
    }

    /// Writes the manifest, then the commit point if it is still as last seen. `Some` is the
    /// store's error for the latter, which may have taken effect all the same.
    async fn attempt(&mut self, commit: &Commit) -> Result<Option<object_store::Error>, Error> {
        let path = self.target.current_path(self.date);
        let encoded = serde_json::to_vec_pretty(commit).map(Bytes::from);
        let bytes = encoded.map_err(|source| Error::Corrupt {
            path: path.to_string(),
            source,
        })?;
        let manifest = self.target.manifest_path(self.date, &commit.id);
        if !self.written.contains(&manifest) {
            self.written.push(manifest.clone());
        }
        self.target
            .write_once(&manifest, &bytes, self.run_id)
            .await?;
        let mode = match &self.seen {
            None => PutMode::Create,
            Some(seen) => PutMode::Update(seen.version.clone()),
        };
        Ok(self.target.put(&path, bytes, mode).await.err())
    }

    /// Reads what is current now and judges by it.
    async fn look_again(
        &mut self,
        judge: Judge,
        body: &Body,
        force: bool,
        oldest: u64,
    ) -> Result<Decision, Error> {
        self.seen = self.target.read_seen(self.date).await?;
        let earlier = self.earlier(oldest).await?;
        let claim = Claim {
            run_id: self.run_id,
            epoch: self.epoch,
            fingerprint: &body.fingerprint,
            force,
        };
        Ok(judge(&claim, self.current(), &earlier))
    }

    /// The commits before the current one, newest first, down to generation `oldest`.
    async fn earlier(&self, oldest: u64) -> Result<Vec<CommitRef>, Error> {
        let mut earlier = Vec::new();
        let mut next = self.current().and_then(|current| current.previous);
        while let Some(commit) = next.filter(|commit| commit.generation >= oldest) {
            earlier.push(commit);
            if commit.generation == oldest {
                break; // what lies before cannot be ours, so its manifest is not read
            }
            let manifest = read_manifest(&self.target, self.date, &commit).await?;
            next = manifest.previous;
        }
        Ok(earlier)
    }

    fn next(&self, body: &Body, committed_at: DateTime<Utc>) -> Commit {
        let previous = self.current().map(|current| current.id);
        Commit {
            version: VERSION,
            job: body.job.clone(),
            date: self.date,
            id: CommitRef {
                generation: previous.map_or(0, |previous| previous.generation) + 1,
                epoch: self.epoch,
                run_id: self.run_id,
            },
            fingerprint: body.fingerprint.clone(),
            rows: body.rows,
            files: body.files.clone(),
            committed_at,
            previous,
            rolled_back_to: body.rolled_back_to,
            rejected: self.rejected(body),
        }
    }

    /// What a rollback rejects: what it replaces, and what that had rejected in its turn.
    fn rejected(&self, body: &Body) -> Vec<Fingerprint> {
        let Some(replaced) = self.current().filter(|_| body.rolled_back_to.is_some()) else {
            return Vec::new();
        };
        let mut rejected: Vec<Fingerprint> = Vec::new();
        for fingerprint in std::iter::once(&replaced.fingerprint).chain(&replaced.rejected) {
            if *fingerprint != body.fingerprint && !rejected.contains(fingerprint) {
                rejected.push(fingerprint.clone());
            }
        }
        rejected
    }

    /// Leaves another `changed.json` and moves `latest.json` on. They are only hints: failing to
    /// write them fails nothing.
    async fn hint_at(&self, commit: &Commit) {
        let _turn = self.target.hints.lock().await;
        if let Err(error) = mark::leave(&self.target, commit).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(date = %self.date, error, "changed.json was not updated");
        }
        if let Err(error) = latest::advance(&self.target, &Latest::from(commit)).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(date = %self.date, error, "latest.json was not updated");
        }
    }

    /// An error before the first attempt says all there is to say; after it, a write may be under
    /// way.
    fn in_doubt(&self, attempts: u32, error: Error) -> Error {
        if attempts == 0 {
            return error;
        }
        Error::OutcomeUnknown {
            date: self.date,
            run_id: self.run_id,
            path: self.target.current_path(self.date).to_string(),
            attempts,
            source: Box::new(error),
        }
    }
}
