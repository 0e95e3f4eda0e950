//! The tables of dimensions that this process has built.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;

use super::Dimension;
use super::build::build;

/// Bytes of the tables that are kept for whoever needs them again.
const CACHE_BYTES: usize = 1 << 30;

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
/// now, and the columns.
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
    let built = cell.get_or_try_init(async || {
        let table = build(Arc::clone(plan), expected, Arc::clone(context)).await?;
        Ok::<_, DataFusionError>(Arc::new(table))
    });
    let table = Arc::clone(built.await?);
    forget_unused();
    Ok(table)
}

/// Drops the tables that were not used for longest, until the rest takes no more than it may.
fn forget_unused() {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let size = |cell: &OnceCell<Arc<Dimension>>| cell.get().map_or(0, |table| table.size());
    let mut bytes: usize = cache
        .tables
        .values()
        .map(|cached| size(&cached.table))
        .sum();
    while bytes > CACHE_BYTES && cache.tables.len() > 1 {
        let oldest = cache.tables.iter().min_by_key(|(_, cached)| cached.used);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else {
            return;
        };
        if let Some(cached) = cache.tables.remove(&key) {
            bytes -= size(&cached.table);
        }
    }
}
