//! Executors as the API shows them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// A process that computes tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Executor {
    /// New at each start.
    pub id: String,
    /// Host and port of its shuffle service.
    pub address: String,
    /// Tasks it works on at once.
    pub slots: u32,
    /// Tasks it works on now.
    pub busy_slots: u32,
    /// When it was heard of last.
    pub last_heartbeat_at: DateTime<Utc>,
    /// Resident memory of its process.
    pub memory_bytes: u64,
}
