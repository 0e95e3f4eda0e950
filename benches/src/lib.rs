//! Measurement only: what benches share. Nothing else depends on this crate.
//!
//! Two sides of a comparison run in turn (A B A B …) on the same files with the same number of
//! threads, and medians and the ratio are printed: on a shared machine single times say little.

#![allow(
    clippy::print_stdout,
    reason = "a bench's results go to stdout, as the command line's do"
)]

mod clicks;
mod lake;
mod paired;
mod quiet;

pub use clicks::{Clicks, Job};
pub use lake::bench_lake;
pub use paired::{Comparison, compare};
pub use quiet::Quiet;
