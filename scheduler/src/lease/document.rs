//! `leader.json`.

use serde::{Deserialize, Serialize};

/// Who leads. Every write differs, so that a version never comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// For people.
    pub(crate) instance: String,
    /// New in each process.
    pub(crate) process: String,
    /// Counts the leaders.
    pub(crate) epoch: u64,
    /// Where its API is.
    pub(crate) api_url: Option<String>,
    /// Counts the writes of its process.
    pub(crate) writes: u64,
    /// How long others must wait for it.
    pub(crate) ttl_ms: u64,
    /// It has stopped, and waits for nobody.
    #[serde(default)]
    pub(crate) released: bool,
}
