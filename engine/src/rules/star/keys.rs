//! What is known of the keys of a query's dimensions: that they occur once, or that there are too many
//! of them for a table.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::DataFrame;

use super::{base_column, has_subquery, key_column, sides};
use crate::fused::{FusedNode, table_bytes, table_keys};
use crate::session::Session;
use crate::skew::{FILES_FOR_HOT_KEYS, hot_keys};
use crate::source::{ShuffledKey, SourceTable};

/// The plan with tables that know which of their columns are keys that occur once, and by which of them
/// they are too large for a code table, as far as a join may profit from it. Reads the keys of
/// dimensions, once in a process as long as their files stay the same, and a sample of a log that is
/// joined with a large one. What fails here is left to the query.
pub async fn with_known_keys(session: &Session, plan: LogicalPlan) -> Result<LogicalPlan> {
    // Conditions are where they belong only when the plan is optimized.
    let Ok(optimized) = session.context().state().optimize(&plan) else {
        return Ok(plan);
    };
    let possible = possible_dimensions(&optimized)?;
    if possible.is_empty() {
        return Ok(plan);
    }
    let possible = possible.into_iter();
    let possible: Vec<Known> = possible.map(Known::unique).collect();
    let assumed = with_keys(plan.clone(), &possible)?;
    let Ok(assumed) = session.context().state().optimize(&assumed) else {
        return Ok(plan);
    };
    let mut known = Vec::new();
    // Keys are held in memory twice: to look for repeated ones, and with their attributes.
    let mut bytes_left = session.table_limit() / 2;
    let mut seen: Vec<(String, String, Option<usize>)> = Vec::new();
    for dimension in dimensions(&assumed)? {
        let FusedDimension { table, column, .. } = &dimension;
        let Some(bytes) = key_bytes(table, column) else {
            continue;
        };
        let identity = table.identity();
        let mut decided = seen.iter();
        let decided = decided.find(|(other, key, _)| *other == identity && key == column);
        let too_large = match decided {
            Some((_, _, too_large)) => *too_large,
            None => {
                let unique = match bytes > bytes_left {
                    true => None,
                    false => is_unique(session, table, column, bytes_left).await,
                };
                let too_large = unique.is_none().then_some(bytes);
                seen.push((identity, column.clone(), too_large));
                if let Some(unique) = unique {
                    bytes_left -= bytes;
                    known.extend(unique.then(|| Known::unique((table.clone(), column.clone()))));
                }
                too_large
            }
        };
        if let Some(bytes) = too_large {
            let hot = hot_keys_of(session, &dimension).await;
            known.push(dimension.shuffled(hot, bytes));
        }
    }
    with_keys(plan, &known)
}

/// What is known of a table's column.
struct Known {
    table: SourceTable,
    what: Key,
}

enum Key {
    Unique(String),
    Shuffled(ShuffledKey),
}

impl Known {
    fn unique((table, column): (SourceTable, String)) -> Self {
        let what = Key::Unique(column);
        Self { table, what }
    }
}

/// A dimension of a fused aggregation.
struct FusedDimension {
    table: SourceTable,
    /// Its key.
    column: String,
    log: LogicalPlan,
    /// Over the log.
    fact_key: Expr,
}

impl FusedDimension {
    fn shuffled(self, hot: Vec<ScalarValue>, table_bytes: usize) -> Known {
        let what = Key::Shuffled(ShuffledKey {
            column: self.column,
            hot,
            table_bytes,
        });
        let table = self.table;
        Known { table, what }
    }
}

/// The most frequent keys in a sample of a dimension's log. None where the log is more than a table of
/// which rows are left out: that would have to be computed first, or can't be sampled.
async fn hot_keys_of(session: &Session, dimension: &FusedDimension) -> Vec<ScalarValue> {
    if !is_plain(&dimension.log) {
        return Vec::new();
    }
    let keys = with_tables(dimension.log.clone(), |table| {
        Some(table.clone().sample(FILES_FOR_HOT_KEYS))
    });
    let keys = keys.and_then(|log| {
        let keys = LogicalPlanBuilder::from(log).project([dimension.fact_key.clone()])?;
        keys.build()
    });
    let Ok(keys) = keys else {
        return Vec::new();
    };
    let frame = DataFrame::new(session.context().state(), keys);
    // A key that isn't found costs time only.
    hot_keys(session, frame).await.unwrap_or_default()
}

/// Whether a plan is one scan, of which rows are left out or columns computed.
fn is_plain(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Filter(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let subqueries = plan.expressions().iter().any(has_subquery);
            !subqueries && plan.inputs().into_iter().all(is_plain)
        }
        _ => false,
    }
}

/// The tables that an optimized plan has as dimensions.
fn dimensions(plan: &LogicalPlan) -> Result<Vec<FusedDimension>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(fused) = extension.node.as_any().downcast_ref::<FusedNode>()
        {
            for (spec, dimension) in fused.lookups() {
                let key = Column::from(dimension.schema().qualified_field(0));
                let base = base_column(dimension, &key)?;
                found.extend(base.map(|(table, column)| FusedDimension {
                    table,
                    column,
                    log: fused.log().clone(),
                    fact_key: spec.fact_key.clone(),
                }));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The plan with tables that know what is known of them.
fn with_keys(plan: LogicalPlan, known: &[Known]) -> Result<LogicalPlan> {
    with_tables(plan, |table| {
        let identity = table.identity();
        let keys = known
            .iter()
            .filter(|known| known.table.identity() == identity);
        keys.fold(None, |found: Option<SourceTable>, known| {
            let table = found.unwrap_or_else(|| table.clone());
            Some(match &known.what {
                Key::Unique(column) => table.with_unique_key(column),
                Key::Shuffled(key) => table.with_shuffled_key(key.clone()),
            })
        })
    })
}

/// About the bytes that a table of keys takes; none if it isn't known how many there are.
fn key_bytes(table: &SourceTable, column: &str) -> Option<usize> {
    let rows = usize::try_from(table.rows()?).ok()?;
    let schema = TableProvider::schema(table);
    let key = schema.field_with_name(column).ok()?.data_type();
    Some(table_bytes(key, rows, table.range(column).as_ref()).most)
}

/// Whether no key occurs twice; none if their table takes more than `most` bytes.
async fn is_unique(
    session: &Session,
    table: &SourceTable,
    column: &str,
    most: usize,
) -> Option<bool> {
    let name = Column::new_unqualified(column);
    let key = Expr::Column(name.clone());
    let keys = LogicalPlanBuilder::scan("keys", provider_as_source(Arc::new(table.clone())), None)
        .and_then(|scan| scan.project([key.clone()]))
        .and_then(LogicalPlanBuilder::build);
    let Ok(keys) = keys else {
        return Some(false);
    };
    let cache_key = format!("{} {}", table.identity(), keys.display_indent());
    let rows = table.rows().unwrap_or(0) as usize;
    match table_keys(session, &cache_key, &keys, rows, most).await {
        Ok(keys) => keys.map(|keys| keys.repeated.is_empty()),
        Err(_) => Some(false),
    }
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
