//! The hot keys of a column, from the beginnings of some of its files.

use datafusion::common::ScalarValue;
use datafusion::physical_plan::{ExecutionPlanProperties, execute_stream_partitioned};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;

use super::{ColumnSketch, Role};
use crate::error::Result;
use crate::session::Session;

/// Files of a log in which hot keys are looked for.
pub const FILES_FOR_HOT_KEYS: usize = 8;

/// Rows that are read, of all partitions together.
const SAMPLED_ROWS: usize = 1 << 20;

/// Hot keys of a join.
pub(super) const MAX_HOT_KEYS: usize = 512;

/// A key is hot that has more than half of what a task would have if rows were spread evenly over so
/// many tasks at least: how many a cluster has is known later.
const MIN_TASKS: usize = 128;

/// The share of the rows above which a key is hot where there are so many tasks.
pub(super) fn hot_share(tasks: usize) -> f64 {
    0.5 / tasks.max(MIN_TASKS) as f64
}

/// The hot keys in the first column of `frame`, the most frequent first, at most 512. A sample is
/// read; a type that isn't integer, text, date or timestamp has no hot keys.
///
/// # Errors
/// If the frame can't be read.
pub async fn hot_keys(session: &Session, frame: DataFrame) -> Result<Vec<ScalarValue>> {
    let plan = frame.create_physical_plan().await?;
    let schema = plan.schema();
    let field = schema.field(0);
    let Some(mut sketch) = ColumnSketch::new(field.name(), Role::Column, field.data_type()) else {
        return Ok(Vec::new());
    };
    let of_partition = SAMPLED_ROWS / plan.output_partitioning().partition_count().max(1);
    for mut stream in execute_stream_partitioned(plan, session.context().task_ctx())? {
        let mut rows = 0;
        while rows < of_partition
            && let Some(batch) = stream.try_next().await?
        {
            rows += batch.num_rows();
            sketch.add(batch.column(0))?;
        }
    }
    let share = hot_share(session.context().copied_config().target_partitions());
    Ok(sketch.frequent(share, MAX_HOT_KEYS)?)
}
