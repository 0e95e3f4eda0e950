//! The tables of dimensions that this process has built.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;

use super::Dimension;
use super::build::build;
use crate::session::Distributed;

/// Bytes of the tables that are kept for whoever needs them again.
const CACHE_BYTES: usize = 1 << 30;
/// Where memory is limited, tables are counted there up to one of so many parts of it, and unused
/// ones kept: what tables of a job may take ([`Session::table_limit`](crate::Session::table_limit)).
const TABLES_SHARE: usize = 2;

/// Tables that are used, and some that were.
#[derive(Default)]
struct Cache {
    tables: HashMap<String, Cached>,
    uses: u64,
}

#[derive(Default)]
struct Cached {
    table: Arc<OnceCell<Arc<Dimension>>>,
    /// When it was used last, by the number of uses of all.
    used: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// The table of a dimension, built by whoever needs it first. `key` names the files, as they are
/// now, and the columns. Where the pool is the process's, the table counts there as long as it is
/// kept; tasks of an executor have pools of their own, which end before it (see
/// [`held_table_bytes`]). A new one is given up where it takes more than `most` bytes.
///
/// # Errors
/// If it can't be built; [`TooLarge`](super::TooLarge) if it may not.
pub(in crate::fused) async fn dimension(
    key: &str,
    plan: &Arc<dyn ExecutionPlan>,
    expected: usize,
    most: usize,
    context: &Arc<TaskContext>,
) -> Result<Arc<Dimension>> {
    let cell = {
        let mut cache = cache();
        cache.uses += 1;
        let now = cache.uses;
        let cached = cache.tables.entry(key.to_owned()).or_default();
        cached.used = now;
        Arc::clone(&cached.table)
    };
    let limit = match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) if !Distributed::is_set(context.session_config()) => {
            Some(bytes / TABLES_SHARE)
        }
        _ => None,
    };
    let built = cell.get_or_try_init(async || {
        let mut table = build(Arc::clone(plan), expected, most, Arc::clone(context)).await?;
        let kept = CACHE_BYTES.min(limit.unwrap_or(CACHE_BYTES));
        forget_unused(kept.saturating_sub(table.size));
        if let Some(limit) = limit {
            count(&mut table, limit, context);
        }
        Ok::<_, DataFusionError>(Arc::new(table))
    });
    Ok(Arc::clone(built.await?))
}

/// Counts a new table towards the process's memory. What that has no room for isn't: whoever chose
/// to look rows up knew only what the keys take, and can't choose anew.
fn count(table: &mut Dimension, limit: usize, context: &TaskContext) {
    let consumer = || MemoryConsumer::new("tables of dimensions").register(context.memory_pool());
    let bytes = table.size;
    let mut is_counted = || {
        let fits = held_table_bytes().saturating_add(bytes) <= limit;
        fits && table.reserve(consumer()).is_ok()
    };
    let is_counted = is_counted() || forget_unused(0) && is_counted();
    if !is_counted {
        tracing::warn!(
            bytes,
            limit,
            "a dimension's table goes beyond the memory that is allowed"
        );
    }
}

fn cache() -> MutexGuard<'static, Cache> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the tables that this process holds, whether or not they are in use.
pub fn held_table_bytes() -> usize {
    cache().tables.values().map(Cached::size).sum()
}

impl Cached {
    fn size(&self) -> usize {
        self.table.get().map_or(0, |table| table.size)
    }

    /// Whether a task works with it, or is about to, or builds it.
    fn is_used(&self) -> bool {
        let used = |table: &Arc<Dimension>| Arc::strong_count(table) > 1;
        Arc::strong_count(&self.table) > 1 || self.table.get().is_some_and(used)
    }
}

/// Drops a table, for whoever doesn't use it now.
pub(in crate::fused) fn forget(key: &str) {
    cache().tables.remove(key);
}

