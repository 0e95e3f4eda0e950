//! When and where rankmill computes: runs, calendar, API.

pub mod access;
pub mod api;
pub mod cluster;
mod error;
pub mod gaps;
pub mod metrics;
pub mod model;
pub mod service;

pub use error::{Error, ErrorKind, Result};

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
