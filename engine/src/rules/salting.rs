//! Joins a log with a dimension too large for a table so that no task gets all rows of a hot key.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::star::keyed_sides;
use crate::salted::SaltedJoinNode;

/// `FROM log JOIN d ON log.k = d.key` becomes a [`SaltedJoinNode`] where `d` is known to be too large
/// for a table ([`with_known_keys`](super::with_known_keys)): DataFusion would hold it whole in each
/// process, or send all rows of a key to one task. Inner joins, and outer ones that keep the log; keys may
/// occur more than once.
#[derive(Debug, Default)]
pub struct SaltedJoins;

impl OptimizerRule for SaltedJoins {
    fn name(&self) -> &str {
        "rankmill_salted_joins"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = &plan else {
            return Ok(Transformed::no(plan));
        };
        match salted(join)? {
            Some(salted) => Ok(Transformed::yes(salted)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

fn salted(join: &Join) -> Result<Option<LogicalPlan>> {
    for side in keyed_sides(join)? {
        let Some(shuffled) = side.table.shuffled_key(&side.column) else {
            continue;
        };
        let node = SaltedJoinNode::try_new(
            side.log.as_ref().clone(),
            side.plan.as_ref().clone(),
            (side.fact_key.clone(), side.key.clone()),
            shuffled.hot.clone(),
            shuffled.table_bytes,
        )?;
        let mut plan = LogicalPlanBuilder::from(node.into_plan());
        if join.join_type == JoinType::Inner {
            // A dimension's key is null where nothing matched.
            plan = plan.filter(Expr::Column(side.key.clone()).is_not_null())?;
        }
        let columns: Vec<Column> = join.schema.columns();
        let plan = plan.project(columns.into_iter().map(Expr::Column))?;
        return plan.build().map(Some);
    }
    Ok(None)
}
