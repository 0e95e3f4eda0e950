//! Generates small lakes in memory and reads them back.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod determinism;
mod existing;
mod lake;
mod live;
mod local;
mod shape;
mod statistics;
mod truth;
mod verified;
