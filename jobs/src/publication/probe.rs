//! Finding out whether a store honours conditional writes, before anything relies on it.

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, UpdateVersion};
use uuid::Uuid;

use super::Error;
use super::target::{Target, store_error};

/// Proves on a scratch object under `{output}/_probe/` that the store refuses to create what
/// exists and to replace what has changed. Run it at start-up.
///
/// # Errors
/// [`Error::ConditionalPutIgnored`] if the store accepts what it should refuse, [`Error::NoETag`]
/// if there is nothing to write against, or the store's.
pub async fn probe(target: &Target) -> Result<(), Error> {
    let path = target.probe_path(Uuid::now_v7().to_string());
    // Where not even this is accepted there is nothing to delete, and perhaps nobody to ask.
    let first = accepted(target, &path, "first", PutMode::Create).await?;
    let probed = steps(target, &path, first).await;
    if let Err(cause) = target.store.delete(&path).await {
        let error = store_error("delete", &path)(cause);
        tracing::debug!(?error, "left a probe object behind");
    }
    probed
}

/// `first` is what the object's creation gave.
async fn steps(target: &Target, path: &Path, first: UpdateVersion) -> Result<(), Error> {
    // Each body differs: the ETag of an S3 object is a digest of its content.
    refused(target, path, PutMode::Create, "create over an object").await?;
    let second = accepted(target, path, "second", PutMode::Update(first.clone())).await?;
    if first == second {
        return Err(ignored(target, "the ETag stays the same over a change"));
    }
    refused(target, path, PutMode::Update(first), "update a stale ETag").await?;
    match target.read(path).await? {
        Some((bytes, version)) if bytes == "second" && version.e_tag == second.e_tag => Ok(()),
        _ => Err(ignored(target, "a refused write took effect")),
    }
}

async fn accepted(
    target: &Target,
    path: &Path,
    body: &'static str,
    mode: PutMode,
) -> Result<UpdateVersion, Error> {
    let put = target.put(path, body.into(), mode).await;
    let version: UpdateVersion = put.map_err(store_error("probe", path))?.into();
    if version.e_tag.is_none() {
        let path = path.to_string();
        return Err(Error::NoETag { path });
    }
    Ok(version)
}

async fn refused(
    target: &Target,
    path: &Path,
    mode: PutMode,
    check: &'static str,
) -> Result<(), Error> {
    match target.put(path, "refused".into(), mode).await {
        Ok(_) => Err(ignored(target, check)),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(()),
        Err(cause) => Err(store_error("probe", path)(cause)),
    }
}

fn ignored(target: &Target, check: &'static str) -> Error {
    Error::ConditionalPutIgnored {
        store: target.store.to_string(),
        check,
    }
}
