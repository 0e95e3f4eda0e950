//! The tables of dimensions that this process has built.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

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
/// Where memory is limited they are one of so many parts of it at most.
const CACHE_SHARE: usize = 4;

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
/// [`held_table_bytes`]).
///
/// # Errors
/// If it can't be built, or takes more memory than there is.
pub(in crate::fused) async fn dimension(
    key: &str,
    plan: &Arc<dyn ExecutionPlan>,
    expected: usize,
    context: &Arc<TaskContext>,
) -> Result<Arc<Dimension>> {
    let cell = {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        cache.uses += 1;
        let now = cache.uses;
        let cached = cache.tables.entry(key.to_owned()).or_default();
        cached.used = now;
        Arc::clone(&cached.table)
    };
    let pool = context.memory_pool();
    let built = cell.get_or_try_init(async || {
        let mut table = build(Arc::clone(plan), expected, Arc::clone(context)).await?;
        if !Distributed::is_set(context.session_config()) {
            let consumer = || MemoryConsumer::new("the table of a dimension").register(pool);
            if table.reserve(consumer()).is_err() {
                forget_unused(0);
                table.reserve(consumer())?;
            }
        }
        Ok::<_, DataFusionError>(Arc::new(table))
    });
    let table = Arc::clone(built.await?);
    forget_unused(match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => CACHE_BYTES.min(bytes / CACHE_SHARE),
        _ => CACHE_BYTES,
    });
    Ok(table)
}

/// Bytes of the tables that this process holds, whether or not they are in use.
pub fn held_table_bytes() -> usize {
    let cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    cache.tables.values().map(Cached::size).sum()
}

impl Cached {
    fn size(&self) -> usize {
        self.table.get().map_or(0, |table| table.size)
    }

    /// Whether a task works with it, or builds it.
    fn is_used(&self) -> bool {
        let used = |table: &Arc<Dimension>| Arc::strong_count(table) > 1;
        self.table.get().is_none_or(used)
    }
}

/// Drops tables that nobody uses, those first that weren't for longest, until all that is kept takes
/// `most` bytes at most.
fn forget_unused(most: usize) {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes: usize = cache.tables.values().map(Cached::size).sum();
    while bytes > most {
        let unused = cache.tables.iter().filter(|(_, cached)| !cached.is_used());
        let oldest = unused.min_by_key(|(_, cached)| cached.used);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else {
            return;
        };
        if let Some(cached) = cache.tables.remove(&key) {
            bytes -= cached.size();
        }
    }
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
        let keys = (0..rows).map(|key| Some(format!("key {key}")));
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
        let table = dimension("counts, small", &plan(1_000), 0, &context).await;
        let small = table.unwrap().size;
        assert!(small > 0 && pool.reserved() >= small);
        let table = dimension("counts", &plan(200_000), 0, &context)
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

    #[tokio::test]
    async fn a_table_that_does_not_fit_is_an_error() {
        let session = session(1 << 20);
        let context = session.context().task_ctx();
        let found = dimension("too large", &plan(200_000), 0, &context).await;
        let error = found.unwrap_err().to_string();
        assert!(error.contains("the table of a dimension"), "{error}");
        assert_eq!(context.memory_pool().reserved(), 0);
        // Another one that fits is none the worse for it.
        dimension("fits", &plan(100), 0, &context).await.unwrap();
    }

    /// Tasks of an executor come and go with their pools; the table stays.
    #[tokio::test]
    async fn pools_of_tasks_are_left_alone() {
        let session = session(1 << 20);
        let config = Distributed::mark(session.context().copied_config());
        let state = session.state_with(config).unwrap();
        let context = state.task_ctx();
        let table = dimension("on an executor", &plan(200_000), 0, &context).await;
        assert!(table.unwrap().size > 1 << 20);
        assert_eq!(context.memory_pool().reserved(), 0);
    }
}
