//! How much memory tasks may use.

use std::path::Path;
use std::sync::Arc;

use ballista_executor::runtime_cache::MemoryPoolPolicy;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use rankmill_engine::node::held_table_bytes;

/// Share of the machine's memory for operators; the rest is for what they don't account for:
/// batches on their way, buffers of the shuffle, the allocator.
const SHARE: f64 = 0.7;

/// The part of its share that a task has whatever the process holds besides.
const LEAST_SHARE: f64 = 0.5;

/// Gives each task a pool of its own: its slots' share of `total_bytes`, less the tables of dimensions
/// that the process holds for all of them when it begins.
pub(crate) fn policy(total_bytes: Option<u64>, slots: usize) -> MemoryPoolPolicy {
    let slots = slots.max(1);
    let slot_bytes = total_bytes
        .or_else(default_memory_bytes)
        .and_then(|bytes| usize::try_from(bytes / slots as u64).ok());
    match slot_bytes {
        Some(bytes) => tracing::info!(bytes, slots, "memory for each slot"),
        None => tracing::warn!("this machine's memory is unknown: tasks have no limit"),
    }
    Arc::new(move |base, _, slots_taken| match slot_bytes {
        Some(bytes) => {
            let bytes = free_bytes(bytes, held_table_bytes() / slots);
            let bytes = bytes.saturating_mul(slots_taken.max(1) as usize);
            RuntimeEnvBuilder::from_runtime_env(&base)
                .with_memory_pool(Arc::new(FairSpillPool::new(bytes)))
                .build_arc()
        }
        None => Ok(base),
    })
}

/// What is left of a slot's bytes.
fn free_bytes(slot_bytes: usize, held: usize) -> usize {
    let least = (slot_bytes as f64 * LEAST_SHARE) as usize;
    slot_bytes.saturating_sub(held).max(least)
}

/// Bytes that an executor gives its tasks if nothing else is said: 70 % of the machine's or the
/// control group's memory. Several executors of one machine should share them.
pub fn default_memory_bytes() -> Option<u64> {
    let host = std::fs::read_to_string("/proc/meminfo").ok();
    let host = host.as_deref().and_then(total_of_meminfo);
    let group = ["memory.max", "memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|file| {
            let path = Path::new("/sys/fs/cgroup").join(file);
            let text = std::fs::read_to_string(path).ok()?;
            text.trim().parse::<u64>().ok()
        });
    let least = host.into_iter().chain(group).min()?;
    Some((least as f64 * SHARE) as u64)
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::MemoryLimit;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::prelude::SessionConfig;

    use super::*;

    #[test]
    fn a_task_has_the_share_of_its_slots() {
        let policy = policy(Some(400), 4);
        for (slots, bytes) in [(0, 100), (1, 100), (3, 300)] {
            let base = Arc::new(RuntimeEnv::default());
            let runtime = policy(base, &SessionConfig::new(), slots).unwrap();
            let MemoryLimit::Finite(limit) = runtime.memory_pool.memory_limit() else {
                panic!("no limit");
            };
            assert_eq!(limit, bytes);
        }
    }

    #[test]
    fn tables_take_of_it() {
        let left = [0, 30, 60].map(|held| free_bytes(100, held));
        assert_eq!(left, [100, 70, 50]);
    }

    #[test]
    fn reads_meminfo() {
        let text = "MemFree:  1 kB\nMemTotal:       24 kB\n";
        assert_eq!(total_of_meminfo(text), Some(24 << 10));
        assert_eq!(total_of_meminfo("MemFree: 1 kB"), None);
    }
}
