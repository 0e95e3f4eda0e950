//! Puts rankmill's aggregates in the place of DataFusion's where those are slow or depend on the
//! order of the rows.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::functions::{DistinctKind, count_distinct, float_extreme};

/// - `count(distinct x)`: DataFusion keeps a set for each group, but for integers. Texts go to
///   `count_distinct_text`; integers, dates and timestamps to `count_distinct_integer`, whose
///   pairs take half the memory.
/// - `min(x)` and `max(x)` of floats go to `float_min` and `float_max`.
#[derive(Debug)]
pub struct Aggregates {
    text: Arc<AggregateUDF>,
    integer: Arc<AggregateUDF>,
    float_min: Arc<AggregateUDF>,
    float_max: Arc<AggregateUDF>,
}

impl Default for Aggregates {
    fn default() -> Self {
        Self {
            text: count_distinct(DistinctKind::Text),
            integer: count_distinct(DistinctKind::Integer),
            float_min: float_extreme(false),
            float_max: float_extreme(true),
        }
    }
}

impl OptimizerRule for Aggregates {
    fn name(&self) -> &str {
        "rankmill_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = plan else {
            return Ok(Transformed::no(plan));
        };
        let input = aggregate.input.schema();
        let mut changed = false;
        let mut rewritten = Vec::with_capacity(aggregate.aggr_expr.len());
        for expr in &aggregate.aggr_expr {
            let new = self.rewrite_expr(expr, input)?;
            changed |= new.is_some();
            rewritten.push(new.unwrap_or_else(|| expr.clone()));
        }
        if !changed {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let aggregate = Aggregate::try_new_with_schema(
            aggregate.input,
            aggregate.group_expr,
            rewritten,
            aggregate.schema,
        )?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
    }
}

impl Aggregates {
    /// The aggregate to use instead, under the same name; `None` to leave it as it is.
    pub(crate) fn rewrite_expr(&self, expr: &Expr, input: &DFSchema) -> Result<Option<Expr>> {
        let call = match expr {
            Expr::AggregateFunction(call) => call,
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::AggregateFunction(call) => call,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let [argument] = call.params.args.as_slice() else {
            return Ok(None);
        };
        if !call.params.order_by.is_empty() {
            return Ok(None);
        }
        let argument_type = argument.get_type(input)?;
        let new = match (call.func.name(), call.params.distinct) {
            ("count", true) => self.count_distinct(call, argument, &argument_type),
            ("min", _) => extreme(&self.float_min, call, argument, &argument_type),
            ("max", _) => extreme(&self.float_max, call, argument, &argument_type),
            _ => None,
        };
        let Some(new) = new else {
            return Ok(None);
        };
        let (qualifier, name) = expr.qualified_name();
        Ok(Some(new.alias_qualified(qualifier, name)))
    }

    fn count_distinct(
        &self,
        call: &AggregateFunction,
        argument: &Expr,
        argument_type: &DataType,
    ) -> Option<Expr> {
        let (func, value_type) = match argument_type {
            DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => {
                (&self.text, DataType::Utf8View)
            }
            DataType::UInt64 => return None,
            t if t.is_integer() => (&self.integer, DataType::Int64),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                (&self.integer, DataType::Int64)
            }
            _ => return None,
        };
        let argument = match *argument_type == value_type {
            true => argument.clone(),
            false => cast(argument.clone(), value_type),
        };
        Some(replaced(call, func, argument, false))
    }
}

fn extreme(
    func: &Arc<AggregateUDF>,
    call: &AggregateFunction,
    argument: &Expr,
    argument_type: &DataType,
) -> Option<Expr> {
    let is_float = matches!(argument_type, DataType::Float64 | DataType::Float32);
    is_float.then(|| replaced(call, func, argument.clone(), false))
}

/// The call with another function and argument; its FILTER stays.
fn replaced(
    call: &AggregateFunction,
    func: &Arc<AggregateUDF>,
    argument: Expr,
    distinct: bool,
) -> Expr {
    let mut params = call.params.clone();
    params.args = vec![argument];
    params.distinct = distinct;
    Expr::AggregateFunction(AggregateFunction {
        func: Arc::clone(func),
        params,
    })
}
