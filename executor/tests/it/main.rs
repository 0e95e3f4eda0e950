//! Executors of a real cluster: in this process where nothing is killed, as processes of their
//! own where something is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints what a node logged"
)]

mod computing;
mod disk;
mod leaving;
mod losing;
mod process;
mod support;
mod tls;
