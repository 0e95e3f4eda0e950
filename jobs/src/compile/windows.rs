//! Cuts a query over a window of days in two: what it aggregates, which the days of all dates can
//! share, and what it makes of that.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, cast,
};
use rankmill_engine::source::DATE_COLUMN;

/// The day as a key of the aggregation.
const DAY_KEY: &str = "__day";
const GROUPS_TABLE: &str = "__groups";

/// A query over a log, cut at the aggregation that reads it.
pub(crate) struct WindowQuery {
    plan: LogicalPlan,
    aggregate: Aggregate,
}

impl WindowQuery {
    /// None unless the query is one chain of nodes from a single log whose rows are filtered at most
    /// before they are grouped: then the groups of a window are made of those of its days.
    pub(crate) fn new(plan: LogicalPlan) -> Result<Option<Self>> {
        if tables(&plan)? != 1 {
            return Ok(None);
        }
        let aggregate = lowest_aggregate(&plan).cloned();
        let fits =
            |aggregate: &Aggregate| !aggregate.group_expr.is_empty() && reads_log(&aggregate.input);
        Ok(aggregate
            .filter(fits)
            .map(|aggregate| Self { plan, aggregate }))
    }

    /// The aggregation with the log's date as its first key.
    pub(crate) fn by_day(&self) -> Result<LogicalPlan> {
        // The query may not have needed the date.
        let input = with_all_columns(&self.aggregate.input)?;
        let day = input.schema().iter().find_map(|(table, field)| {
            let is_date = field.name() == DATE_COLUMN && field.data_type() == &DataType::Date32;
            is_date.then(|| Column::new(table.cloned(), DATE_COLUMN))
        });
        let Some(day) = day else {
            return datafusion::common::plan_err!("the log has no date");
        };
        let keys = std::iter::once(Expr::Column(day).alias(DAY_KEY));
        let keys = keys.chain(self.aggregate.group_expr.iter().cloned());
        let aggregate = Aggregate::try_new(
            Arc::new(input),
            keys.collect(),
            self.aggregate.aggr_expr.clone(),
        )?;
        Ok(LogicalPlan::Aggregate(aggregate))
    }

    /// The query over the groups of one window, as rows of [`WindowQuery::by_day`], in so many
    /// partitions.
    pub(crate) fn over(&self, groups: &RecordBatch, partitions: usize) -> Result<LogicalPlan> {
        let wanted = self.aggregate.schema.iter();
        let columns = wanted.zip(&groups.columns()[1..]).enumerate();
        let mut fields = Vec::new();
        let mut named = Vec::new();
        for (at, ((table, field), column)) in columns {
            let name = format!("c{at}");
            let value = Expr::Column(Column::new(Some(GROUPS_TABLE), &name));
            let value = match column.data_type() == field.data_type() {
                true => value,
                false => cast(value, field.data_type().clone()),
            };
            named.push(value.alias_qualified(table.cloned(), field.name()));
            fields.push(Field::new(
                name,
                column.data_type().clone(),
                field.is_nullable(),
            ));
        }
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(Arc::clone(&schema), groups.columns()[1..].to_vec())?;
        let share = rows.num_rows().div_ceil(partitions).max(1);
        let parts = (0..rows.num_rows()).step_by(share);
        let parts = parts.map(|at| vec![rows.slice(at, share.min(rows.num_rows() - at))]);
        let mut parts: Vec<Vec<RecordBatch>> = parts.collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let table = MemTable::try_new(schema, parts)?;
        let source = provider_as_source(Arc::new(table));
        let groups = LogicalPlanBuilder::scan(GROUPS_TABLE, source, None)?.project(named)?;
        let groups = groups.build()?;
        let replaced = self.plan.clone().transform_down(|node| {
            Ok(match &node {
                LogicalPlan::Aggregate(aggregate) if *aggregate == self.aggregate => {
                    Transformed::new(groups.clone(), true, TreeNodeRecursion::Stop)
                }
                _ => Transformed::no(node),
            })
        })?;
        Ok(replaced.data)
    }
}

/// Tables that a query reads, in subqueries too.
fn tables(plan: &LogicalPlan) -> Result<usize> {
    let mut tables = 0;
    plan.apply_with_subqueries(|node| {
        tables += usize::from(matches!(node, LogicalPlan::TableScan(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// The last aggregation on the way down; none if nodes with several inputs come before it.
fn lowest_aggregate(mut plan: &LogicalPlan) -> Option<&Aggregate> {
    let mut lowest = None;
    while let [input] = plan.inputs()[..] {
        if let LogicalPlan::Aggregate(aggregate) = plan {
            lowest = Some(aggregate);
        }
        plan = input;
    }
    lowest
}

/// A log's rows as [`reads_log`] has them, with all of their columns.
fn with_all_columns(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let above = |input: &LogicalPlan| Ok::<_, DataFusionError>(Arc::new(with_all_columns(input)?));
    Ok(match plan {
        LogicalPlan::Filter(filter) => {
            let predicate = filter.predicate.clone();
            LogicalPlan::Filter(Filter::try_new(predicate, above(&filter.input)?)?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = above(&alias.input)?;
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?)
        }
        LogicalPlan::TableScan(scan) => LogicalPlanBuilder::scan_with_filters_fetch(
            scan.table_name.clone(),
            Arc::clone(&scan.source),
            None,
            scan.filters.clone(),
            scan.fetch,
        )?
        .build()?,
        other => other.clone(),
    })
}

/// Whether rows are a log's own, filtered: a column called `date` is the log's.
fn reads_log(mut plan: &LogicalPlan) -> bool {
    loop {
        plan = match plan {
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::TableScan(scan) => return scan.source.get_logical_plan().is_none(),
            _ => return false,
        };
    }
}
