//! Optimizer rules that bring rankmill's operators and functions to any SQL.

mod aggregates;

pub use aggregates::Aggregates;
