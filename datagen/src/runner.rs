//! Carries out a plan: makes the parts on a pool of threads, puts them into the store, and writes the truth last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::lake::Lake;
use crate::make::pool;
use crate::truth::{self, TableTotals, Truth};
use crate::work::Work;
use crate::{Config, Error, Maker, Part, Plan, Table, inspect};

/// Told how far a generation is; called from the worker threads.
pub trait Progress: Sync {
    /// A part is in the store, so large.
    fn part_done(&self, part: &Part, rows: u64, bytes: u64);

    /// All parts are in the store, and `truth.json` follows.
    fn truth_started(&self) {}

    /// Free bytes where the lake goes, if that is known: a lake that doesn't fit isn't begun.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether to stop: asked before each part. What was written until then stays, and the same
    /// generation begun again does what is left of it.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// What a generation did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Sizes by table.
    pub tables: BTreeMap<Table, TableTotals>,
    /// How long it took.
    pub elapsed: Duration,
    /// The lake of an equal config was there, whole, and nothing was done.
    pub already_there: bool,
    /// Files that an interrupted generation of the same had left, and that were kept.
    pub kept_files: u64,
}

/// Generates the lake of a plan at `prefix` of a store.
///
/// It blocks: call it from [`tokio::task::spawn_blocking`] or from outside any runtime, with the handle of one that
/// runs on threads of its own. Rows are made on `threads`
/// threads of its own (at least one); `handle` is the runtime that does the store's input and output. Each thread
/// holds at most two encoded parts, one being made and one being written; beyond that, memory goes to the pairs of
/// the dates in work, at four bytes a row and at most 512 MiB for each log of each.
///
/// If the whole lake of an equal config is there, nothing is done; with `replace`, parts that are missing or not whole by
/// their footers are made again. If a generation of an equal config was interrupted,
/// the parts that it wrote are kept: each is written whole or not at all, and its footer is looked at. With `replace`,
/// anything else that is there in the tables' folders is deleted.
///
/// # Errors
/// [`Error::LakeExists`] if something else is there and `replace` is not set; [`Error::NoRoom`] if the lake is larger
/// than what `progress` says is free; [`Error::Stopped`] if `progress` says
/// so; [`Error::Store`] and the others if a
/// part cannot be made or written. What was written until then stays, without a truth file.
pub fn generate(
    plan: &Plan,
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    threads: usize,
    handle: &Handle,
    replace: bool,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let started = Instant::now();
    let lake = Lake::new(store, prefix);
    let prepared = prepare(plan, &lake, replace, progress.free_bytes());
    let present = match handle.block_on(prepared)? {
        Found::Whole(truth) => {
            return Ok(Report {
                tables: truth.tables,
                elapsed: started.elapsed(),
                already_there: true,
                kept_files: 0,
            });
        }
        Found::Parts(present) => present,
    };
    let pool = pool(threads)?;
    let maker = pool.install(|| Maker::new(plan));
    let work = Work::new(&maker, &lake, &present, handle, progress);
    for outcome in pool.broadcast(|_| work.run()) {
        outcome?;
    }
    progress.truth_started();
    let (tables, dates) = work.finish();
    let truth = pool.install(|| maker.truth(tables, dates));
    handle.block_on(finish(&lake, &truth))?;
    Ok(Report {
        tables: truth.tables,
        elapsed: started.elapsed(),
        already_there: false,
        kept_files: present.len() as u64,
    })
}

/// What there is of a lake that is asked for.
pub(crate) enum Found {
    /// All of it.
    Whole(Box<Truth>),
    /// Some parts, by path with their sizes in bytes.
    Parts(BTreeMap<String, u64>),
}

