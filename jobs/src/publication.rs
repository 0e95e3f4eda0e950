//! Publication of a ranking: whole or not at all, exactly once.
//!
//! ```text
//! {output}/date=D/data/{run_id}/…                        written once, never overwritten
//! {output}/date=D/manifests/{generation}-{run_id}.json   written before the commit
//! {output}/date=D/current.json                           THE commit point
//! {output}/latest.json                                   a hint, rebuildable
//! {output}/changed.json                                  a hint that something was committed
//! ```
//!
//! A run begins by reading `current.json` and takes the next epoch. It writes its data under its
//! own run id and reads it back, writes the manifest, then replaces `current.json` by a write
//! that is conditional on the version it has seen. After any error or conflict it reads again and
//! decides (`decide.rs`): it has committed after all; another run has
//! published the same; a higher (epoch, run id) has fenced it off; or it tries again against the
//! new version. A run that slept and wakes late is thus fenced, and no reader ever meets a commit
//! point without whole data behind it.
//!
//! The store must honour conditional writes: [`probe`] finds out.

mod clock;
mod commit;
mod decide;
mod digest;
mod error;
mod land;
mod latest;
mod mark;
mod probe;
mod reader;
mod rollback;
#[cfg(test)]
mod simulation;
mod target;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::HashSet;

use bytes::Bytes;
use chrono::NaiveDate;
use futures::StreamExt;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt};

pub use self::clock::{Clock, Retry, SystemClock};
pub use self::commit::{Commit, CommitRef, Fingerprint, InputFile, PublishedFile, RunId, VERSION};
pub(crate) use self::digest::{Digest, FilesDigest};
pub use self::error::Error;
pub use self::latest::{Latest, read_latest, rebuild_latest};
pub(crate) use self::mark::mark;
pub use self::probe::probe;
pub use self::reader::{history, list_dates, read_current, read_file};
pub use self::rollback::rollback;
pub use self::target::{Target, read_versioned};
pub(crate) use self::versions::{Look, list_versions, look};

use self::commit::sha256_hex;
use self::decide::decide;
use self::land::{Body, Judge};
use self::target::{Seen, store_error};

/// A run's publication for one date, from the moment it has read what is current. Begin before
/// reading the inputs: whoever commits in between is then noticed.
#[derive(Debug)]
pub struct Publication {
    target: Target,
    date: NaiveDate,
    run_id: RunId,
    epoch: u64,
    seen: Option<Seen>,
    /// What this run wrote, to be removed if it turns out that nobody will ever refer to it.
    written: Vec<Path>,
}

/// A ranking to publish.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Name of the job.
    pub job: String,
    /// What it was computed from.
    pub fingerprint: Fingerprint,
    /// Rows of the ranking.
    pub rows: u64,
    /// Its files.
    pub files: Vec<DraftFile>,
}

/// A file to publish.
#[derive(Debug, Clone)]
pub struct DraftFile {
    /// Its name, without a folder.
    pub name: String,
    /// Rows it holds.
    pub rows: u64,
    /// Its content.
    pub bytes: Bytes,
}

/// How a publication ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// This run committed, once, as `generation`. Another run may have committed since.
    Committed {
        /// The generation it became.
        generation: u64,
    },
    /// The same was already current: success without a second publication.
    AlreadyCurrent {
        /// The commit that covers it.
        by: CommitRef,
    },
    /// A run that began later (or at once, with a higher id) committed first: this one published
    /// nothing and never will.
    Fenced {
        /// The commit that stands against it.
        by: CommitRef,
    },
}

