//! Carries out a plan that is cut by time as the time comes: a day's traffic in micro-batches, to soak schedules and
//! the handling of late data.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::Handle;

use crate::lake::Lake;
use crate::runner::{Begun, Found, Progress, finish, prepare};
use crate::truth::TableTotals;
use crate::{Config, Error, Maker, Part, Plan, Table};

/// The time by which parts are due.
pub trait Pace {
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
/// It blocks, like [`generate`](crate::generate), and makes rows on the caller's thread.
///
/// # Errors
/// Those of [`generate`](crate::generate), but for [`Error::Stopped`]: a stop is the usual end.
pub fn append(
    plan: &Plan,
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    handle: &Handle,
    replace: bool,
    progress: &dyn Progress,
    pace: &dyn Pace,
) -> Result<Appended, Error> {
    let lake = Lake {
        store,
        prefix: prefix.clone(),
    };
    let mut appended = Appended::default();
    let prepared = prepare(plan, &lake, replace, progress.free_bytes());
    let present = match handle.block_on(prepared)? {
        Found::Whole(_) => {
            appended.is_whole = true;
            return Ok(appended);
        }
        Found::Parts(present) => present,
    };
    let maker = Maker::new(plan);
    let mut tables: BTreeMap<Table, TableTotals> = BTreeMap::new();
    for part in by_time(plan) {
        let bytes = match present.get(&part.path) {
            Some(&bytes) => bytes,
            None => {
                if part
                    .ready_at_us
                    .is_some_and(|at_us| !pace.wait_until(at_us))
                {
                    return Ok(appended);
                }
                let file = Bytes::from(maker.part(part)?);
                let bytes = file.len() as u64;
                handle.block_on(lake.put(&part.path, file))?;
                appended.files += 1;
                appended.rows += part.row_count();
                appended.bytes += bytes;
                progress.part_done(part, part.row_count(), bytes);
                bytes
            }
        };
        let totals = tables.entry(part.table).or_default();
        totals.rows += part.row_count();
        totals.bytes += bytes;
        totals.files += 1;
    }
    progress.truth_started();
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

/// The config of the generation that was begun at `prefix` of a store and isn't done yet, if there is one.
///
/// # Errors
/// [`Error::Store`] if the store fails.
pub async fn begun(store: Arc<dyn ObjectStore>, prefix: &Path) -> Result<Option<Config>, Error> {
    let lake = Lake {
        store,
        prefix: prefix.clone(),
    };
    Ok(Begun::read(&lake).await?.map(|begun| begun.config))
}
