//! `count(distinct x)` where DataFusion would keep a set for each group.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::functions::count_distinct_text;

/// DataFusion counts distinct integers of all groups together, but keeps a set for each group
/// for every other type. Texts go to [`count_distinct_text`]; dates and timestamps are counted
/// as the integers that they are.
#[derive(Debug)]
pub struct CountDistinct {
    text: Arc<AggregateUDF>,
}

impl Default for CountDistinct {
    fn default() -> Self {
        Self {
            text: count_distinct_text(),
        }
    }
}

impl OptimizerRule for CountDistinct {
    fn name(&self) -> &str {
        "rankmill_count_distinct"
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

impl CountDistinct {
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
        let params = &call.params;
        let [argument] = params.args.as_slice() else {
            return Ok(None);
        };
        if call.func.name() != "count" || !params.distinct || !params.order_by.is_empty() {
            return Ok(None);
        }
        let mut params = params.clone();
        let func = match argument.get_type(input)? {
            DataType::Utf8View => {
                params.distinct = false;
                &self.text
            }
            DataType::Utf8 | DataType::LargeUtf8 => {
                params.args = vec![cast(argument.clone(), DataType::Utf8View)];
                params.distinct = false;
                &self.text
            }
            DataType::Date32 => {
                params.args = vec![cast(argument.clone(), DataType::Int32)];
                &call.func
            }
            DataType::Date64 | DataType::Timestamp(_, _) => {
                params.args = vec![cast(argument.clone(), DataType::Int64)];
                &call.func
            }
            _ => return Ok(None),
        };
        let rewritten = Expr::AggregateFunction(AggregateFunction {
            func: Arc::clone(func),
            params,
        });
        let (qualifier, name) = expr.qualified_name();
        Ok(Some(rewritten.alias_qualified(qualifier, name)))
    }
}