impl Publication {
    /// Reads what is current for `date` and takes the next epoch. `run_id` must be new: one id for
    /// each attempt, also after a crash.
    ///
    /// # Errors
    /// [`Error::RunIdReused`] if the run already wrote data, those of a commit point that is not
    /// ours, or the store's.
    pub async fn begin(target: &Target, date: NaiveDate, run_id: RunId) -> Result<Self, Error> {
        let folder = target.data_folder(date, run_id);
        let mut tries = 0;
        loop {
            match target.store.list(Some(&folder)).next().await {
                None => break,
                Some(Ok(found)) => {
                    let path = found.location.to_string();
                    return Err(Error::RunIdReused { run_id, path });
                }
                Some(Err(cause)) => target.pause("list", &folder, cause, &mut tries).await?,
            }
        }
        let seen = target.read_seen(date).await?;
        Ok(Self {
            target: target.clone(),
            date,
            run_id,
            epoch: seen.as_ref().map_or(0, |seen| seen.commit.id.epoch) + 1,
            seen,
            written: Vec::new(),
        })
    }

    /// The commit that is to be replaced, as last read.
    pub fn current(&self) -> Option<&Commit> {
        self.seen.as_ref().map(|seen| &seen.commit)
    }

    /// Whether publishing from `fingerprint` would add nothing (see [`Commit::covers`]): ask
    /// before the work.
    pub fn is_current(&self, fingerprint: &Fingerprint) -> bool {
        self.current()
            .is_some_and(|current| current.covers(fingerprint))
    }

    /// Writes, verifies and commits `draft`; with `force` even if the same is already current.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the commit may have taken effect; after any other error it has
    /// not and never will.
    pub async fn commit(self, draft: Draft, force: bool) -> Result<Outcome, Error> {
        self.commit_judged_by(decide, draft, force).await
    }

    async fn commit_judged_by(
        mut self,
        judge: Judge,
        draft: Draft,
        force: bool,
    ) -> Result<Outcome, Error> {
        if let Some(current) = self.current().filter(|_| !force)
            && current.covers(&draft.fingerprint)
        {
            return Ok(Outcome::AlreadyCurrent { by: current.id });
        }
        let body = self.describe(&draft)?;
        self.write_data(&draft).await?;
        let outcome = self.land(judge, &body, force).await?;
        if !matches!(outcome, Outcome::Committed { .. }) {
            self.discard().await;
        }
        Ok(outcome)
    }

    /// What a commit of `draft` will say.
    fn describe(&self, draft: &Draft) -> Result<Body, Error> {
        let mut names = HashSet::new();
        for DraftFile { name, .. } in &draft.files {
            if name.is_empty() || PathPart::parse(name).is_err() {
                return Err(Error::InvalidName { name: name.clone() });
            }
            if !names.insert(name) {
                return Err(Error::DuplicateName { name: name.clone() });
            }
        }
        let file = |file: &DraftFile| PublishedFile {
            path: format!("data/{}/{}", self.run_id, file.name),
            rows: file.rows,
            bytes: file.bytes.len() as u64,
            sha256: sha256_hex(&file.bytes),
        };
        Ok(Body {
            job: draft.job.clone(),
            fingerprint: draft.fingerprint.clone(),
            rows: draft.rows,
            files: draft.files.iter().map(file).collect(),
            rolled_back_to: None,
        })
    }

    async fn write_data(&mut self, draft: &Draft) -> Result<(), Error> {
        let folder = self.target.data_folder(self.date, self.run_id);
        for file in &draft.files {
            let name = PathPart::parse(&file.name).map_err(|_| Error::InvalidName {
                name: file.name.clone(),
            })?;
            let path = folder.clone().join(name);
            self.written.push(path.clone());
            self.target
                .write_once(&path, &file.bytes, self.run_id)
                .await?;
        }
        Ok(())
    }

    /// Removes what this run wrote, as far as that goes at once. Only for a run that certainly has
    /// not committed and cannot any more: what a commit may refer to is never removed.
    async fn discard(&self) {
        for path in &self.written {
            if let Err(cause) = self.target.store.delete(path).await {
                let error = store_error("delete", path)(cause);
                tracing::debug!(run_id = %self.run_id, ?error, "left unpublished data behind");
            }
        }
    }
}
