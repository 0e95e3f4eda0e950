//! Joins that take more memory than there is: DataFusion's hash join holds one side as a table and
//! doesn't spill. Where that failed a plan is made anew, with joins that go to disk (`GraceJoinExec`).

mod grace;
mod parts;
mod task;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::StatisticsContext;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs};
use datafusion::prelude::SessionConfig;

pub(crate) use grace::GraceJoinExec;

/// What a report says of a plan that was computed anew with [`joins_in_parts`].
pub const JOINS_IN_PARTS: &str =
    "joins were planned anew to go to disk where they have to: the memory did not suffice";

/// DataFusion's error of memory that is short, in errors that come as text: for people, or as the
/// variant's name.
const OUT_OF_MEMORY: [&str; 2] = ["Resources exhausted", "ResourcesExhausted"];

/// A configuration under which equijoins shuffle both sides and go to disk. DataFusion plans that for
/// several partitions only.
pub fn joins_in_parts(config: SessionConfig) -> SessionConfig {
    let partitions = config.target_partitions().max(2);
    without_shared_tables(config.with_target_partitions(partitions))
}

/// A configuration under which no hash table is shared by all tasks: joins are over partitions of both
/// sides.
pub fn without_shared_tables(config: SessionConfig) -> SessionConfig {
    let mut config = config;
    let optimizer = &mut config.options_mut().optimizer;
    optimizer.hash_join_single_partition_threshold = 0;
    optimizer.hash_join_single_partition_threshold_rows = 0;
    config
}

/// Whether a configuration is [`without_shared_tables`].
fn are_in_parts(config: &ConfigOptions) -> bool {
    let optimizer = &config.optimizer;
    optimizer.hash_join_single_partition_threshold == 0
        && optimizer.hash_join_single_partition_threshold_rows == 0
}

/// Whether a plan joins by a hash table that doesn't go to disk.
pub fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<HashJoinExec>() || plan.children().into_iter().any(has_hash_join)
}

/// Whether an error's text says that memory was short.
pub fn is_out_of_memory(error: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|words| error.contains(words))
}

/// The operator over `join`, which knows how many rows the build side has if that is known.
pub(crate) fn in_parts(join: HashJoinExec) -> Result<GraceJoinExec> {
    let build = join.left().as_ref();
    let statistics = StatisticsContext::new().compute(build, &StatisticsArgs::new());
    let rows = statistics.ok();
    let rows = rows.and_then(|known| known.num_rows.get_value().copied());
    GraceJoinExec::try_new(join, rows.unwrap_or(0))
}

/// Puts `GraceJoinExec` in the place of hash joins [`without_shared_tables`]. Stands before the rule that sees to orders, as a hash join keeps that of its probe side.
#[derive(Debug, Default)]
pub(crate) struct JoinsInParts;

impl PhysicalOptimizerRule for JoinsInParts {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !are_in_parts(config) {
            return Ok(plan);
        }
        let replaced = plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) if GraceJoinExec::takes(join) => {
                let join = in_parts(join.builder().build()?)?;
                Ok(Transformed::yes(Arc::new(join) as _))
            }
            _ => Ok(Transformed::no(node)),
        });
        replaced.data()
    }

    fn name(&self) -> &str {
        "rankmill_joins_in_parts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
