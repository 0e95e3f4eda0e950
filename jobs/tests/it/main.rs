//! Runs jobs in this process on small lakes, and checks them against plain Rust.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod check;
mod declared;
mod exact;
#[path = "../../../engine/src/fused/tests/footer.rs"]
mod footer;
mod footers;
mod inspect;
mod job;
mod lake;
mod layout;
mod measures;
mod oracle;
mod plans;
mod publication;
mod ranking;
mod scenario;
mod schema;
mod shuffled;
mod splits;
mod sql;
mod star;
mod windows;
