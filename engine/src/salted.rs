//! A join of a log with a dimension whose code table fits no process: hot keys are broadcast, cold
//! keys are shuffled.
//!
//! Both sides are sent to tasks by key and *salt* (`exec`). A cold key has the salt 0, and so all of
//! its rows meet in one task. Rows of the log with a hot key, and those without a key, which would
//! all meet in one task as well, take turns at the salts; the dimension's row of a hot key is copied
//! for each salt. What is hot is found in a sample before the join is planned
//! ([`hot_keys`](crate::skew::hot_keys)); a key that was missed costs time, never a wrong result.
//!
//! Where memory is limited, and on executors, sides are sorted and merged, which spills. Else the
//! dimension's side is hashed (`planner`).

mod exec;
mod node;
mod planner;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use exec::SaltExec;
pub(crate) use exec::is_salt;
pub use node::SaltedJoinNode;
pub(crate) use planner::plan;
