//! Optimizer rules that bring rankmill's operators and functions to any SQL.

mod aggregates;
mod fusion;

use std::sync::Arc;

use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::optimizer::Optimizer;
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;

pub use aggregates::Aggregates;
pub use fusion::FusedAggregates;

/// DataFusion's rules with rankmill's in their places: fusion stands before the rule that turns a
/// single distinct count into two aggregations, when filters on keys have been moved below.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let single = SingleDistinctToGroupBy::new();
    let at = rules.iter().position(|rule| rule.name() == single.name());
    rules.insert(at.unwrap_or(rules.len()), Arc::new(FusedAggregates));
    rules.push(Arc::new(Aggregates::default()));
    rules
}
