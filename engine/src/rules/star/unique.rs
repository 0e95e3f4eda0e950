//! Which tables of a query have keys that occur once.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::{base_column, key_column, sides};
use crate::fused::{FusedNode, repeated_keys, table_bytes};
use crate::session::Session;
use crate::source::SourceTable;

/// The plan with tables that know which of their columns are keys that occur once, as far as a join
/// may profit from it. Reads the keys of dimensions, once in a process as long as their files stay
/// the same. What fails here is left to the query.
pub async fn with_unique_keys(session: &Session, plan: LogicalPlan) -> Result<LogicalPlan> {
    // Conditions are where they belong only when the plan is optimized.
    let Ok(optimized) = session.context().state().optimize(&plan) else {
        return Ok(plan);
    };
    let possible = possible_dimensions(&optimized)?;
    if possible.is_empty() {
        return Ok(plan);
    }
    let assumed = with_keys(plan.clone(), &possible)?;
    let Ok(assumed) = session.context().state().optimize(&assumed) else {
        return Ok(plan);
    };
    let mut unique = Vec::new();
    // Keys are held in memory twice: to look for repeated ones, and with their attributes.
    let mut bytes_left = session.table_limit() / 2;
    for (table, column) in dimensions(&assumed)? {
        let Some(bytes) = key_bytes(&table, &column).filter(|bytes| *bytes <= bytes_left) else {
            continue;
        };
        bytes_left -= bytes;
        if is_unique(session, &table, &column).await {
            unique.push((table, column));
        }
    }
    with_keys(plan, &unique)
}

/// The tables that an optimized plan has as dimensions, and their keys.
fn dimensions(plan: &LogicalPlan) -> Result<Vec<(SourceTable, String)>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(fused) = extension.node.as_any().downcast_ref::<FusedNode>()
        {
            for (_, dimension) in fused.lookups() {
                let key = Column::from(dimension.schema().qualified_field(0));
                found.extend(base_column(dimension, &key)?);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The plan with some keys of tables taken to occur once.
fn with_keys(plan: LogicalPlan, unique: &[(SourceTable, String)]) -> Result<LogicalPlan> {
    with_tables(plan, |table| {
        let identity = table.identity();
        let keys = unique
            .iter()
            .filter(|(other, _)| other.identity() == identity);
        keys.fold(None, |found: Option<SourceTable>, (_, column)| {
            let table = found.unwrap_or_else(|| table.clone());
            Some(table.with_unique_key(column))
        })
    })
}

/// About the bytes that a table of keys takes; none if it isn't known how many there are.
fn key_bytes(table: &SourceTable, column: &str) -> Option<usize> {
    let rows = usize::try_from(table.rows()?).ok()?;
    let schema = TableProvider::schema(table);
    let key = schema.field_with_name(column).ok()?.data_type();
    Some(table_bytes(key, rows, table.range(column).as_ref()))
}

async fn is_unique(session: &Session, table: &SourceTable, column: &str) -> bool {
    let name = Column::new_unqualified(column);
    let key = Expr::Column(name.clone());
    let keys = LogicalPlanBuilder::scan("keys", provider_as_source(Arc::new(table.clone())), None)
        .and_then(|scan| scan.project([key.clone()]))
        .and_then(LogicalPlanBuilder::build);
    let Ok(keys) = keys else {
        return false;
    };
    let cache_key = format!("{} {}", table.identity(), keys.display_indent());
    let rows = table.rows().unwrap_or(0) as usize;
    let repeated = repeated_keys(session, &cache_key, &keys, rows).await;
    repeated.is_ok_and(|repeated| repeated.is_empty())
}

/// The tables that a plan reads.
fn tables(plan: &LogicalPlan) -> Result<Vec<SourceTable>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            found.extend(provider.downcast_ref::<SourceTable>().cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Sides of joins by one key whose keys may occur once: tables that are smaller than what they are
/// joined with.
fn possible_dimensions(plan: &LogicalPlan) -> Result<Vec<(SourceTable, String)>> {
    let mut found: Vec<(SourceTable, String)> = Vec::new();
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Join(join) = node else {
            return Ok(TreeNodeRecursion::Continue);
        };
        for ((plan, key), (log, _)) in sides(join) {
            let Some(key) = key_column(plan, key)? else {
                continue;
            };
            let log_bytes: u64 = tables(log)?.iter().map(SourceTable::bytes).sum();
            found.extend(base_column(plan, key)?.filter(|(table, _)| table.bytes() < log_bytes));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// What a plan's scans read, with others in their places.
fn with_tables(
    plan: LogicalPlan,
    replace: impl Fn(&SourceTable) -> Option<SourceTable>,
) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else {
            return Ok(Transformed::no(node));
        };
        let provider = source_as_provider(&scan.source)?;
        match provider.downcast_ref::<SourceTable>().and_then(&replace) {
            Some(table) => {
                scan.source = provider_as_source(Arc::new(table));
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
        }
    });
    Ok(replaced?.data)
}
