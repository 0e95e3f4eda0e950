//! What a node of a cluster needs to compute parts of plans: the same stores, functions and
//! configuration as [`Session`](crate::Session) has in one process.

use std::path::Path;
use std::sync::Arc;

use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;

use crate::error::Result;
pub use crate::functions::{aggregate_functions, scalar_functions};
pub use crate::fused::held_table_bytes;
use crate::session::{Distributed, SessionOptions};
use crate::store::{RetryPolicy, Stores};

/// The runtime of a process that computes: its stores, and a place below `spill_dir` for what
/// doesn't fit in memory. It has no limit of memory; that is given to each task.
pub fn runtime(spill_dir: &Path, retry: RetryPolicy) -> Result<Arc<RuntimeEnv>> {
    Ok(RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(Stores::new(retry)))
        .with_temp_file_path(spill_dir)
        .build_arc()?)
}

/// The configuration that tasks start from; what a plan's own session says goes over it.
pub fn session_config() -> SessionConfig {
    Distributed::mark(crate::session::config(&SessionOptions::default()))
}
