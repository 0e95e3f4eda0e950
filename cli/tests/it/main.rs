//! End to end: the real binary as a process, on real files and a real S3 server, against an
//! oracle in plain Rust that shares no code with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic, and says why it was skipped"
)]

mod apache;
mod bad_input;
mod bad_place;
mod broken;
mod cluster;
mod commands;
mod faults;
mod formats;
mod generate;
mod http;
mod memory;
mod node;
mod odd;
mod oracle;
mod publication;
mod s3;
mod shipped;
mod small;
mod support;
mod survival;
