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
use crate::truth::{self, DayRows, TableTotals, Truth};
use crate::work::Work;
use crate::{Config, Error, Part, Plan, Table};

/// Told how far a generation is; called from the worker threads.
pub trait Progress: Sync {
    /// A part is in the store, so large.
    fn part_done(&self, part: &Part, rows: u64, bytes: u64);

    /// All parts are in the store, and `truth.json` follows.
    fn truth_started(&self) {}

    /// Whether to stop: asked before each part. What was written until then stays, and the same
    /// generation begun again does what is left of it anew.
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
}

/// Generates the lake of a plan at `prefix` of a store.
///
/// It blocks: call it from [`tokio::task::spawn_blocking`] or from outside any runtime, with the handle of one that
/// runs on threads of its own. Rows are made on `threads`
/// threads of its own (at least one); `handle` is the runtime that does the store's input and output. Each thread
/// holds at most two encoded parts, one being made and one being written; beyond that, memory goes to the pairs of
/// the dates in work, at four bytes a row.
///
/// If the whole lake of an equal config is there, nothing is done. With `replace`, anything else that is there in
/// the tables' folders is deleted first.
///
/// # Errors
/// [`Error::LakeExists`] if something else is there and `replace` is not set; [`Error::Stopped`] if `progress` says
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
    let prefix = prefix.clone();
    let lake = Lake { store, prefix };
    if let Some(truth) = handle.block_on(prepare(plan, &lake, replace))? {
        return Ok(Report {
            tables: truth.tables,
            elapsed: started.elapsed(),
            already_there: true,
        });
    }
    let threads = threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("datagen-{index}"))
        .build()
        .map_err(|source| Error::Threads { threads, source })?;
    let work = pool.install(|| Work::new(plan, &lake, handle, progress));
    for outcome in pool.broadcast(|_| work.run()) {
        outcome?;
    }
    progress.truth_started();
    let truth = truth(plan, work);
    handle.block_on(async {
        put_json(&lake, truth::FILE, &truth).await?;
        lake.delete(BEGUN).await
    })?;
    Ok(Report {
        tables: truth.tables,
        elapsed: started.elapsed(),
        already_there: false,
    })
}

/// Makes room for the lake, unless it is there already: then that one's truth is returned.
async fn prepare(plan: &Plan, lake: &Lake, replace: bool) -> Result<Option<Truth>, Error> {
    match truth::read(lake.store.as_ref(), &lake.prefix).await {
        Ok(Some(truth)) if truth.version == truth::VERSION && truth.config == *plan.config() => {
            return Ok(Some(truth));
        }
        // Another version's truth is another lake.
        Ok(_) | Err(Error::Truth { .. }) => {}
        Err(error) => return Err(error),
    }
    let begun = Begun {
        version: truth::VERSION,
        config: plan.config().clone(),
    };
    if let Some(found) = lake.anything_there().await? {
        let interrupted = lake.get(BEGUN).await?.is_some_and(|bytes| {
            serde_json::from_slice::<Begun>(&bytes).is_ok_and(|there| there == begun)
        });
        if !replace && !interrupted {
            let path = found.to_string();
            return Err(Error::LakeExists { path });
        }
        // First the note, so that a generation interrupted while clearing can be repeated too.
        put_json(lake, BEGUN, &begun).await?;
        lake.clear().await?;
    } else {
        put_json(lake, BEGUN, &begun).await?;
    }
    Ok(None)
}

/// Says, while a lake is being made, which one: an interrupted generation can be repeated, but
/// data of unknown origin is never replaced unasked.
const BEGUN: &str = "_generating.json";

#[derive(PartialEq, Serialize, Deserialize)]
struct Begun {
    version: u32,
    config: Config,
}

async fn put_json(lake: &Lake, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let json = serde_json::to_vec(value).map_err(|source| Error::Truth {
        path: lake.path(name).to_string(),
        source,
    })?;
    lake.put(name, Bytes::from(json)).await
}

/// Puts the dates' answers together.
fn truth(plan: &Plan, work: Work<'_>) -> Truth {
    let (tables, answers) = work.finish();
    let mut truth = Truth {
        version: truth::VERSION,
        config: plan.config().clone(),
        tables,
        days: Vec::new(),
        unknown_user_clicks: 0,
        daily_popularity: Vec::new(),
        age_date_ranking: Vec::new(),
        daily_web_pages: Vec::new(),
    };
    for (day, answer) in plan.days().iter().zip(answers) {
        truth.days.push(DayRows {
            date: day.date,
            click_rows: day.clicks.end - day.clicks.start,
            web_rows: day.requests.end - day.requests.start,
        });
        truth.unknown_user_clicks += answer.clicks.unknown_user_clicks;
        truth.daily_popularity.push(answer.clicks.popularity);
        truth.age_date_ranking.extend(answer.clicks.by_age);
        truth.daily_web_pages.push(answer.pages);
    }
    truth
}
