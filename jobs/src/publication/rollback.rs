//! Rolling back: an older generation's files become a new generation.

use chrono::NaiveDate;

use super::decide::decide;
use super::land::Body;
use super::reader::{read_file, read_manifest};
use super::target::Target;
use super::{Error, Outcome, Publication, RunId};

/// Publishes the files of generation `to_generation` again, as a new generation, after checking
/// that they are all there and whole. It is a commit like any other: a run that began earlier is
/// fenced by it, and it can be fenced. What it rolls back from is not published again until
/// inputs, spec or engine change (see [`Commit::covers`](super::Commit::covers)).
///
/// # Errors
/// [`Error::NotPublished`], [`Error::NoSuchGeneration`]; [`Error::Missing`] or [`Error::Damaged`]
/// if the old files cannot be served any more; else as [`Publication::commit`].
pub async fn rollback(
    target: &Target,
    date: NaiveDate,
    to_generation: u64,
    run_id: RunId,
) -> Result<Outcome, Error> {
    let mut publication = Publication::begin(target, date, run_id).await?;
    let Some(current) = publication.current() else {
        return Err(Error::NotPublished {
            date,
            path: target.current_path(date).to_string(),
        });
    };
    let newest = current.id;
    if newest.generation == to_generation {
        return Ok(Outcome::AlreadyCurrent { by: newest });
    }
    let mut commit = current.clone();
    while commit.id.generation != to_generation {
        let Some(previous) = commit
            .previous
            .filter(|_| to_generation < newest.generation)
        else {
            return Err(Error::NoSuchGeneration {
                date,
                generation: to_generation,
                newest: newest.generation,
            });
        };
        commit = read_manifest(target, date, &previous).await?;
    }
    for file in &commit.files {
        read_file(target, &commit, file).await?;
    }
    let body = Body {
        job: commit.job,
        fingerprint: commit.fingerprint,
        rows: commit.rows,
        files: commit.files,
        rolled_back_to: Some(to_generation),
    };
    // Whatever became current meanwhile, the operator asked for this generation.
    let force = true;
    let outcome = publication.land(decide, &body, force).await?;
    if matches!(outcome, Outcome::Fenced { .. }) {
        publication.discard().await; // manifests only: the files are another run's
    }
    Ok(outcome)
}
