//! Puts rankmill's aggregates in the place of DataFusion's where those are slow or depend on the
//! order of the rows.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::functions::{count_distinct_text, float_extreme};

/// - `count(distinct x)`: DataFusion counts distinct integers of all groups together, but keeps a
///   set for each group for every other type. Texts go to `count_distinct_text`; dates and
///   timestamps are counted as the integers that they are.
/// - `min(x)` and `max(x)` of floats go to `float_min` and `float_max`.
#[derive(Debug)]
pub struct Aggregates {
    text: Arc<AggregateUDF>,
    float_min: Arc<AggregateUDF>,
    float_max: Arc<AggregateUDF>,
}

impl Default for Aggregates {
    fn default() -> Self {
        Self {
            text: count_distinct_text(),
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
    fn rewrite_expr(&self, expr: &Expr, input: &DFSchema) -> Result<Option<Expr>> {
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
        let as_integer = |integer| (&call.func, cast(argument.clone(), integer), true);
        let (func, argument, distinct) = match argument_type {
            DataType::Utf8View => (&self.text, argument.clone(), false),
            DataType::Utf8 | DataType::LargeUtf8 => (
                &self.text,
                cast(argument.clone(), DataType::Utf8View),
                false,
            ),
            DataType::Date32 => as_integer(DataType::Int32),
            DataType::Date64 | DataType::Timestamp(_, _) => as_integer(DataType::Int64),
            _ => return None,
        };
        Some(replaced(call, func, argument, distinct))
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
