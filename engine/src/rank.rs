//! Top-N per group with a total order: the operator behind every ranking.
//!
//! Its input is complete by item: one row for each (group, item). Each partition keeps the best
//! N of a group (`Local`), then one task merges what is left (`Final`) and numbers it. So only
//! N rows of a group and a partition travel. Sums over *all* rows of a date, such as the number
//! of rows without a match in a dimension, come along as a row of rank 0 for each date.

mod best_rows;
mod exec;
mod group_limit;
mod node;
mod planner;
mod top_per_group;

pub(crate) use exec::slices;
pub use exec::{RankExec, RankMode};
pub(crate) use group_limit::is_orderable;
pub use group_limit::{GroupLimitExec, GroupLimitNode};
pub use node::RankNode;
pub use planner::RankingQueryPlanner;

/// Name of the column that a ranking adds: 1, 2, … in a group, and 0 in the row of totals.
pub const RANK_COLUMN: &str = "rank";

/// What to rank, by the names of the input's columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Ranking {
    /// The columns of a group; the first is the date.
    pub groups: Vec<String>,
    /// What is ranked. Rows where it is null get no rank; ties end in its ascending order.
    pub item: String,
    /// Columns to order by, and whether the largest comes first. Nulls and NaN come last.
    pub order: Vec<(String, bool)>,
    /// Ranks to keep in each group.
    pub top: usize,
    /// Columns of type Int64 to sum over all rows of a date.
    pub totals: Vec<String>,
}
