//! A load generation on executors: its orders go into small files, which tasks scan like any others, and the workers
//! of the executors make parts and count dates. The scheduler writes the truth, and thereby the lake is whole.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rankmill_datagen::truth::DateTruth;
use rankmill_datagen::{Made, Maker, Plan, Spread};
use rankmill_engine::source::{Format, SourcePath, SourceTable, list_files};
use rankmill_engine::work::{ORDER_COLUMN, RESULT_COLUMN, Work, WorkNode};
use rankmill_engine::{Computed, Location, Session};
use rankmill_scheduler::NotGenerated;
use rankmill_scheduler::model::Progress;
use serde_json::json;

use super::worker::{self, Order};
use super::{describe, not_generated, unusable};
use crate::space;

/// Where orders lie while they are done, in the lake. Names that begin with `_` are no data.
const ORDERS: &str = "_generating";
/// Files of orders at most: a task has at least one.
const MOST_FILES: usize = 512;
/// Files that are written at once.
const AT_ONCE: usize = 16;

/// Makes the lake of a plan on the executors of a session.
pub(super) async fn generate(
    session: &Session,
    plan: &Plan,
    place: &Location,
    replace: bool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), NotGenerated> {
    let store = session.stores().of(place);
    let store = store.map_err(|e| unusable(describe(e)))?;
    let free = space::free_bytes(place);
    let begun = Spread::begin(plan, Arc::clone(&store), place.path(), replace, free).await;
    let Some(spread) = begun.map_err(not_generated)? else {
        return Ok(());
    };
    let parts: Vec<usize> = spread.missing().map(|(number, _)| number).collect();
    let orders: Vec<Order> = order(plan, &parts);
    let orders_of = OrderFiles::write(&store, place, &orders).await;
    let files = orders_of.map_err(|e| failed_store(&e))?;
    let there = Progress {
        files: plan.parts().len() as u64,
        files_done: (plan.parts().len() - parts.len()) as u64,
        ..Progress::default()
    };
    let told = |scanned: rankmill_engine::ScanProgress| {
        // Of an executor's task, what it has read is known when it ends. Dates count as parts here.
        let done = (scanned.rows as usize).min(parts.len());
        let made = parts[..done]
            .iter()
            .map(|&part| plan.parts()[part].row_count());
        progress(Progress {
            files_done: there.files_done + done as u64,
            rows: made.sum(),
            tasks: scanned.tasks,
            tasks_done: scanned.tasks_done,
            ..there
        });
    };
    let done = files.execute(session, plan, place, &told).await;
    files.remove(&store).await;
    let (made, dates) = results(&done?, &orders)?;
    let maker = plan.clone();
    let maker = tokio::task::spawn_blocking(move || Maker::new(&maker)).await;
    let maker = maker.map_err(|e| unusable(describe(e)))?;
    let finished = spread.finish(&maker, &made, dates).await;
    finished.map_err(not_generated)?;
    progress(Progress {
        files_done: there.files,
        rows: plan.total_rows(),
        bytes: made.iter().map(|made| made.bytes).sum(),
        ..there
    });
    Ok(())
}

/// The parts that are missing, and all dates among them: a date takes about as long as some parts, so none of them is
/// left to the end.
fn order(plan: &Plan, parts: &[usize]) -> Vec<Order> {
    let dates = (0..plan.dates()).map(Order::Date);
    dates
        .chain(parts.iter().copied().map(Order::Part))
        .collect()
}

/// The files of a generation's orders.
struct OrderFiles {
    folder: Location,
    paths: Vec<Path>,
}

impl OrderFiles {
    /// Deals the orders out over files, one after the other: neighbours are alike, so files are too.
    async fn write(
        store: &Arc<dyn ObjectStore>,
        place: &Location,
        orders: &[Order],
    ) -> object_store::Result<Self> {
        let leftovers = Self {
            folder: place.join(&format!("{ORDERS}/")),
            paths: Vec::new(),
        };
        leftovers.remove_all(store).await?;
        let folder = leftovers.folder;
        let count = orders.len().min(MOST_FILES);
        let mut files = vec![String::new(); count];
        for (order, file) in orders.iter().zip((0..count).cycle()) {
            let line = json!({ ORDER_COLUMN: json!(order).to_string() });
            files[file].push_str(&format!("{line}\n"));
        }
        let paths = (0..count).map(|file| folder.path().clone().join(format!("{file:05}.json")));
        let paths: Vec<Path> = paths.collect();
        // Boxed: the compiler can't prove nested closures over references to be `Send`.
        let writes = paths.iter().zip(files).map(|(path, text)| {
            let bytes = Bytes::from(text);
            async move { store.put(path, bytes.into()).await.map(drop) }.boxed()
        });
        let writes: Vec<BoxFuture<'_, object_store::Result<()>>> = writes.collect();
        let writes = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
        writes.try_collect::<Vec<()>>().await?;
        Ok(Self { folder, paths })
    }

