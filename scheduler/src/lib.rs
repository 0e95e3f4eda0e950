//! When and where rankmill computes: runs, calendar, API.

pub mod access;
pub mod api;
mod backend;
pub mod calendar;
pub mod cluster;
mod core;
mod dispatch;
mod error;
pub mod gaps;
mod generate;
mod lease;
pub mod metrics;
pub mod model;
mod options;
mod queue;
mod records;
mod server;
pub mod service;
#[cfg(test)]
#[allow(
    dead_code,
    unused_imports,
    reason = "for tests of faults that come next"
)]
mod testing;

pub use backend::BackendOptions;
pub use error::{Error, ErrorKind, Result, scrub};
pub use generate::{LoadGenerator, NotGenerated};
pub use options::{Addresses, LeaseOptions, Limits, Options, Stopped};
pub use server::run;

/// The API's messages and services, compiled from `proto/rankmill/v1/rankmill.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the proto documents it"
)]
pub mod proto {
    tonic::include_proto!("rankmill.v1");

    /// For the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rankmill.bin"));
}
