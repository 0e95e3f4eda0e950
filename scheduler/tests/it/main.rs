//! The scheduler from outside, with real executors and files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod cluster;
mod faults;
