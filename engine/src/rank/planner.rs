//! Plans a ranking as a local and a final step, and a cut as it is.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{create_physical_expr, create_physical_sort_exprs};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::exec::{RankExec, RankMode};
use super::group_limit::{GroupLimitExec, GroupLimitNode};
use super::node::RankNode;
use crate::fused::{self, FusedNode};
use crate::salted::{self, SaltedJoinNode};
use crate::work::{WorkExec, WorkNode, Workers};

/// DataFusion's planner, and rankmill's operators.
#[derive(Debug)]
pub struct RankingQueryPlanner;

#[async_trait]
impl QueryPlanner for RankingQueryPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session_state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(RankPlanner)])
            .create_physical_plan(logical_plan, session_state)
            .await
    }
}

struct RankPlanner;

#[async_trait]
impl ExtensionPlanner for RankPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session_state: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(node) = node.as_any().downcast_ref::<FusedNode>() {
            return fused::plan(node, physical_inputs, session_state, context).map(Some);
        }
        if let Some(node) = node.as_any().downcast_ref::<SaltedJoinNode>() {
            return salted::plan(node, physical_inputs, session_state, context).map(Some);
        }
        if let Some(node) = node.as_any().downcast_ref::<GroupLimitNode>() {
            return group_limit(node, &physical_inputs[0], session_state, context).map(Some);
        }
        if let Some(node) = node.as_any().downcast_ref::<WorkNode>() {
            let input = Arc::clone(&physical_inputs[0]);
            // Planned here, done elsewhere.
            let exec = WorkExec::try_new(input, node.work().clone(), Workers::default())?;
            return Ok(Some(Arc::new(exec)));
        }
        let Some(node) = node.as_any().downcast_ref::<RankNode>() else {
            return Ok(None);
        };
        let ranking = Arc::new(node.ranking().clone());
        let input = Arc::clone(&physical_inputs[0]);
        let local = RankExec::try_new(input, Arc::clone(&ranking), RankMode::Local)?;
        let merged = RankExec::try_new(Arc::new(local), ranking, RankMode::Final)?;
        Ok(Some(Arc::new(merged)))
    }
}

fn group_limit(
    node: &GroupLimitNode,
    input: &Arc<dyn ExecutionPlan>,
    state: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (schema, props) = (node.input().schema(), state.execution_props());
    let groups = node.groups().iter();
    let groups = groups.map(|group| create_physical_expr(group, schema, props, context));
    let order = create_physical_sort_exprs(node.order(), schema, props, context)?;
    let groups = groups.collect::<Result<_>>()?;
    let exec = GroupLimitExec::try_new(Arc::clone(input), groups, order, node.limit())?;
    Ok(Arc::new(exec))
}
