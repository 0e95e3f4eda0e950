//! The lake that benches read.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rankmill_datagen::{Config, Plan, generate};
use rankmill_engine::Location;
use rankmill_engine::store::LocalStore;

use crate::Quiet;

/// Generates a lake under `RANKMILL_BENCH_DATA` (by default the system's folder for temporary
/// files), once: the same lake is found again. Call it on a multi-threaded runtime.
pub async fn bench_lake(config: Config) -> anyhow::Result<PathBuf> {
    let root = std::env::var_os("RANKMILL_BENCH_DATA").map_or_else(std::env::temp_dir, Into::into);
    let name = format!("rankmill-bench-{}-{}", config.click_rows, config.days);
    let folder = root.join(name);
    let text = folder.to_str().context("the folder's name is not UTF-8")?;
    let place = Location::parse(text)?;
    let threads = std::thread::available_parallelism()?.get();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&config)?;
        let store = Arc::new(LocalStore::new());
        generate(&plan, store, place.path(), threads, &runtime, true, &Quiet)
    })
    .await??;
    Ok(folder)
}