/// Drops tables that nobody uses, those first that weren't for longest, until all that is kept takes
/// `most` bytes at most. Whether there were any.
pub(crate) fn forget_unused(most: usize) -> bool {
    let mut cache = cache();
    let mut bytes: usize = cache.tables.values().map(Cached::size).sum();
    let before = bytes;
    while bytes > most {
        let unused = cache.tables.iter().filter(|(_, cached)| !cached.is_used());
        let oldest = unused.min_by_key(|(_, cached)| cached.used);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else {
            break;
        };
        if let Some(cached) = cache.tables.remove(&key) {
            bytes -= cached.size();
        }
    }
    bytes < before
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::memory_pool::MemoryPool;

    use super::*;
    use crate::session::{Session, SessionOptions};

    /// A dimension of so many texts.
    fn plan(rows: i64) -> Arc<dyn ExecutionPlan> {
        plan_of_texts(rows, 1)
    }

    /// The same of texts of so many bytes at least.
    fn plan_of_texts(rows: i64, bytes: usize) -> Arc<dyn ExecutionPlan> {
        let keys = (0..rows).map(|key| Some(format!("key {key:0bytes$}")));
        let keys: ArrayRef = Arc::new(keys.collect::<StringArray>());
        let homes: ArrayRef = Arc::new((0..rows).map(|key| key % 10).collect::<Int64Array>());
        let batch = RecordBatch::try_from_iter(vec![("key", keys), ("home", homes)]).unwrap();
        let schema = batch.schema();
        MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None).unwrap()
    }

    fn session(memory: usize) -> Session {
        Session::new(&SessionOptions {
            memory_bytes: Some(memory),
            ..SessionOptions::default()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn tables_count_towards_the_memory_while_they_are_kept() {
        let session = session(64 << 20);
        let context = session.context().task_ctx();
        let pool: &Arc<dyn MemoryPool> = context.memory_pool();
        let table = dimension("counts, small", &plan(1_000), 0, usize::MAX, &context).await;
        let small = table.unwrap().size;
        assert!(small > 0 && pool.reserved() >= small);
        let table = dimension("counts", &plan(200_000), 0, usize::MAX, &context)
            .await
            .unwrap();
        // Less than a byte of a text and what leads to it would be a mistake.
        assert!(table.size > 200_000 * 12, "{}", table.size);
        assert!(pool.reserved() >= table.size);
        assert!(held_table_bytes() >= table.size);
        drop(table);
        // Nobody uses them any more, and they may be in nobody's way.
        forget_unused(0);
        assert_eq!(pool.reserved(), 0);
    }

    /// Its keys alone were known to fit: it is used, and leaves the memory to those who must have some.
    #[tokio::test]
    async fn a_table_that_is_larger_than_thought_is_not_counted() {
        let session = session(1 << 20);
        let context = session.context().task_ctx();
        let table = dimension("too large", &plan(200_000), 0, usize::MAX, &context).await;
        assert!(table.unwrap().size > 1 << 20);
        assert_eq!(context.memory_pool().reserved(), 0);
    }

    #[tokio::test]
    async fn a_table_that_may_not_be_so_large_is_given_up() {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let context = session.context().task_ctx();
        let plan = plan_of_texts(5_000, 500);
        let build = async |most| dimension("bounded", &plan, 0, most, &context).await;
        let error = build(1 << 20).await.err().map(|error| error.to_string());
        let error = error.expect("it takes more");
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        // Whoever has room for it gets it.
        assert!(build(16 << 20).await.unwrap().size > 5_000 * 500);
    }

    #[tokio::test]
    async fn a_table_is_kept_until_it_is_forgotten() {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let context = session.context().task_ctx();
        let build = async || {
            dimension("kept", &plan(100), 0, usize::MAX, &context)
                .await
                .unwrap()
        };
        let first = build().await;
        forget_unused(0);
        assert!(Arc::ptr_eq(&first, &build().await));
        forget("kept");
        assert!(!Arc::ptr_eq(&first, &build().await));
    }

    /// Tasks of an executor come and go with their pools; the table stays.
    #[tokio::test]
    async fn pools_of_tasks_are_left_alone() {
        let session = session(1 << 20);
        let config = Distributed::mark(session.context().copied_config());
        let state = session.state_with(config).unwrap();
        let context = state.task_ctx();
        let table = dimension("on an executor", &plan(200_000), 0, usize::MAX, &context).await;
        assert!(table.unwrap().size > 1 << 20);
        assert_eq!(context.memory_pool().reserved(), 0);
    }
}
