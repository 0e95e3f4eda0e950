//! The scheduler from outside, with real executors and files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod cluster;
mod faults;
mod rankings;

// Random rankings and what they should be, as the tests of jobs have them.
#[path = "../../../jobs/tests/it/check.rs"]
mod check;
#[path = "../../../jobs/tests/it/exact.rs"]
mod exact;
#[path = "../../../jobs/tests/it/job.rs"]
#[allow(dead_code, reason = "the tests of jobs do more with them")]
mod job;
#[path = "../../../jobs/tests/it/lake.rs"]
#[allow(dead_code, reason = "the tests of jobs do more with them")]
mod lake;
#[path = "../../../jobs/tests/it/layout.rs"]
#[allow(dead_code, reason = "the tests of jobs do more with them")]
mod layout;
#[path = "../../../jobs/tests/it/oracle.rs"]
#[allow(dead_code, reason = "the tests of jobs do more with them")]
mod oracle;
#[path = "../../../jobs/tests/it/scenario.rs"]
#[allow(dead_code, reason = "the tests of jobs do more with them")]
mod scenario;
