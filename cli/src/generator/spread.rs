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
/// Rows made in a round: some two minutes on two slots.
const ROUND_ROWS: u64 = 1 << 30;
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
    let (mut made, mut dates): (Vec<Made>, Vec<DateTruth>) = Default::default();
    let all = plan.parts().len() as u64;
    let missing: Vec<usize> = spread.missing().map(|(number, _)| number).collect();
    let kept = all - missing.len() as u64;
    OrderFiles::sweep(&store, place).await?;
    for orders in rounds(plan, &missing) {
        let before = Progress {
            files: all,
            files_done: kept + made.len() as u64,
            rows: made.iter().map(|made| made.rows).sum(),
            bytes: made.iter().map(|made| made.bytes).sum(),
            ..Progress::default()
        };
        let told = |scanned: rankmill_engine::ScanProgress| {
            // Of an executor's task, what it has read is known when it ends.
            let done = orders.iter().take(scanned.rows as usize);
            let parts = done.filter_map(|order| match order {
                Order::Part(number) => plan.parts().get(*number),
                Order::Date(_) => None,
            });
            let (files, rows) = parts.fold((0, 0), |(files, rows), part| {
                (files + 1, rows + part.row_count())
            });
            progress(Progress {
                files_done: before.files_done + files,
                rows: before.rows + rows,
                tasks: scanned.tasks,
                tasks_done: scanned.tasks_done,
                ..before
            });
        };
        let files = OrderFiles::write(&store, place, &orders).await?;
        let done = files.execute(session, plan, place, &told).await;
        files.remove(&store).await;
        let (parts, counted) = results(&done?, &orders)?;
        made.extend(parts);
        dates.extend(counted);
    }
    let plan_made = plan.clone();
    let maker = tokio::task::spawn_blocking(move || Arc::new(Maker::new(&plan_made))).await;
    let maker = maker.map_err(|e| unusable(describe(e)))?;
    let finished = spread.finish(maker, &made, dates).await;
    finished.map_err(not_generated)?;
    progress(Progress {
        files: all,
        files_done: all,
        rows: plan.total_rows(),
        bytes: made.iter().map(|made| made.bytes).sum(),
        ..Progress::default()
    });
    Ok(())
}

/// The orders, in rounds of a few minutes at most: what a lost executor costs is a round, and a round that takes too
/// long would be taken for a stalled one. A date's parts lie beside each other and its count, for its tables are kept.
fn rounds(plan: &Plan, missing: &[usize]) -> Vec<Vec<Order>> {
    let part_of = |&number: &usize| plan.parts().get(number).map(|part| (number, part));
    let mut parts = missing.iter().filter_map(part_of).peekable();
    let mut orders = Vec::new();
    while let Some((number, part)) = parts.next_if(|(_, part)| part.date_number().is_none()) {
        orders.push((Order::Part(number), part.row_count()));
    }
    for date in 0..plan.dates() {
        // Counting takes about half as long as making.
        orders.push((Order::Date(date), plan.date_rows(date) / 2));
        while let Some((number, part)) = parts.next_if(|(_, part)| part.date_number() == Some(date))
        {
            orders.push((Order::Part(number), part.row_count()));
        }
    }
    let mut rounds = vec![Vec::new()];
    let mut rows = 0;
    for (order, order_rows) in orders {
        if rows + order_rows > ROUND_ROWS && rows > 0 {
            rounds.push(Vec::new());
            rows = 0;
        }
        rows += order_rows;
        if let Some(round) = rounds.last_mut() {
            round.push(order);
        }
    }
    rounds
}

/// The files of a generation's orders.
struct OrderFiles {
    folder: Location,
    paths: Vec<Path>,
}

impl OrderFiles {
    /// Writes the orders into files, neighbours together.
    async fn write(
        store: &Arc<dyn ObjectStore>,
        place: &Location,
        orders: &[Order],
    ) -> Result<Self, NotGenerated> {
        let folder = place.join(&format!("{ORDERS}/"));
        let lines = |orders: &[Order]| {
            let line = |order: &Order| json!({ ORDER_COLUMN: json!(order).to_string() });
            let lines: String = orders
                .iter()
                .map(|order| format!("{}\n", line(order)))
                .collect();
            Bytes::from(lines)
        };
        let files = orders.chunks(orders.len().div_ceil(MOST_FILES).max(1));
        let files = files.zip(0..).map(|(orders, number)| {
            let path = folder.path().clone().join(format!("{number:05}.json"));
            (path, lines(orders))
        });
        let files: Vec<(Path, Bytes)> = files.collect();
        // Boxed: the compiler can't prove nested closures over references to be `Send`.
        let writes = files.iter().map(|(path, lines)| {
            let lines = lines.clone();
            async move { store.put(path, lines.into()).await.map(drop) }.boxed()
        });
        let writes: Vec<BoxFuture<'_, object_store::Result<()>>> = writes.collect();
        let writes = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
        let written = writes.try_collect::<Vec<()>>().await;
        written.map_err(|e| failed_store(&e))?;
        let paths = files.into_iter().map(|(path, _)| path).collect();
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
    async fn sweep(store: &Arc<dyn ObjectStore>, place: &Location) -> Result<(), NotGenerated> {
        let folder = place.join(&format!("{ORDERS}/"));
        let found = store.list(Some(folder.path()));
        let found = found.map_ok(|meta| meta.location).boxed();
        let deleted: object_store::Result<Vec<Path>> =
            store.delete_stream(found).try_collect().await;
        deleted.map(drop).map_err(|e| failed_store(&e))
    }
}

/// What came out: each date that was ordered must be counted, in one way. Of parts, that is checked against the store.
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
                    let before = dates.insert(number, truth.clone());
                    if before.is_some_and(|before| before != truth) {
                        let reason = format!("date {number} was counted in two ways");
                        return Err(unusable(reason));
                    }
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
