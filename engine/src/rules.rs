//! Optimizer rules that bring rankmill's operators and functions to any SQL.

mod count_distinct;

pub use count_distinct::CountDistinct;
