//! A SQL spec as a plan.

mod ties;

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{TableReference, plan_err};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr};
use rankmill_engine::Session;
use rankmill_engine::rules::with_known_keys;

use self::ties::with_ordered_windows;
use super::{Compiler, changing, changing_function};
use crate::error::Result;
use crate::inputs::Inputs;
use crate::spec::Spec;

/// Plans the query of a spec over the days of some dates. The tables are registered in `session`, which should
/// be this run's own. Only queries pass: no DDL, no DML, no statements.
pub(crate) async fn compile_query(
    session: &Session,
    spec: &Spec,
    sql: &str,
    inputs: &Inputs,
    dates: &[NaiveDate],
) -> Result<LogicalPlan> {
    let compiler = Compiler {
        job: &spec.name,
        context: session.context(),
    };
    for input in &inputs.logs {
        let table = input.open(session, &spec.name, dates).await?;
        let days = input.days_of_all(dates);
        let frame = compiler.log_frame(input, table, &days)?;
        session
            .context()
            .register_table(TableReference::bare(input.name.clone()), frame.into_view())
            .map_err(|e| compiler.plan_error(e))?;
    }
    let state = session.context().state();
    let plan = state
        .create_logical_plan(sql)
        .await
        .map_err(|e| compiler.sql_error("sql", sql, &e))?;
    let plan = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .and_then(|()| only_rows(&plan))
        .and_then(|()| with_ordered_windows(plan))
        .and_then(with_ordered_limits)
        .and_then(with_total_order)
        .map_err(|e| compiler.sql_error("sql", sql, &e))?;
    with_known_keys(session, plan)
        .await
        .map_err(|e| compiler.plan_error(e))
}

/// Statements that answer about a query instead of answering it.
fn only_rows(plan: &LogicalPlan) -> datafusion::error::Result<()> {
    match plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_) => {
            plan_err!("only a query can be published, such as SELECT …")
        }
        _ => no_changing_function(plan),
    }
}

fn no_changing_function(plan: &LogicalPlan) -> datafusion::error::Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            if found.is_none() {
                found = changing_function(expr)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    match found {
        None => Ok(()),
        Some(name) => plan_err!("{}", changing(&name)),
    }
}

/// Orders the input of every LIMIT, in subqueries too, so that it keeps the same rows however
/// the work was split.
fn with_ordered_limits(plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let ordered = plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::Limit(_) => Transformed::yes(with_total_order(node)?),
            other => Transformed::no(other),
        })
    })?;
    Ok(ordered.data)
}

/// Extends the query's own order by all of its columns, so that ties, and with them the rows
/// that a LIMIT keeps, never depend on how the work was split.
fn with_total_order(plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    match plan {
        // ORDER BY a column that is not selected: the order lies below the projection.
        LogicalPlan::Projection(mut projection) if is_ordered(&projection.input) => {
            let input = Arc::unwrap_or_clone(projection.input);
            projection.input = Arc::new(with_total_order(input)?);
            Ok(LogicalPlan::Projection(projection))
        }
        LogicalPlan::Limit(mut limit) => {
            limit.input = Arc::new(with_total_order(Arc::unwrap_or_clone(limit.input))?);
            Ok(LogicalPlan::Limit(limit))
        }
        // WITH t AS (… ORDER BY …) SELECT * FROM t LIMIT n: the order lies below the alias.
        LogicalPlan::SubqueryAlias(mut alias) if is_ordered(&alias.input) => {
            let input = Arc::unwrap_or_clone(alias.input);
            alias.input = Arc::new(with_total_order(input)?);
            Ok(LogicalPlan::SubqueryAlias(alias))
        }
        LogicalPlan::Sort(mut sort) => {
            sort.expr.extend(ascending(&sort.input));
            Ok(LogicalPlan::Sort(Sort {
                expr: sort.expr,
                input: sort.input,
                fetch: sort.fetch,
            }))
        }
        other => {
            let order = ascending(&other);
            LogicalPlanBuilder::from(other).sort(order)?.build()
        }
    }
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Limit(limit) => is_ordered(&limit.input),
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_ordered(&alias.input),
        _ => false,
    }
}

fn ascending(plan: &LogicalPlan) -> Vec<SortExpr> {
    plan.schema()
        .columns()
        .into_iter()
        .map(|column| Expr::Column(column).sort(true, false))
        .collect()
}
