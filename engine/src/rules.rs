//! Optimizer rules that bring rankmill's operators and functions to any SQL.

mod aggregates;
mod fusion;
mod group_limit;
mod salting;
mod star;

use std::sync::Arc;

use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::aggregate_statistics::AggregateStatistics;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub use aggregates::Aggregates;
pub use fusion::FusedAggregates;
pub use group_limit::GroupLimits;
pub use salting::SaltedJoins;
pub use star::with_known_keys;

use crate::fused::{FusedFilters, WholeDates};
use crate::joins::JoinsInParts;

/// DataFusion's rules with rankmill's in their places: fusion stands before the rule that turns a
/// single distinct count into two aggregations, when filters on keys have been moved below. Joins that
/// did not go into an aggregation come next. Cuts come then, too, when filters have been moved to the
/// windows.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let single = SingleDistinctToGroupBy::new();
    let at = rules.iter().position(|rule| rule.name() == single.name());
    let at = at.unwrap_or(rules.len());
    rules.insert(at, Arc::new(SaltedJoins));
    rules.insert(at, Arc::new(FusedAggregates));
    rules.insert(at, Arc::new(GroupLimits));
    rules.push(Arc::new(Aggregates::default()));
    rules
}

/// DataFusion's physical rules and, behind them, rankmill's; but not the one that answers aggregates
/// from statistics: those of a filter's output are estimates by what footers say.
pub(crate) fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let by_statistics = AggregateStatistics::new();
    rules.retain(|rule| rule.name() != by_statistics.name());
    let requirements = EnsureRequirements::new();
    let at = rules
        .iter()
        .position(|rule| rule.name() == requirements.name());
    rules.insert(at.unwrap_or(0), Arc::new(JoinsInParts));
    rules.push(Arc::new(WholeDates));
    rules.push(Arc::new(FusedFilters));
    rules
}
