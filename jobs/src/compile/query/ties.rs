//! Window functions whose results mustn't depend on how ties were split.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, Window, WindowFrameBound, WindowFrameUnits,
};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use super::ascending;

/// Extends the order of window functions that tell tied rows apart by all columns of their input
/// that the query uses; by all where it has several windows, which may be one that is used twice and
/// has to number its rows alike. Ranks stay as they are, for which ties are ties, and so do frames that end
/// with the ties of a row (RANGE, GROUPS).
pub(super) fn with_ordered_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let (mut found, mut windows) = (false, 0);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Window(window) = node {
            found |= window.window_expr.iter().any(splits_ties);
            windows += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(plan);
    }
    // Rows that are equal in all that is used can't be told apart: nothing else needs to be read.
    let plan = match windows {
        1 => {
            OptimizeProjections::new()
                .rewrite(plan, &OptimizerContext::new())?
                .data
        }
        _ => plan,
    };
    let ordered = plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::Window(window) if window.window_expr.iter().any(splits_ties) => {
                Transformed::yes(ordered(window)?)
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(ordered.data)
}

/// The windows with their orders extended, under the names that they had.
fn ordered(window: Window) -> Result<LogicalPlan> {
    let input = Arc::unwrap_or_clone(window.input);
    let inputs = input.schema().columns();
    let calls = window.window_expr.into_iter();
    let calls: Vec<Expr> = calls.map(|call| extended(call.unalias(), &input)).collect();
    let mut columns: Vec<Expr> = inputs.into_iter().map(Expr::Column).collect();
    let names = window.schema.iter().skip(columns.len());
    for (call, (qualifier, field)) in calls.iter().zip(names) {
        let (relation, name) = call.qualified_name();
        let column = Expr::Column(Column::new(relation, name));
        columns.push(column.alias_qualified(qualifier.cloned(), field.name()));
    }
    let plan = LogicalPlanBuilder::window_plan(input, calls)?;
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn extended(call: Expr, input: &LogicalPlan) -> Expr {
    if !splits_ties(&call) {
        return call;
    }
    let Expr::WindowFunction(mut call) = call else {
        return call;
    };
    let params = &mut call.params;
    for sort in ascending(input) {
        let known = params.order_by.iter().any(|known| known.expr == sort.expr);
        if !known && !params.partition_by.contains(&sort.expr) {
            params.order_by.push(sort);
        }
    }
    Expr::WindowFunction(call)
}

/// Whether a function may give tied rows different results.
fn splits_ties(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => splits_ties(&alias.expr),
        Expr::WindowFunction(call) => match call.fun.name() {
            "row_number" | "ntile" | "lag" | "lead" => true,
            "rank" | "dense_rank" | "percent_rank" | "cume_dist" => false,
            "first_value" => {
                is_whole(call) || is_by_rows(call) || begins_with_first(call) && !skips_nulls(call)
            }
            "last_value" | "nth_value" => is_whole(call) || is_by_rows(call),
            _ => is_by_rows(call) && !is_whole(call),
        },
        _ => false,
    }
}

fn is_by_rows(call: &WindowFunction) -> bool {
    call.params.window_frame.units == WindowFrameUnits::Rows
}

fn is_whole(call: &WindowFunction) -> bool {
    let frame = &call.params.window_frame;
    frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded()
}

/// Whether a frame goes from the first row to the last tie of the current one.
fn begins_with_first(call: &WindowFunction) -> bool {
    let frame = &call.params.window_frame;
    frame.start_bound.is_unbounded() && frame.end_bound == WindowFrameBound::CurrentRow
}

fn skips_nulls(call: &WindowFunction) -> bool {
    call.params.null_treatment == Some(NullTreatment::IgnoreNulls)
}
