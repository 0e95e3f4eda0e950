//! Who computes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ballista_core::serde::protobuf::executor_metric::Metric;
use ballista_core::serde::protobuf::executor_status::Status;
use chrono::{DateTime, Utc};

use super::Server;
use crate::model::Executor;

/// The executors that were heard of within `timeout`.
pub(super) async fn list(server: &Server, timeout: Duration) -> Vec<Executor> {
    let state = server.state.executor_manager.get_executors_state().await;
    let busy = busy_slots(server).await;
    let now = since_epoch();
    let mut executors: Vec<Executor> = state
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(metadata, heartbeat, metrics)| {
            let seen = heartbeat?;
            if now.saturating_sub(seen) > timeout || !is_active(server, &metadata.id) {
                return None;
            }
            let memory_bytes = metrics.iter().find_map(|metric| match metric.metric {
                Some(Metric::ProcPhysicalMemory(bytes)) => Some(bytes),
                _ => None,
            });
            let slots = metadata.specification.vcores;
            Some(Executor {
                address: format!("{}:{}", metadata.host, metadata.port),
                slots,
                busy_slots: busy.get(&metadata.id).copied().unwrap_or(0).min(slots),
                last_heartbeat_at: DateTime::<Utc>::from(UNIX_EPOCH + seen),
                memory_bytes: memory_bytes.unwrap_or(0),
                id: metadata.id,
            })
        })
        .collect();
    executors.sort_by(|a, b| a.id.cmp(&b.id));
    executors
}

/// Not draining.
fn is_active(server: &Server, id: &str) -> bool {
    let heartbeat = server.state.executor_manager.get_executor_hearbeat(id);
    let status = heartbeat.and_then(|heartbeat| heartbeat.status?.status);
    matches!(status, Some(Status::Active(_)))
}

/// Slots at work, by executor.
pub(super) async fn busy_slots(server: &Server) -> std::collections::HashMap<String, u32> {
    let mut busy = std::collections::HashMap::new();
    let jobs = server.state.task_manager.get_running_job_cache();
    for job in jobs.values() {
        for task in job.execution_graph.read().await.running_tasks() {
            *busy.entry(task.executor_id).or_default() += 1;
        }
    }
    busy
}

pub(super) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
