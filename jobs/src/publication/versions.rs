//! Looking at many commit points at once, without reading those that are known.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use futures::TryStreamExt;
use object_store::{Error as StoreError, GetOptions, GetResult, ObjectStore};

use super::Error;
use super::commit::Commit;
use super::target::Target;

/// A commit point, next to the version of it that is known.
#[derive(Debug)]
pub(crate) enum Look {
    /// There is none.
    Absent,
    /// It is the version that is known.
    Unchanged,
    /// Another one, with its ETag.
    Changed(Box<Commit>, String),
}

/// Looks at the commit point of a date; `known` is an ETag of it.
pub(crate) async fn look(
    target: &Target,
    date: NaiveDate,
    known: Option<&str>,
) -> Result<Look, Error> {
    let path = target.current_path(date);
    let mut tries = 0;
    let (bytes, e_tag) = loop {
        let options = GetOptions {
            if_none_match: known.map(str::to_owned),
            ..GetOptions::default()
        };
        let read = async {
            let found: GetResult = target.store.get_opts(&path, options).await?;
            let e_tag = found.meta.e_tag.clone();
            Ok((found.bytes().await?, e_tag))
        };
        match read.await {
            Ok(found) => break found,
            Err(StoreError::NotFound { .. }) => return Ok(Look::Absent),
            Err(StoreError::NotModified { .. }) => return Ok(Look::Unchanged),
            Err(cause) => target.pause("read", &path, cause, &mut tries).await?,
        }
    };
    let Some(e_tag) = e_tag else {
        let path = path.to_string();
        return Err(Error::NoETag { path });
    };
    let commit = Commit::parse(&bytes, &path, date)?;
    Ok(Look::Changed(Box::new(commit), e_tag))
}

/// The ETags of all commit points of an output folder, by a listing of all that is in it.
pub(crate) async fn list_versions(target: &Target) -> Result<BTreeMap<NaiveDate, String>, Error> {
    let prefix = target.prefix();
    let mut tries = 0;
    loop {
        let mut versions = BTreeMap::new();
        let mut listed = target.store.list(Some(prefix));
        let cause = loop {
            match listed.try_next().await {
                Ok(Some(meta)) => {
                    let parts = meta.location.prefix_match(prefix).into_iter().flatten();
                    let parts: Vec<_> = parts.collect();
                    let [folder, name] = parts.as_slice() else {
                        continue;
                    };
                    let date = folder.as_ref().strip_prefix("date=");
                    let date = date.and_then(|date| date.parse::<NaiveDate>().ok());
                    let Some(date) = date.filter(|_| name.as_ref() == "current.json") else {
                        continue;
                    };
                    let Some(e_tag) = meta.e_tag else {
                        let path = meta.location.to_string();
                        return Err(Error::NoETag { path });
                    };
                    versions.insert(date, e_tag);
                }
                Ok(None) | Err(StoreError::NotFound { .. }) => return Ok(versions),
                Err(cause) => break cause,
            }
        };
        target.pause("list", prefix, cause, &mut tries).await?;
    }
}
