//! Carries out a plan that is cut by time as the time comes: a day's traffic in micro-batches, to soak schedules and
//! the handling of late data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use rayon::prelude::*;
use tokio::runtime::Handle;

use crate::lake::Lake;
use crate::make::pool;
use crate::runner::{Begun, Found, Progress, finish, prepare};
use crate::truth::{self, Totals, add_part};
use crate::{Config, Error, Maker, Part, Plan};

/// Parts under way at once while it catches up.
const CATCHING_UP: usize = 8;

/// The time by which parts are due, told how far it is.
pub trait Pace: Progress {
    /// The time now (microseconds since 1970, UTC).
    fn now_us(&self) -> i64;

    /// Waits for a time (microseconds since 1970, UTC). `false` says to stop before it has come.
    fn wait_until(&self, at_us: i64) -> bool;
}

/// What was appended.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// Files written.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// All dates of the plan have passed, and the lake has its truth.
    pub is_whole: bool,
}

/// Appends the parts of a plan with [`Config::seconds_per_file`] at `prefix` of a store, each when the last of its
/// events has happened; dimensions and what is overdue at once. It goes on where an equal generation was stopped.
///
/// It blocks, like [`generate`](crate::generate). What is overdue is made on `threads` threads of its own, the rest on
/// the caller's.
///
/// # Errors
/// Those of [`generate`](crate::generate), but for [`Error::Stopped`]: a stop is the usual end.
pub fn append(
    plan: &Plan,
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    threads: usize,
    handle: &Handle,
    replace: bool,
    pace: &dyn Pace,
) -> Result<Appended, Error> {
    let lake = Lake::new(store, prefix);
    let mut appended = Appended::default();
    let prepared = prepare(plan, &lake, replace, pace.free_bytes());
    let present = match handle.block_on(prepared)? {
        Found::Whole(_) => {
            appended.is_whole = true;
            return Ok(appended);
        }
        Found::Parts(present) => present,
    };
    let maker = Maker::new(plan);
    // None when it is to stop.
    let stopped = AtomicBool::new(false);
    let make = |part: &Part| -> Result<Option<u64>, Error> {
        let wait = |at_us| !stopped.load(Ordering::Relaxed) && pace.wait_until(at_us);
        if !part.ready_at_us.is_none_or(wait) {
            stopped.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let file = Bytes::from(maker.part(part)?);
        let bytes = file.len() as u64;
        handle.block_on(lake.put(&part.path, file))?;
        pace.part_done(part, part.row_count(), bytes);
        Ok(Some(bytes))
    };
    let missing = by_time(plan).into_iter();
    let missing = missing.filter(|part| !present.contains_key(&part.path));
    let missing: Vec<&Part> = missing.collect();
    let now_us = pace.now_us();
    let overdue = missing.partition_point(|part| part.ready_at_us < Some(now_us));
    let (overdue, later) = missing.split_at(overdue);
    // Most of the time goes to the store.
    let made = pool(threads.max(CATCHING_UP))?.install(|| {
        let overdue = overdue.par_iter();
        let made = overdue.map(|part| Ok((*part, make(part)?)));
        made.collect::<Result<Vec<_>, Error>>()
    });
    let mut sizes = present;
    let later = later.iter().map(|part| Ok((*part, make(part)?)));
    // Once stopped, nothing more is made: `later` is walked to its end at once.
    for made in made?.into_iter().map(Ok).chain(later) {
        let (part, bytes): (&Part, Option<u64>) = made?;
        // Others that were made at the same time count all the same.
        let Some(bytes) = bytes else {
            continue;
        };
        appended.files += 1;
        appended.rows += part.row_count();
        appended.bytes += bytes;
        sizes.insert(part.path.clone(), bytes);
    }
    let mut tables = Totals::new();
    for part in plan.parts() {
        match sizes.get(&part.path) {
            Some(&bytes) => add_part(&mut tables, part, bytes),
            None => return Ok(appended),
        }
    }
    pace.truth_started();
    let dates = (0..plan.days().len()).map(|day| maker.date(day));
    let truth = maker.truth(tables, dates.collect());
    handle.block_on(finish(&lake, &truth))?;
    appended.is_whole = true;
    Ok(appended)
}

/// The parts, dimensions first, in the order in which they are due.
fn by_time(plan: &Plan) -> Vec<&Part> {
    let mut parts: Vec<&Part> = plan.parts().iter().collect();
    parts.sort_by_key(|part| part.ready_at_us);
    parts
}

/// The config of the generation that was begun at `prefix` of a store, done or not, if there is one.
///
/// # Errors
/// [`Error::Store`] if the store fails.
pub async fn begun(store: Arc<dyn ObjectStore>, prefix: &Path) -> Result<Option<Config>, Error> {
    let lake = Lake::new(store, prefix);
    if let Some(begun) = Begun::read(&lake).await? {
        return Ok(Some(begun.config));
    }
    match truth::read(lake.store.as_ref(), &lake.prefix).await {
        Ok(truth) => Ok(truth.map(|truth| truth.config)),
        // Something else's: in the way, as will be said.
        Err(Error::Truth { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
