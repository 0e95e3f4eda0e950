//! Which plans Ballista may cut into stages.
//!
//! A join that collects its left side in one process keeps one record of which of its rows have
//! matched. Ballista turns such a join into one over partitions after the operators above it were
//! planned for a single one, and each partition then passes for the whole: a `FULL JOIN` below a
//! `count(*)` gave sixteen counts (found by our own tests, see `tests/it/cluster.rs`; ballista
//! #2046 reports others). Such plans are planned in another way, or computed in this process.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::statistics::StatisticsContext;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs};

use super::BROADCAST_BYTES;

/// Bytes of a row's column whose width is not known.
const WIDE_COLUMN_BYTES: usize = 32;

/// The operator that Ballista would cut wrongly, if there is one.
pub(super) fn unsafe_operator(plan: &Arc<dyn ExecutionPlan>) -> Option<String> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let collects = *join.partition_mode() == PartitionMode::CollectLeft;
        if join.null_aware {
            return Some("an anti join that minds nulls".to_owned());
        }
        if collects && remembers_left(*join.join_type()) {
            return Some(format!("a {} join of one left side", join.join_type()));
        }
        if collects && !is_broadcast(join.left()) {
            return Some("a join whose left side is of unknown size, or large".to_owned());
        }
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && remembers_left(*join.join_type())
    {
        return Some(format!("a {} join without equality", join.join_type()));
    }
    // Its executors refuse the tasks of some unions, and Ballista then counts them as lost.
    if plan.is::<UnionExec>() || plan.is::<InterleaveExec>() {
        return Some("a union".to_owned());
    }
    plan.children().into_iter().find_map(unsafe_operator)
}

/// Whether the rows of the left side that matched nothing, or something, are told at the end.
fn remembers_left(join_type: JoinType) -> bool {
    !matches!(
        join_type,
        JoinType::Inner
            | JoinType::Right
            | JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::RightMark
    )
}

/// Whether Ballista sends this side to every executor as it is; the same rule as its planner's.
fn is_broadcast(side: &Arc<dyn ExecutionPlan>) -> bool {
    let computed = StatisticsContext::new().compute(side.as_ref(), &StatisticsArgs::new());
    let Ok(statistics) = computed else {
        return false;
    };
    let bytes = statistics.total_byte_size.get_value().copied();
    let rows = statistics.num_rows.get_value().copied();
    let by_rows = rows.map(|rows| rows * side.schema().fields().len() * WIDE_COLUMN_BYTES);
    let bytes = bytes.filter(|bytes| *bytes != 0).or(by_rows);
    bytes.is_some_and(|bytes| bytes != 0 && bytes < BROADCAST_BYTES)
}
