//! Optimizer rules that bring rankmill's operators and functions to any SQL.

mod aggregates;
mod fusion;
mod group_limit;
mod star;

use std::sync::Arc;

use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;

pub use aggregates::Aggregates;
pub use fusion::FusedAggregates;
pub use group_limit::GroupLimits;
pub use star::with_unique_keys;

/// DataFusion's rules with rankmill's in their places: fusion stands before the rule that turns a
/// single distinct count into two aggregations, when filters on keys have been moved below. Cuts come
/// then, too, when filters have been moved to the windows.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let single = SingleDistinctToGroupBy::new();
    let at = rules.iter().position(|rule| rule.name() == single.name());
    let at = at.unwrap_or(rules.len());
    rules.insert(at, Arc::new(FusedAggregates));
    rules.insert(at, Arc::new(GroupLimits));
    rules.push(Arc::new(Aggregates::default()));
    rules
}