    /// Has the orders done.
    async fn execute(
        &self,
        session: &Session,
        plan: &Plan,
        place: &Location,
        progress: &(dyn Fn(rankmill_engine::ScanProgress) + Sync),
    ) -> Result<Computed, NotGenerated> {
        let failed = |error: rankmill_engine::Error| NotGenerated {
            retryable: error.retryable(),
            reason: describe(error),
        };
        let planned = |error| failed(rankmill_engine::Error::from(error));
        let session = session.without_tables().map_err(failed)?;
        let source = SourcePath::parse(&format!("{}/", self.folder)).map_err(failed)?;
        let files = list_files(&session, &source, Format::Json, None, None).await;
        let table = SourceTable::open(&session, &source, Format::Json, files.map_err(failed)?);
        let table = table.await.map_err(failed)?;
        let scan = session
            .context()
            .read_table(Arc::new(table))
            .map_err(planned)?;
        let work = Work {
            worker: worker::NAME.to_owned(),
            options: json!(plan.config()).to_string(),
            place: place.to_string(),
        };
        let node = WorkNode::try_new(scan.logical_plan().clone(), work).map_err(planned)?;
        let plan = node.into_plan();
        let done = session.execute("generate", &plan, progress).await;
        done.map_err(failed)
    }

    /// Removes the files; what can't be removed is in nobody's way.
    async fn remove(&self, store: &Arc<dyn ObjectStore>) {
        for path in &self.paths {
            if let Err(error) = store.delete(path).await {
                tracing::warn!(%path, %error, "a file of orders stays");
            }
        }
    }

    /// Removes what interrupted attempts have left.
    async fn remove_all(&self, store: &Arc<dyn ObjectStore>) -> object_store::Result<()> {
        let found = store.list(Some(self.folder.path()));
        let found = found.map_ok(|meta| meta.location).boxed();
        let deleted: Vec<Path> = store.delete_stream(found).try_collect().await?;
        if !deleted.is_empty() {
            tracing::info!(
                files = deleted.len(),
                "removed orders of an interrupted attempt"
            );
        }
        Ok(())
    }
}

/// What came out: each order must be done, and a repeated one in the same way.
fn results(done: &Computed, orders: &[Order]) -> Result<(Vec<Made>, Vec<DateTruth>), NotGenerated> {
    let mut parts = Vec::new();
    let mut dates = std::collections::BTreeMap::new();
    let broken = |error: serde_json::Error| unusable(format!("an executor answered: {error}"));
    for batch in &done.batches {
        let texts = [ORDER_COLUMN, RESULT_COLUMN].map(|name| {
            let column = batch.column_by_name(name);
            column.and_then(|column| column.as_string_opt::<i32>())
        });
        let [Some(ordered), Some(results)] = texts else {
            return Err(unusable("an executor answered without columns".to_owned()));
        };
        for row in 0..batch.num_rows() {
            let result = results.value(row);
            match serde_json::from_str(ordered.value(row)).map_err(broken)? {
                Order::Part(_) => parts.push(serde_json::from_str(result).map_err(broken)?),
                Order::Date(number) => {
                    let truth: DateTruth = serde_json::from_str(result).map_err(broken)?;
                    dates.insert(number, truth);
                }
            }
        }
    }
    let expected = orders
        .iter()
        .filter(|order| matches!(order, Order::Date(_)));
    if dates.len() != expected.count() {
        return Err(unusable("not all dates were counted".to_owned()));
    }
    Ok((parts, dates.into_values().collect()))
}

fn failed_store(error: &object_store::Error) -> NotGenerated {
    NotGenerated {
        retryable: rankmill_engine::store_error_is_transient(error),
        reason: error.to_string(),
    }
}
