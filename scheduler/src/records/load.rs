//! Reading the records at the start, with few requests however many runs there are.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::de::DeserializeOwned;

use super::folder::{Folder, Stored};
use super::index::Indexed;
use super::layout::{Layout, run_of};
use super::segment::Segment;
use crate::error::{Error, Result};
use crate::model::{JobRecord, Run, RunId};

/// Objects read at once.
const CONCURRENT_READS: usize = 32;

/// What the lake holds.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) jobs: Vec<Stored<JobRecord>>,
    /// Ended runs, from the index.
    pub(crate) indexed: Vec<Indexed>,
    /// Runs that are in no segment: those that go on, and the latest to have ended.
    pub(crate) runs: Vec<Stored<Run>>,
    /// Records that can't be parsed.
    pub(crate) corrupt: Vec<Error>,
}

/// Reads all of it.
pub(crate) async fn load(folder: &Folder, layout: &Layout) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let (jobs, index) = (layout.jobs(), layout.index());
    let (jobs, segments, runs) = futures::try_join!(
        folder.list(&jobs, None),
        folder.list(&index, None),
        list_runs(folder, layout),
    )?;
    loaded.jobs = read_all(folder, jobs, &mut loaded.corrupt).await?;
    let segments: Vec<Stored<Segment>> = read_all(folder, segments, &mut loaded.corrupt).await?;
    for segment in segments {
        loaded.indexed.extend(segment.value.runs);
    }
    let known: HashSet<RunId> = loaded.indexed.iter().map(|run| run.summary.id).collect();
    let rest = runs
        .into_iter()
        .filter(|meta| run_of(&meta.location).is_some_and(|id| !known.contains(&id)));
    loaded.runs = read_all(folder, rest.collect(), &mut loaded.corrupt).await?;
    Ok(loaded)
}

/// The highest epoch among the records that may still change; 0 if there are none.
pub(crate) async fn highest_epoch(folder: &Folder, layout: &Layout) -> Result<u64> {
    let loaded = load(folder, layout).await?;
    let jobs = loaded.jobs.iter().map(|job| job.value.epoch);
    let runs = loaded.runs.iter().map(|run| run.value.epoch);
    Ok(jobs.chain(runs).max().unwrap_or_default())
}

/// Runs submitted since a time that are not known yet: a scheduler that lost its place may have
/// queued them after its successor had read the records.
pub(crate) async fn new_runs(
    folder: &Folder,
    layout: &Layout,
    since: DateTime<Utc>,
    known: impl Fn(RunId) -> bool,
    corrupt: &mut Vec<Error>,
) -> Result<Vec<Stored<Run>>> {
    let first = RunId::first_at(since);
    let found = folder
        .list(&layout.runs(), Some(&layout.run(first)))
        .await?;
    let new = found
        .into_iter()
        .filter(|meta| run_of(&meta.location).is_some_and(|id| !known(id)));
    read_all(folder, new.collect(), corrupt).await
}

/// Jobs whose records are of another version than the one that is known.
pub(crate) async fn new_jobs(
    folder: &Folder,
    layout: &Layout,
    known: impl Fn(&str) -> Option<String>,
    corrupt: &mut Vec<Error>,
) -> Result<(Vec<Stored<JobRecord>>, HashSet<String>)> {
    let found = folder.list(&layout.jobs(), None).await?;
    let mut names = HashSet::new();
    let mut changed = Vec::new();
    for meta in found {
        let name = meta.location.filename().unwrap_or_default();
        let name = name.strip_suffix(".json").unwrap_or(name).to_owned();
        if meta.e_tag.is_none() || known(&name) != meta.e_tag {
            changed.push(meta);
        }
        names.insert(name);
    }
    Ok((read_all(folder, changed, corrupt).await?, names))
}

/// Month by month at once: a listing gives a thousand objects a request.
async fn list_runs(folder: &Folder, layout: &Layout) -> Result<Vec<ObjectMeta>> {
    let months = folder.folders(&layout.runs()).await?;
    let listings: Vec<Vec<ObjectMeta>> = stream::iter(months)
        .map(|month| async move { folder.list(&month, None).await })
        .buffer_unordered(CONCURRENT_READS)
        .try_collect()
        .await?;
    Ok(listings.into_iter().flatten().collect())
}

/// Reads records; one that is broken doesn't stop the others.
async fn read_all<T: DeserializeOwned>(
    folder: &Folder,
    found: Vec<ObjectMeta>,
    corrupt: &mut Vec<Error>,
) -> Result<Vec<Stored<T>>> {
    let paths: Vec<Path> = found
        .into_iter()
        .map(|meta| meta.location)
        .filter(|path| path.extension() == Some("json"))
        .collect();
    let mut reads = stream::iter(paths)
        .map(|path| async move { folder.read_record::<T>(&path).await })
        .buffer_unordered(CONCURRENT_READS);
    let mut records = Vec::new();
    while let Some(read) = reads.next().await {
        match read {
            Ok(record) => records.extend(record),
            Err(error @ Error::Corrupt { .. }) => corrupt.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}
