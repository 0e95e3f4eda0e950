//! Puts the fused aggregation in the place of DataFusion's where distinct values are counted, or a
//! log is joined with dimensions.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::star::Star;
use crate::fused::{FusedNode, KeySpec, MeasureSpec, counts_distinct};

/// `SELECT g, count(distinct x), … GROUP BY g` becomes a [`FusedNode`] without lookups: DataFusion
/// keeps a set for each group, or hashes each pair of a group and a value as a row of its own, and a
/// hot group is one task's. All of the aggregates must fit: none with an order, no other distinct one.
///
/// `SELECT log.g, d.a, … FROM log JOIN d ON log.k = d.key GROUP BY log.g, d.a` becomes one with lookups
/// where the keys are known to occur once ([`with_known_keys`](super::with_known_keys)), whether or
/// not it counts distinct values: the join is where the time goes.
#[derive(Debug, Default)]
pub struct FusedAggregates;

impl OptimizerRule for FusedAggregates {
    fn name(&self) -> &str {
        "rankmill_fused_aggregates"
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
        let Some(distinct) = counts_if_it_fits(&aggregate)? else {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        };
        let star = Star::of(&aggregate)?;
        if star.is_none() && !distinct {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        Ok(Transformed::yes(fused(aggregate, star)?))
    }
}

/// Whether distinct values are counted; none if a group or an aggregate doesn't fit.
fn counts_if_it_fits(aggregate: &Aggregate) -> Result<Option<bool>> {
    let grouping_set = |expr: &Expr| matches!(expr, Expr::GroupingSet(_));
    if aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(grouping_set) {
        return Ok(None);
    }
    let input = aggregate.input.schema();
    let mut distinct = false;
    for expr in &aggregate.aggr_expr {
        if counts_distinct(expr, input)? {
            distinct = true;
        } else if !is_plain(expr) {
            return Ok(None);
        }
    }
    Ok(Some(distinct))
}

/// Whether an aggregate takes each row as it comes.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_plain(&alias.expr),
        Expr::AggregateFunction(call) => {
            let params = &call.params;
            !params.distinct && params.order_by.is_empty() && params.null_treatment.is_none()
        }
        _ => false,
    }
}

/// The aggregation as a fused one, below a projection to the names that it had.
fn fused(aggregate: Aggregate, star: Option<Star>) -> Result<LogicalPlan> {
    let names: Vec<_> = aggregate
        .schema
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), field.name().clone()))
        .collect();
    let flat: Vec<String> = names
        .iter()
        .map(|(qualifier, name)| Column::new(qualifier.clone(), name).flat_name())
        .collect();
    let (of_keys, of_measures) = flat.split_at(aggregate.group_expr.len());
    let plan = match star {
        Some(star) => star.fused(of_keys, of_measures)?,
        None => {
            let keys = of_keys.iter().cloned();
            let keys = keys.zip(aggregate.group_expr.into_iter().map(KeySpec::Log));
            let measures = of_measures.iter().cloned();
            let exprs = aggregate.aggr_expr.into_iter();
            let measures = measures.zip(exprs.map(MeasureSpec::Aggregate));
            let log = Arc::unwrap_or_clone(aggregate.input);
            let (keys, measures) = (keys.collect(), measures.collect());
            FusedNode::try_new(log, Vec::new(), keys, measures)?.into_plan()
        }
    };
    let named = flat
        .into_iter()
        .zip(names)
        .map(|(flat, (qualifier, name))| {
            Expr::Column(Column::new_unqualified(flat)).alias_qualified(qualifier, name)
        });
    let projection = Projection::try_new(named.collect(), Arc::new(plan))?;
    Ok(LogicalPlan::Projection(projection))
}
