//! Small lakes, and their rows read back without any of the generator's code.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType,
};
use bytes::Bytes;
use chrono::NaiveDate;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rankmill_datagen::{
    Config, Error, Findings, Part, Plan, Profile, Progress, Report, Table, Truth, generate, truth,
    verify,
};
use tokio::runtime::Runtime;

pub(crate) struct Quiet;

impl Progress for Quiet {
    fn part_done(&self, _: &Part, _: u64, _: u64) {}
}

/// A lake of a few thousand rows in a few dozen files.
pub(crate) fn small() -> Config {
    small_of(Profile::Realistic)
}

/// The same of another profile.
pub(crate) fn small_of(profile: Profile) -> Config {
    Config {
        click_rows: 6_000,
        web_rows: 2_000,
        users: 300,
        performances: 80,
        days: 3,
        rows_per_file: 1_000,
        rows_per_row_group: 400,
        ..profile.config()
    }
}

pub(crate) struct Lake {
    pub(crate) store: Arc<InMemory>,
    runtime: Runtime,
}

pub(crate) struct Click {
    pub(crate) date: NaiveDate,
    pub(crate) id: i64,
    pub(crate) at_us: i64,
    pub(crate) user: Option<i64>,
    pub(crate) session: i64,
    pub(crate) item: Option<i32>,
    pub(crate) action: String,
}

pub(crate) struct Request {
    pub(crate) date: NaiveDate,
    pub(crate) id: i64,
    pub(crate) at_us: i64,
    pub(crate) client_ip: String,
    pub(crate) user: Option<i64>,
    pub(crate) session: i64,
    pub(crate) path: String,
    pub(crate) status: i16,
    pub(crate) has_referrer: bool,
}

impl Lake {
    pub(crate) fn empty() -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            runtime: Runtime::new().unwrap(),
        }
    }

    pub(crate) fn of(config: &Config, threads: usize) -> Self {
        let lake = Self::empty();
        lake.generate(config, threads, false).unwrap();
        lake
    }

    pub(crate) fn generate(
        &self,
        config: &Config,
        threads: usize,
        replace: bool,
    ) -> Result<Report, Error> {
        let plan = Plan::new(config)?;
        let (store, handle) = (Arc::clone(&self.store), self.runtime.handle());
        let prefix = Path::from("a/lake");
        generate(&plan, store, &prefix, threads, handle, replace, &Quiet)
    }

    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        let path = Path::from(path);
        let put = self.store.put(&path, bytes.into().into());
        self.runtime.block_on(put).unwrap();
    }

    pub(crate) fn delete(&self, path: &str) {
        let path = Path::from(path);
        self.runtime.block_on(self.store.delete(&path)).unwrap();
    }

    pub(crate) fn verify(&self, deep: bool) -> Result<Findings, Error> {
        let (store, handle) = (Arc::clone(&self.store), self.runtime.handle());
        verify(store, &Path::from("a/lake"), 2, handle, deep)
    }

    pub(crate) fn truth(&self) -> Option<Truth> {
        let prefix = Path::from("a/lake");
        let read = truth::read(self.store.as_ref(), &prefix);
        self.runtime.block_on(read).unwrap()
    }

    /// Everything in the store.
    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.runtime.block_on(async {
            let found: Vec<_> = self.store.list(None).try_collect().await.unwrap();
            let mut objects = BTreeMap::new();
            for meta in found {
                let object = self.store.get(&meta.location).await.unwrap();
                let bytes = object.bytes().await.unwrap();
                objects.insert(meta.location.to_string(), bytes);
            }
            objects
        })
    }

    /// The table's files: path, schema, batches of rows.
    pub(crate) fn files(&self, table: Table) -> Vec<(String, SchemaRef, Vec<RecordBatch>)> {
        let folder = format!("a/lake/{}/", table.folder());
        let objects = self.objects().into_iter();
        let files = objects.filter(|(path, _)| path.starts_with(&folder));
        files
            .map(|(path, bytes)| {
                let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
                let schema = Arc::clone(builder.schema());
                let batches = builder.build().unwrap().map(Result::unwrap).collect();
                (path, schema, batches)
            })
            .collect()
    }

    pub(crate) fn clicks(&self) -> Vec<Click> {
        let mut clicks = Vec::new();
        for (date, batch) in self.dated_batches(Table::TicketClicks) {
            let longs = |name: &str| batch[name].as_primitive::<Int64Type>().clone();
            let users = longs("user_id");
            let items = batch["performance_id"].as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                clicks.push(Click {
                    date,
                    id: longs("click_id").value(row),
                    at_us: time(&batch, "clicked_at", row),
                    user: users.is_valid(row).then(|| users.value(row)),
                    session: longs("session_id").value(row),
                    item: items.is_valid(row).then(|| items.value(row)),
                    action: text(&batch, "action", row),
                });
            }
        }
        clicks
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for (date, batch) in self.dated_batches(Table::WebLogs) {
            let longs = |name: &str| batch[name].as_primitive::<Int64Type>().clone();
            let users = longs("user_id");
            for row in 0..batch.num_rows() {
                requests.push(Request {
                    date,
                    id: longs("request_id").value(row),
                    at_us: time(&batch, "requested_at", row),
                    client_ip: text(&batch, "client_ip", row),
                    user: users.is_valid(row).then(|| users.value(row)),
                    session: longs("session_id").value(row),
                    path: text(&batch, "path", row),
                    status: batch["status"].as_primitive::<Int16Type>().value(row),
                    has_referrer: batch["referrer"].is_valid(row),
                });
            }
        }
        requests
    }

    /// Birth dates by user id.
    pub(crate) fn birth_dates(&self) -> BTreeMap<i64, Option<NaiveDate>> {
        let mut birth_dates = BTreeMap::new();
        for (_, _, batches) in self.files(Table::Users) {
            for batch in batches {
                let ids = batch["user_id"].as_primitive::<Int64Type>();
                let dates = batch["birth_date"].as_primitive::<Date32Type>();
                for row in 0..batch.num_rows() {
                    let date = dates
                        .is_valid(row)
                        .then(|| dates.value_as_date(row).unwrap());
                    birth_dates.insert(ids.value(row), date);
                }
            }
        }
        birth_dates
    }

    fn dated_batches(&self, table: Table) -> Vec<(NaiveDate, RecordBatch)> {
        let files = self.files(table).into_iter();
        files
            .flat_map(|(path, _, batches)| {
                let (_, rest) = path.split_once("/date=").unwrap();
                let date: NaiveDate = rest[..10].parse().unwrap();
                batches.into_iter().map(move |batch| (date, batch))
            })
            .collect()
    }
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> String {
    batch[column].as_string::<i32>().value(row).to_owned()
}

fn time(batch: &RecordBatch, column: &str, row: usize) -> i64 {
    let times = batch[column].as_primitive::<TimestampMicrosecondType>();
    times.value(row)
}
