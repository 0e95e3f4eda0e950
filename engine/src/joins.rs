//! Joins that take more memory than there is: DataFusion's hash join holds one side as a table and
//! doesn't spill. Its sort-merge join does, but takes longer, so it comes second.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::prelude::SessionConfig;

/// What a report says of a plan that was computed anew with [`sorted_joins`].
pub const JOINS_SORTED: &str =
    "joins sort and merge both sides: with hash tables the memory did not suffice";

/// DataFusion's error of memory that is short, in errors that come as text: for people, or as the
/// variant's name.
const OUT_OF_MEMORY: [&str; 2] = ["Resources exhausted", "ResourcesExhausted"];

/// Rows of a batch: what a sort may hold is its share among all operators that spill, and a batch has
/// to fit twice.
const BATCH_ROWS: usize = 1_024;
/// What a sort sets aside to merge what it has spilled; DataFusion's own is half of a small slot.
const MERGE_BYTES: usize = 1 << 20;

/// A configuration under which both sides of equijoins are sorted and merged. DataFusion plans that
/// for several partitions only.
pub fn sorted_joins(config: SessionConfig) -> SessionConfig {
    let partitions = config.target_partitions().max(2);
    let batch_rows = config.batch_size().min(BATCH_ROWS);
    let mut config = config;
    let set_aside = &mut config.options_mut().execution.sort_spill_reservation_bytes;
    *set_aside = (*set_aside).min(MERGE_BYTES);
    config
        .with_target_partitions(partitions)
        .with_batch_size(batch_rows)
        .set_bool("datafusion.optimizer.prefer_hash_join", false)
}

/// Whether a plan joins by a hash table.
pub fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<HashJoinExec>() || plan.children().into_iter().any(has_hash_join)
}

/// Whether an error's text says that memory was short.
pub fn is_out_of_memory(error: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|words| error.contains(words))
}
