//! A cut below a window: of each group only the rows that can be among its first N, so that few are
//! exchanged and sorted.

mod exec;
mod node;
#[cfg(test)]
mod tests;

pub use exec::GroupLimitExec;
pub use node::GroupLimitNode;
pub(crate) use node::is_orderable;
