//! A join of a log with a dimension whose code table fits no process: hot keys are broadcast, cold
//! keys are shuffled.
//!
//! Both sides are sent to tasks by key and *salt* (`exec`). A cold key has the salt 0, and so all of
//! its rows meet in one task. Rows of the log with a hot key, and those without a key, which would
//! all meet in one task as well, take turns at the salts; the dimension's row of a hot key is copied
//! for each salt. What is hot is found in a sample before the join is planned
//! ([`hot_keys`](crate::skew::hot_keys)); a key that was missed costs time, never a wrong result.
//!
//! A task hashes its rows of the dimension. Where they don't fit the memory, both sides go to disk and
//! are joined part by part (`joins`).

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