/// Makes room for the lake, but for what is there of it already.
pub(crate) async fn prepare(
    plan: &Plan,
    lake: &Lake,
    replace: bool,
    free_bytes: Option<u64>,
) -> Result<Found, Error> {
    match truth::read(lake.store.as_ref(), &lake.prefix).await {
        Ok(Some(truth)) if truth.version == truth::VERSION && truth.config == *plan.config() => {
            let left = match replace {
                true => damaged(plan, lake).await?,
                false => None,
            };
            return match left {
                Some(present) => Ok(Found::Parts(present)),
                None => {
                    // Stopped between its last two steps.
                    lake.delete(BEGUN).await?;
                    Ok(Found::Whole(Box::new(truth)))
                }
            };
        }
        // Another version's truth is another lake.
        Ok(_) | Err(Error::Truth { .. }) => {}
        Err(error) => return Err(error),
    }
    let begun = |clearing| Begun::new(plan, clearing);
    let needs = |but_for: u64| {
        let needed = plan.estimated_bytes().saturating_sub(but_for);
        match free_bytes {
            Some(free) if free < needed => Err(Error::NoRoom { needed, free }),
            _ => Ok(()),
        }
    };
    let Some(found) = lake.anything_there().await? else {
        needs(0)?;
        put_json(lake, BEGUN, &begun(false)).await?;
        return Ok(Found::Parts(BTreeMap::new()));
    };
    let note = Begun::read(lake).await?;
    if note == Some(begun(false)) {
        let (present, foreign) = inspect::whole_parts(plan, lake).await?;
        if let (Some(path), false) = (foreign.first(), replace) {
            let path = path.to_string();
            return Err(Error::LakeExists { path });
        }
        for path in &foreign {
            lake.delete_path(path).await?;
        }
        needs(present.values().sum())?;
        return Ok(Found::Parts(present));
    }
    if !replace && note != Some(begun(true)) {
        let path = found.to_string();
        return Err(Error::LakeExists { path });
    }
    needs(lake.bytes_there().await?)?;
    // First the note, so that a generation interrupted while clearing can be repeated too.
    put_json(lake, BEGUN, &begun(true)).await?;
    lake.clear().await?;
    put_json(lake, BEGUN, &begun(false)).await?;
    Ok(Found::Parts(BTreeMap::new()))
}

/// Of a lake that has its truth, the parts that are whole, if not all of them are or there are others; then it is no lake
/// any more until the rest is made.
async fn damaged(plan: &Plan, lake: &Lake) -> Result<Option<BTreeMap<String, u64>>, Error> {
    let (present, foreign) = inspect::whole_parts(plan, lake).await?;
    if present.len() == plan.parts().len() && foreign.is_empty() {
        return Ok(None);
    }
    put_json(lake, BEGUN, &Begun::new(plan, false)).await?;
    lake.delete(truth::FILE).await?;
    for path in &foreign {
        lake.delete_path(path).await?;
    }
    Ok(Some(present))
}

/// Makes a lake of parts that are all there whole.
pub(crate) async fn finish(lake: &Lake, truth: &Truth) -> Result<(), Error> {
    put_json(lake, truth::FILE, truth).await?;
    lake.delete(BEGUN).await
}

/// Says, while a lake is being made, which one: an interrupted generation can be continued, but
/// data of unknown origin is never replaced unasked.
const BEGUN: &str = "_generating.json";

#[derive(PartialEq, Serialize, Deserialize)]
pub(crate) struct Begun {
    version: u32,
    pub(crate) config: Config,
    /// What was there before is being deleted: nothing there is of this lake.
    clearing: bool,
}

impl Begun {
    fn new(plan: &Plan, clearing: bool) -> Self {
        Self {
            version: truth::VERSION,
            config: plan.config().clone(),
            clearing,
        }
    }

    /// The note, if there is one of this version.
    pub(crate) async fn read(lake: &Lake) -> Result<Option<Self>, Error> {
        let note = lake.get(BEGUN).await?;
        let note = note.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(note.filter(|note| note.version == truth::VERSION))
    }
}

async fn put_json(lake: &Lake, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let json = serde_json::to_vec(value).map_err(|source| Error::Truth {
        path: lake.path(name).to_string(),
        source,
    })?;
    lake.put(name, Bytes::from(json)).await
}
