//! Where rankings are published: the layout, and reads and writes that outlast passing faults.

use std::sync::Arc;

use bytes::Bytes;
use chrono::NaiveDate;
use futures::lock::Mutex;
use object_store::path::{Path, PathPart};
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutResult, UpdateVersion,
};

use super::clock::{Clock, Retry, SystemClock};
use super::commit::{Commit, CommitRef, PublishedFile, sha256_hex};
use super::error::is_transient;
use super::{Error, RunId};

/// The output folder of one job.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: Path,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retry: Retry,
    /// Dates of one run that are published at once write the hints by turns: they would only wait for
    /// each other's conditional writes to fail.
    pub(super) hints: Arc<Mutex<()>>,
}

/// A commit point as it was read: what it says, and what to write against.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) commit: Commit,
    pub(super) version: UpdateVersion,
}

impl Target {
    /// The folder `prefix` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self {
            store,
            prefix,
            clock: Arc::new(SystemClock),
            retry: Retry::default(),
            hints: Arc::default(),
        }
    }

    /// The same with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The same with another policy of retries.
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The output folder.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The folder of a date.
    pub fn date_folder(&self, date: NaiveDate) -> Path {
        self.prefix.clone().join(format!("date={date}"))
    }

    /// The commit point of a date.
    pub fn current_path(&self, date: NaiveDate) -> Path {
        self.date_folder(date).join("current.json")
    }

    /// The manifest of a commit.
    pub fn manifest_path(&self, date: NaiveDate, commit: &CommitRef) -> Path {
        let name = format!("{}-{}.json", commit.generation, commit.run_id);
        self.date_folder(date).join("manifests").join(name)
    }

    /// The folder that a run writes its files to.
    pub fn data_folder(&self, date: NaiveDate, run_id: RunId) -> Path {
        self.date_folder(date).join("data").join(run_id.to_string())
    }

    /// A published file.
    ///
    /// # Errors
    /// [`Error::InvalidName`] if the file's path is none.
    pub fn file_path(&self, date: NaiveDate, file: &PublishedFile) -> Result<Path, Error> {
        let relative = Path::parse(&file.path).map_err(|_| Error::InvalidName {
            name: file.path.clone(),
        })?;
        let folder = self.date_folder(date);
        Ok(folder.parts().chain(relative.parts()).collect())
    }

    pub(super) fn latest_path(&self) -> Path {
        self.prefix.clone().join("latest.json")
    }

    pub(super) fn mark_path(&self) -> Path {
        self.prefix.clone().join("changed.json")
    }

    pub(super) fn probe_path(&self, name: impl Into<PathPart<'static>>) -> Path {
        self.prefix.clone().join("_probe").join(name)
    }

    /// The bytes of an object and what to write against, or `None` if there is no such object.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let mut tries = 0;
        loop {
            match read_versioned(&*self.store, path).await {
                Ok(found) => return Ok(Some(found)),
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(cause) => self.pause("read", path, cause, &mut tries).await?,
            }
        }
    }

    pub(super) async fn read_seen(&self, date: NaiveDate) -> Result<Option<Seen>, Error> {
        let path = self.current_path(date);
        let Some((bytes, version)) = self.read(&path).await? else {
            return Ok(None);
        };
        if version.e_tag.is_none() {
            let path = path.to_string();
            return Err(Error::NoETag { path });
        }
        let commit = Commit::parse(&bytes, &path, date)?;
        Ok(Some(Seen { commit, version }))
    }

    /// Writes an object that nobody else writes and makes sure that it is there, whole. Whatever
    /// the store answers, the object read back decides.
    pub(super) async fn write_once(
        &self,
        path: &Path,
        bytes: &Bytes,
        run_id: RunId,
    ) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let written = self.put(path, bytes.clone(), PutMode::Create).await;
            if let Err(cause) = &written
                && !is_transient(cause)
            {
                // Reading back could say nothing better.
                return written.map(drop).map_err(store_error("write", path));
            }
            match self.read(path).await? {
                Some((found, _)) if found == *bytes => return Ok(()),
                // A store may lose a write, but it does not make one up.
                Some(_) if written.is_err() => {
                    let path = path.to_string();
                    return Err(Error::RunIdReused { run_id, path });
                }
                Some((found, _)) => return Err(damaged(path, bytes, &found)),
                None => {}
            }
            let cause = written.err().unwrap_or_else(|| StoreError::NotFound {
                path: path.to_string(),
                source: "the store reported it as written".into(),
            });
            self.pause("write", path, cause, &mut tries).await?;
        }
    }

    pub(super) async fn put(
        &self,
        path: &Path,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<PutResult, StoreError> {
        self.store.put_opts(path, bytes.into(), mode.into()).await
    }

    /// Waits before another try, or gives up with `cause`.
    pub(super) async fn pause(
        &self,
        operation: &'static str,
        path: &Path,
        cause: StoreError,
        tries: &mut u32,
    ) -> Result<(), Error> {
        *tries += 1;
        let wait = self.retry.wait_after(*tries);
        match wait.filter(|_| is_transient(&cause)) {
            Some(wait) => {
                self.clock.sleep(wait).await;
                Ok(())
            }
            None => Err(store_error(operation, path)(cause)),
        }
    }
}

/// The bytes of an object, and what to write against so that nothing else is replaced; once,
/// without trying again.
///
/// # Errors
/// The store's, also if there is no such object.
pub async fn read_versioned(
    store: &dyn ObjectStore,
    path: &Path,
) -> Result<(Bytes, UpdateVersion), StoreError> {
    let read = store.get(path).await?;
    let version = UpdateVersion {
        e_tag: read.meta.e_tag.clone(),
        version: read.meta.version.clone(),
    };
    Ok((read.bytes().await?, version))
}

pub(super) fn store_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(StoreError) -> Error + use<> {
    let path = path.to_string();
    move |source| Error::Store {
        operation,
        path,
        source,
    }
}

fn damaged(path: &Path, expected: &[u8], found: &[u8]) -> Error {
    Error::Damaged {
        path: path.to_string(),
        expected_bytes: expected.len() as u64,
        found_bytes: found.len() as u64,
        expected_sha256: sha256_hex(expected).into(),
        found_sha256: sha256_hex(found).into(),
    }
}
