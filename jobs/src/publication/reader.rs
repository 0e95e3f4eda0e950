//! Reading what is published. A reader meets whole generations only.

use bytes::Bytes;
use chrono::NaiveDate;
use object_store::ObjectStore;

use super::Error;
use super::commit::{Commit, CommitRef, PublishedFile, sha256_hex};
use super::target::Target;

/// The newest commit of a date, or `None` if nothing is published for it.
///
/// # Errors
/// If the store fails or the commit point is not one of ours.
pub async fn read_current(target: &Target, date: NaiveDate) -> Result<Option<Commit>, Error> {
    Ok(target.read_seen(date).await?.map(|seen| seen.commit))
}

/// The content of one file of a commit, checked against the commit's size and digest.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], or the store's.
pub async fn read_file(
    target: &Target,
    commit: &Commit,
    file: &PublishedFile,
) -> Result<Bytes, Error> {
    let path = target.file_path(commit.date, file)?;
    let Some((bytes, _)) = target.read(&path).await? else {
        return Err(Error::Missing {
            path: path.to_string(),
        });
    };
    let found_sha256 = sha256_hex(&bytes);
    if bytes.len() as u64 != file.bytes || found_sha256 != file.sha256 {
        return Err(Error::Damaged {
            path: path.to_string(),
            expected_bytes: file.bytes,
            found_bytes: bytes.len() as u64,
            expected_sha256: file.sha256.as_str().into(),
            found_sha256: found_sha256.into(),
        });
    }
    Ok(bytes)
}

/// All commits of a date, newest first. Manifests of commits that failed are not among them.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Inconsistent`] if the chain is broken, or the store's.
pub async fn history(target: &Target, date: NaiveDate) -> Result<Vec<Commit>, Error> {
    let mut commits: Vec<Commit> = read_current(target, date).await?.into_iter().collect();
    while let Some(previous) = commits.last().and_then(|commit| commit.previous) {
        commits.push(read_manifest(target, date, &previous).await?);
    }
    Ok(commits)
}

/// The manifest of a commit that took place.
pub(super) async fn read_manifest(
    target: &Target,
    date: NaiveDate,
    id: &CommitRef,
) -> Result<Commit, Error> {
    let path = target.manifest_path(date, id);
    let Some((bytes, _)) = target.read(&path).await? else {
        return Err(Error::Missing {
            path: path.to_string(),
        });
    };
    let commit = Commit::parse(&bytes, &path, date)?;
    let follows = commit.previous.map_or(0, |previous| previous.generation) + 1;
    for (field, expected, found) in [
        ("generation", id.generation, commit.id.generation),
        ("epoch", id.epoch, commit.id.epoch),
        // Also keeps a walk from going round in circles.
        ("generation", follows, commit.id.generation),
    ] {
        if expected != found {
            return Err(Error::Inconsistent {
                path: path.to_string(),
                field,
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    }
    if commit.id.run_id != id.run_id {
        return Err(Error::Inconsistent {
            path: path.to_string(),
            field: "run_id",
            expected: id.run_id.to_string(),
            found: commit.id.run_id.to_string(),
        });
    }
    Ok(commit)
}

/// The dates that have a folder, in order. A date whose first run has not committed is among them:
/// ask [`read_current`].
///
/// # Errors
/// The store's.
pub async fn list_dates(target: &Target) -> Result<Vec<NaiveDate>, Error> {
    let mut tries = 0;
    let listed = loop {
        match target
            .store
            .list_with_delimiter(Some(target.prefix()))
            .await
        {
            Ok(listed) => break listed,
            Err(cause) => {
                let prefix = target.prefix();
                target.pause("list", prefix, cause, &mut tries).await?;
            }
        }
    };
    let mut dates: Vec<NaiveDate> = listed
        .common_prefixes
        .iter()
        .filter_map(|folder| folder.filename()?.strip_prefix("date=")?.parse().ok())
        .collect();
    dates.sort_unstable();
    Ok(dates)
}
