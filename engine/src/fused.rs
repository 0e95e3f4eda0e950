//! A grouped aggregation that touches each row of a log once: lookups in dimensions, numbering of
//! groups and aggregates in one operator.
//!
//! What makes it fast is that a row is small numbers nearly at once. A dimension is a code table
//! (`dimension`), built once in a process. Groups are numbered by arithmetic where the keys' domain
//! is small (`groups`), so that counts are arrays. Distinct values are packed pairs of group and
//! value, spread over buckets that fit the caches (`pairs`).
//!
//! What keeps skew harmless: a hot group is a counter like any other; its distinct values are spread
//! over all buckets; and where a date's rows are in several tasks, its values travel by their own hash
//! and not by the group's, so that no task gets a whole hot group.
//!
//! What doesn't fit the memory goes to disk (`spill`): groups by the hash of their keys, and beside
//! them their distinct values, cut by their own hash once more where those of a group don't fit.
//!
//! Steps (`exec`): with whole dates in each task, one (`Single`). Else `Partial`, and `Final` by
//! group; between them, where distinct values are counted, `Count` by value.

mod aggregator;
mod definition;
mod dimension;
mod exec;
mod groups;
mod log;
mod node;
mod pairs;
mod planner;
mod selection;
mod spill;
mod task;
#[cfg(test)]
mod tests;
mod texts;
mod windows;
pub(crate) mod wire;

pub use aggregator::MAX_DAYS;
pub(crate) use dimension::forget_unused;
pub use dimension::{TableBytes, held_table_bytes, table_bytes};
pub use exec::FusedExec;
pub(crate) use groups::{fits_dense, for_integer, has_dense_form};
pub(crate) use log::column_name;
pub use node::{FusedNode, KeySpec, LookupSpec, MeasureSpec};
pub(crate) use planner::{WholeDates, plan};
pub use planner::{can_look_up, counts_distinct};
pub(crate) use selection::FusedFilters;
pub use windows::{WindowGroups, WindowPlan};

use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;

use crate::error::Result;
use crate::session::Session;

/// What is known of the keys of a dimension once its table is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableKeys {
    /// Some that occur more than once.
    pub repeated: Vec<String>,
    /// Bytes of the table in this process.
    pub bytes: usize,
}

/// Builds the table of a dimension in this process, or finds it; none if it takes more than `most`
/// bytes. `cache_key` and `rows` as in [`LookupSpec`].
pub async fn table_keys(
    session: &Session,
    cache_key: &str,
    dimension: &LogicalPlan,
    rows: usize,
    most: usize,
) -> Result<Option<TableKeys>> {
    let context = session.context();
    let plan = context.state().create_physical_plan(dimension).await?;
    let table = dimension::dimension(cache_key, &plan, rows, most, &context.task_ctx()).await;
    let table = match table {
        Err(DataFusionError::External(error)) if error.is::<dimension::TooLarge>() => {
            return Ok(None);
        }
        table => table?,
    };
    if table.size() > most {
        // Rows will be joined instead, and need the memory.
        dimension::forget(cache_key);
        return Ok(None);
    }
    if !table.repeated.is_empty() {
        // Nobody will look anything up in it.
        dimension::forget(cache_key);
    }
    Ok(Some(TableKeys {
        repeated: table.repeated.clone(),
        bytes: table.size(),
    }))
}
