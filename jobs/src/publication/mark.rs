//! `changed.json`: a mark that is another one after each commit, of whatever date, so that who has
//! seen all commit points need not look at them again while it stays the same.
//!
//! It is a hint, written after the commit: a run that dies between the two leaves it as it was.
//! Readers of rankings do without it, and who goes by it looks for himself now and then.

use bytes::Bytes;
use object_store::{Error as StoreError, GetOptions, ObjectStore, PutMode};
use serde::Serialize;

use super::Error;
use super::commit::Commit;
use super::latest::Latest;
use super::target::Target;

/// What the mark holds. All of it together never recurs: a late write of an attempt that was given
/// up must not look like what somebody has seen.
#[derive(Serialize)]
struct Mark {
    #[serde(flatten)]
    commit: Latest,
    attempt: u32,
}

/// Leaves another mark after a commit. Whose mark stays, of two commits at once, doesn't matter.
pub(super) async fn leave(target: &Target, commit: &Commit) -> Result<(), Error> {
    let path = target.mark_path();
    let mut tries = 0;
    loop {
        let mark = Mark {
            commit: Latest::from(commit),
            attempt: tries,
        };
        let encoded = serde_json::to_vec(&mark).map(Bytes::from);
        let bytes = encoded.map_err(|source| Error::Corrupt {
            path: path.to_string(),
            source,
        })?;
        match target.put(&path, bytes, PutMode::Overwrite).await {
            Ok(_) => return Ok(()),
            Err(cause) => target.pause("write", &path, cause, &mut tries).await?,
        }
    }
}

/// The ETag of the mark that is there now, if there is one.
///
/// # Errors
/// The store's.
pub(crate) async fn mark(target: &Target) -> Result<Option<String>, Error> {
    let path = target.mark_path();
    let mut tries = 0;
    loop {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match target.store.get_opts(&path, options).await {
            Ok(found) => return Ok(found.meta.e_tag),
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(cause) => target.pause("read", &path, cause, &mut tries).await?,
        }
    }
}
