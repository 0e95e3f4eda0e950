//! Plans a salted join.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::Session;
use datafusion::common::{JoinType, NullEquality, Result, ScalarValue};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::expressions::{Column, try_cast};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, JoinOn, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;

use super::exec::{KEY, SALT, SaltExec, Salting, Side};
use super::node::SaltedJoinNode;
use crate::joins::in_parts;

/// Salts for each task: hashes spread them over the tasks, the more the evener.
const SALTS_PER_TASK: usize = 16;
/// Copies of the dimension's hot rows, all together, unless each task needs one.
const MAX_COPIES: usize = 1 << 20;

/// Plans `node` over its inputs' plans.
pub(crate) fn plan(
    node: &SaltedJoinNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    state: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let (log, dimension) = (&inputs[0], &inputs[1]);
    let (log_schema, dimension_schema) = (log.schema(), dimension.schema());
    let props = state.execution_props();
    let fact_key = create_physical_expr(node.fact_key(), node.log_schema(), props, context)?;
    let key_at = node.dimension_key()?;
    let key_field = dimension_schema.field(key_at);
    let dimension_key = Column::new(key_field.name(), key_at);
    let key_type = common_type(&fact_key.data_type(&log_schema)?, key_field.data_type());
    let salting = Arc::new(Salting {
        hot: keys_of_type(node.hot(), &key_type),
        salts: salts(state.config().target_partitions(), node.hot().len()) as u32,
        table_bytes: node.table_bytes() as u64,
    });
    let salted = |input: &Arc<dyn ExecutionPlan>, key: Arc<dyn PhysicalExpr>, side| {
        let key = try_cast(key, &input.schema(), key_type.clone())?;
        let exec = SaltExec::try_new(Arc::clone(input), key, Arc::clone(&salting), side)?;
        Ok::<_, datafusion::error::DataFusionError>(Arc::new(exec) as Arc<dyn ExecutionPlan>)
    };
    let log = salted(log, fact_key, Side::Log)?;
    let dimension = salted(dimension, Arc::new(dimension_key), Side::Dimension)?;
    let of_log = log_schema.fields().len();
    let of_dimension = dimension_schema.fields().len();
    let join = in_parts(hash_join(dimension, log)?)?;
    let (log_at, dimension_at) = (of_dimension + 2, 0);
    let columns = (log_at..log_at + of_log).chain(dimension_at..dimension_at + of_dimension);
    let joined = join.schema();
    let columns = columns.map(|at| {
        let name = joined.field(at).name();
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, at));
        (column, name.clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, Arc::new(join))?))
}

/// The type in which keys are compared. What it can't hold becomes null, as no key of the other side
/// can be equal to it.
fn common_type(fact: &DataType, dimension: &DataType) -> DataType {
    let is_text = |t: &DataType| match t {
        DataType::Dictionary(_, values) => values.is_string(),
        other => other.is_string(),
    };
    match (fact, dimension) {
        (fact, _) if is_text(fact) => DataType::Utf8View,
        (DataType::UInt64, DataType::UInt64) => DataType::UInt64,
        _ => DataType::Int64,
    }
}

fn keys_of_type(keys: &[ScalarValue], key_type: &DataType) -> Vec<ScalarValue> {
    let keys = keys.iter().filter_map(|key| key.cast_to(key_type).ok());
    keys.filter(|key| !key.is_null()).collect()
}

fn salts(tasks: usize, hot: usize) -> usize {
    if tasks < 2 {
        return 1;
    }
    let affordable = MAX_COPIES / hot.max(1);
    (tasks * SALTS_PER_TASK).min(affordable.max(tasks))
}

/// Each row of the log with that of the dimension, or with nulls, by the columns that a [`SaltExec`]
/// has put behind those of its input.
fn hash_join(
    dimension: Arc<dyn ExecutionPlan>,
    log: Arc<dyn ExecutionPlan>,
) -> Result<HashJoinExec> {
    let columns = |side: &Schema| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let columns = [KEY, SALT].into_iter();
        let columns = columns.map(|name| Ok(Arc::new(Column::new_with_schema(name, side)?) as _));
        columns.collect()
    };
    let of_dimension = columns(&dimension.schema())?.into_iter();
    let on: JoinOn = of_dimension.zip(columns(&log.schema())?).collect();
    HashJoinExec::try_new(
        dimension,
        log,
        on,
        None,
        &JoinType::Right,
        None,
        PartitionMode::Partitioned,
        NullEquality::NullEqualsNothing,
        false,
    )
}
