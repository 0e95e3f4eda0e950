//! Joins that take more memory than there is: DataFusion's hash join holds one side as a table and
//! doesn't spill. Its sort-merge join does, but takes longer, so it comes second.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::prelude::SessionConfig;

/// What a report says of a plan that was computed anew with [`sorted_joins`].
pub const JOINS_SORTED: &str =
    "joins sort and merge both sides: a side as a hash table took more memory than there is";

/// DataFusion's error of memory that is short, in errors that come as text: for people, or as the
/// variant's name.
const OUT_OF_MEMORY: [&str; 2] = ["Resources exhausted", "ResourcesExhausted"];

/// A configuration under which both sides of equijoins are sorted and merged. DataFusion plans that
/// for several partitions only.
pub fn sorted_joins(config: SessionConfig) -> SessionConfig {
    let partitions = config.target_partitions().max(2);
    config
        .with_target_partitions(partitions)
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
