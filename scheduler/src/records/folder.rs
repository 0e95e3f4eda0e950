//! Conditional reads and writes of small objects, repeated while the store is away.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion,
};
use rankmill_engine::store_error_is_transient;
use rankmill_jobs::publication::{Retry, read_versioned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A record, and what to write against.
#[derive(Debug, Clone)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) version: UpdateVersion,
}

/// How a conditional write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is there, as this version; perhaps since an earlier try whose answer was lost.
    Done(UpdateVersion),
    /// Something else is there, or was removed.
    Conflict(Option<(Bytes, UpdateVersion)>),
}

/// The store of the records.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    store: Arc<dyn ObjectStore>,
    retry: Retry,
}

impl Folder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, retry: Retry) -> Self {
        Self { store, retry }
    }

    /// The bytes of an object, or `None` if there is no such object.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>> {
        let mut tries = 0;
        loop {
            match read_versioned(&*self.store, path).await {
                Ok(found) => return Ok(Some(found)),
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(cause) => self.pause("read", path, cause, &mut tries).await?,
            }
        }
    }

    /// A parsed object, or `None` if there is no such object.
    pub(crate) async fn read_record<T: DeserializeOwned>(
        &self,
        path: &Path,
    ) -> Result<Option<Stored<T>>> {
        let Some((bytes, version)) = self.read(path).await? else {
            return Ok(None);
        };
        let value = parse(path, &bytes)?;
        Ok(Some(Stored { value, version }))
    }

    /// Writes if nothing is there (`seen` is none) or what was seen still is. A try whose answer
    /// was lost counts as written if its bytes are there.
    pub(crate) async fn write(
        &self,
        path: &Path,
        bytes: Bytes,
        seen: Option<&UpdateVersion>,
    ) -> Result<Written> {
        let mut tries = 0;
        loop {
            let mode = match seen {
                None => PutMode::Create,
                Some(version) => PutMode::Update(version.clone()),
            };
            let put = self
                .store
                .put_opts(path, bytes.clone().into(), mode.into())
                .await;
            match put {
                Ok(result) => return Ok(Written::Done(result.into())),
                Err(
                    StoreError::AlreadyExists { .. }
                    | StoreError::Precondition { .. }
                    | StoreError::NotModified { .. }
                    | StoreError::NotFound { .. },
                ) => {
                    return Ok(match self.read(path).await? {
                        Some((found, version)) if found == bytes => Written::Done(version),
                        other => Written::Conflict(other),
                    });
                }
                Err(cause) => self.pause("write", path, cause, &mut tries).await?,
            }
        }
    }

    /// The objects below a folder, from a path on if one is given.
    pub(crate) async fn list(&self, folder: &Path, from: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let mut tries = 0;
        loop {
            let listing = match from {
                None => self.store.list(Some(folder)),
                Some(from) => self.store.list_with_offset(Some(folder), from),
            };
            match listing.try_collect().await {
                Ok(found) => return Ok(found),
                Err(cause) => self.pause("list", folder, cause, &mut tries).await?,
            }
        }
    }

    /// The folders directly in a folder.
    pub(crate) async fn folders(&self, folder: &Path) -> Result<Vec<Path>> {
        let mut tries = 0;
        loop {
            match self.store.list_with_delimiter(Some(folder)).await {
                Ok(found) => return Ok(found.common_prefixes),
                Err(cause) => self.pause("list", folder, cause, &mut tries).await?,
            }
        }
    }

    /// Removes an object; one that isn't there is no error.
    pub(crate) async fn delete(&self, path: &Path) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.store.delete(path).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => return Ok(()),
                Err(cause) => self.pause("delete", path, cause, &mut tries).await?,
            }
        }
    }

    /// Waits before another try, or gives up with `cause`.
    async fn pause(
        &self,
        operation: &'static str,
        path: &Path,
        cause: StoreError,
        tries: &mut u32,
    ) -> Result<()> {
        *tries += 1;
        let wait: Option<Duration> = self.retry.wait_after(*tries);
        match wait.filter(|_| store_error_is_transient(&cause)) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(Error::Store {
                operation,
                path: path.to_string(),
                source: cause,
            }),
        }
    }
}

/// Parses a record.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Corrupt {
        path: path.to_string(),
        source,
    })
}

/// A record's bytes.
pub(crate) fn encode<T: Serialize>(path: &Path, value: &T) -> Result<Bytes> {
    // Our records are structs of texts and numbers; this can't fail, but a path says more than a
    // panic if it once does.
    let bytes = serde_json::to_vec_pretty(value).map_err(|source| Error::Corrupt {
        path: path.to_string(),
        source,
    })?;
    Ok(bytes.into())
}
