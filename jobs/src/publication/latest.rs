//! `latest.json`: a hint at the newest date published. It may lag, and it can be rebuilt.

use chrono::NaiveDate;
use object_store::PutMode;
use serde::{Deserialize, Serialize};

use super::commit::Commit;
use super::reader::{list_dates, read_current};
use super::target::{Target, store_error};
use super::{Error, RunId};

/// The newest date published, and its commit when the hint was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// The date.
    pub date: NaiveDate,
    /// The run that committed it.
    pub run_id: RunId,
    /// The generation it committed.
    pub generation: u64,
}

impl From<&Commit> for Latest {
    fn from(commit: &Commit) -> Self {
        Self {
            date: commit.date,
            run_id: commit.id.run_id,
            generation: commit.id.generation,
        }
    }
}

/// The hint, or `None` if there is none. It tells where to look; [`read_current`] tells the truth.
///
/// # Errors
/// [`Error::Corrupt`] if it is not one of ours (then [`rebuild_latest`] helps), or the store's.
pub async fn read_latest(target: &Target) -> Result<Option<Latest>, Error> {
    let path = target.latest_path();
    let Some((bytes, _)) = target.read(&path).await? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| Error::Corrupt {
        path: path.to_string(),
        source,
    })
}

/// Writes the hint anew from the commits, and returns it. `None` if nothing is published.
///
/// # Errors
/// The store's, or those of reading the newest commits.
pub async fn rebuild_latest(target: &Target) -> Result<Option<Latest>, Error> {
    for date in list_dates(target).await?.into_iter().rev() {
        if let Some(commit) = read_current(target, date).await? {
            let latest = Latest::from(&commit);
            // Unconditionally: the hint may be corrupt, or ahead of a date that was removed.
            let path = target.latest_path();
            let written = target.put(&path, encode(&latest, target)?, PutMode::Overwrite);
            written.await.map_err(store_error("write", &path))?;
            return Ok(Some(latest));
        }
    }
    Ok(None)
}

/// Moves the hint to `newer` unless it is already there or further on. Conditional, so that of two
/// runs that commit at once the older cannot have the last word. A hint that cannot be parsed is
/// replaced: it holds nothing that the commits do not.
pub(super) async fn advance(target: &Target, newer: &Latest) -> Result<(), Error> {
    let path = target.latest_path();
    let mut tries = 0;
    loop {
        let mode = match target.read(&path).await? {
            None => PutMode::Create,
            Some((bytes, version)) => {
                let rank = |hint: &Latest| (hint.date, hint.generation);
                match serde_json::from_slice::<Latest>(&bytes) {
                    Ok(hint) if rank(&hint) >= rank(newer) => return Ok(()),
                    _ => PutMode::Update(version),
                }
            }
        };
        match target.put(&path, encode(newer, target)?, mode).await {
            Ok(_) => return Ok(()),
            Err(cause) => target.pause("write", &path, cause, &mut tries).await?,
        }
    }
}

fn encode(latest: &Latest, target: &Target) -> Result<bytes::Bytes, Error> {
    let encoded = serde_json::to_vec(latest).map(bytes::Bytes::from);
    encoded.map_err(|source| Error::Corrupt {
        path: target.latest_path().to_string(),
        source,
    })
}
