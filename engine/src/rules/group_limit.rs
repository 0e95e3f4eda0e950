//! Puts a cut below windows of which only the first rows of each group are asked for.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, Operator, Window};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::rank::{GroupLimitNode, is_orderable};

/// Rows of a group beyond which a cut isn't worth the memory.
const MOST_ROWS: u64 = 100_000;

/// `row_number() OVER (PARTITION BY g ORDER BY m) AS rn … WHERE rn <= n`: a [`GroupLimitNode`] below
/// the window leaves out what can't be among the first n rows of a group, before rows are exchanged
/// and sorted. The window and the filter stay. Its node may have nothing but `row_number()`: other
/// functions may look at rows behind. Intervals, lists and structs aren't ordered by.
#[derive(Debug, Default)]
pub struct GroupLimits;

impl OptimizerRule for GroupLimits {
    fn name(&self) -> &str {
        "rankmill_group_limits"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else {
            return Ok(Transformed::no(plan));
        };
        let window = match filter.input.as_ref() {
            LogicalPlan::Window(window) if !is_limited(&window.input) => window,
            _ => return Ok(Transformed::no(LogicalPlan::Filter(filter))),
        };
        let Some(input) = limited(window, &filter.predicate)? else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        let window = Window::try_new(window.window_expr.clone(), Arc::new(input))?;
        let window = Arc::new(LogicalPlan::Window(window));
        let filter = Filter::try_new(filter.predicate, window)?;
        Ok(Transformed::yes(LogicalPlan::Filter(filter)))
    }
}

/// Whether an earlier pass has been here; filters and projections may have come between.
fn is_limited(input: &LogicalPlan) -> bool {
    match input {
        LogicalPlan::Extension(extension) => extension.node.as_any().is::<GroupLimitNode>(),
        LogicalPlan::Filter(filter) => is_limited(&filter.input),
        LogicalPlan::Projection(projection) => is_limited(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_limited(&alias.input),
        _ => false,
    }
}

/// The window's input, cut.
fn limited(window: &Window, predicate: &Expr) -> Result<Option<LogicalPlan>> {
    let inputs = window.input.schema().fields().len();
    let (mut limit, mut params) = (u64::MAX, None);
    for (at, expr) in window.window_expr.iter().enumerate() {
        let Some(row_number) = row_number(expr) else {
            return Ok(None);
        };
        let column = Column::from(window.schema.qualified_field(inputs + at));
        let least = split_conjunction(predicate).into_iter();
        let least = least.filter_map(|e| most(e, &column)).min();
        limit = limit.min(least.unwrap_or(u64::MAX));
        params = Some(row_number);
    }
    let Some(params) = params.filter(|_| (1..=MOST_ROWS).contains(&limit)) else {
        return Ok(None);
    };
    if !can_limit(params, window.input.schema())? {
        return Ok(None);
    }
    let input = window.input.as_ref().clone();
    let (groups, order) = (params.partition_by.clone(), params.order_by.clone());
    let node = GroupLimitNode::try_new(input, groups, order, limit as usize)?;
    Ok(Some(node.into_plan()))
}

/// Over what a `row_number()` counts.
fn row_number(expr: &Expr) -> Option<&WindowFunctionParams> {
    match expr {
        Expr::Alias(alias) => row_number(&alias.expr),
        Expr::WindowFunction(call) if call.fun.name() == "row_number" => Some(&call.params),
        _ => None,
    }
}

fn can_limit(params: &WindowFunctionParams, input: &DFSchema) -> Result<bool> {
    if params.partition_by.is_empty() || params.order_by.is_empty() {
        return Ok(false);
    }
    let order = params.order_by.iter().map(|sort| &sort.expr);
    for expr in params.partition_by.iter().chain(order) {
        if expr.is_volatile() || !is_orderable(&expr.get_type(input)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The largest value of a column for which a predicate holds; none if it doesn't say.
fn most(predicate: &Expr, column: &Column) -> Option<u64> {
    let is_column = |expr: &Expr| expr.try_as_col() == Some(column);
    match predicate {
        Expr::BinaryExpr(both) if both.op == Operator::And => {
            let sides = [most(&both.left, column), most(&both.right, column)];
            sides.into_iter().flatten().min()
        }
        Expr::BinaryExpr(either) if either.op == Operator::Or => {
            Some(most(&either.left, column)?.max(most(&either.right, column)?))
        }
        Expr::BinaryExpr(compared) => {
            let (op, value) = match is_column(&compared.left) {
                true => (compared.op, &compared.right),
                false if is_column(&compared.right) => (compared.op.swap()?, &compared.left),
                false => return None,
            };
            match op {
                Operator::Lt => literal(value)?.checked_sub(1),
                Operator::LtEq | Operator::Eq => literal(value),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && is_column(&between.expr) => {
            literal(&between.high)
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => {
            let values: Option<Vec<u64>> = list.list.iter().map(literal).collect();
            values?.into_iter().max()
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<u64> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    match value.cast_to(&DataType::UInt64).ok()? {
        ScalarValue::UInt64(value) => value,
        _ => None,
    }
}
