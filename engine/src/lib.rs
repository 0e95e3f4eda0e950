//! How rankmill computes: sessions, object stores, sources, functions and operators on
//! [DataFusion](datafusion).
//!
//! It knows nothing of jobs, dates to publish or clusters: `rankmill-jobs` says *what* to
//! compute, this crate *how*. The session that [`Session::new`] builds is the same in one
//! process and on every node of a cluster.

pub mod codec;
mod compute;
mod error;
pub mod functions;
pub mod fused;
mod joins;
mod location;
pub mod node;
mod operator;
mod progress;
pub mod rank;
pub mod rules;
pub mod salted;
mod session;
pub mod skew;
pub mod source;
pub mod store;
pub mod transport;
pub mod work;

pub use compute::{Compute, Computed, Embedded};
pub use error::{ClusterFault, Error, Result, store_error_is_transient};
pub use joins::{
    JOINS_IN_PARTS, has_hash_join, is_out_of_memory, joins_in_parts, without_shared_tables,
};
pub use location::Location;
pub use progress::{LEFT_OUT_ROWS, ScanProgress, scan_bytes, scan_progress};
pub use session::{Distributed, Session, SessionOptions};
