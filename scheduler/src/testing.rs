//! Small lakes and schedulers without a lease or an API, for tests.

mod lake;
mod node;
mod stores;

pub(crate) use lake::{Lake, day};
pub(crate) use node::{Gate, Node, NodeOptions, submission, until};
pub(crate) use stores::{Death, Faults, Flaky};
