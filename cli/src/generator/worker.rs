//! What an executor does of a load generation: it makes parts of a lake, and counts dates.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{DataFusionError, exec_datafusion_err};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use rankmill_datagen::{self as datagen, Config, Made, Maker, Plan};
use rankmill_engine::Location;
use rankmill_engine::work::Worker;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What it is called in plans.
pub(super) const NAME: &str = "generate";

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Make and write the part of that number in the plan; the result is a [`Made`].
    Part(usize),
    /// Count the date of that number in the plan; the result is a [`datagen::truth::DateTruth`].
    Date(usize),
}

/// Makes lakes; keeps the tables of the last one, for its next parts.
#[derive(Default)]
pub(super) struct LakeWorker {
    last: Arc<Mutex<Last>>,
}

/// The last maker, and its config as JSON.
type Last = Option<(String, Arc<Maker>)>;

impl Worker for LakeWorker {
    fn work<'a>(
        &'a self,
        options: &'a str,
        order: &'a str,
        place: &'a Location,
        store: Arc<dyn ObjectStore>,
    ) -> BoxFuture<'a, Result<String, DataFusionError>> {
        async move {
            let order: Order = serde_json::from_str(order).map_err(external)?;
            let (last, config) = (Arc::clone(&self.last), options.to_owned());
            let maker = blocking(move || maker_of(&last, &config)).await??;
            match order {
                Order::Part(number) => {
                    let made = blocking(move || make(&maker, number)).await??;
                    let (made, file) = made;
                    let config: Config = serde_json::from_str(options).map_err(external)?;
                    let written = datagen::put(store, place.path(), &config, &made.path, file);
                    written.await.map_err(told)?;
                    serde_json::to_string(&made).map_err(external)
                }
                Order::Date(number) => {
                    let truth = blocking(move || count(&maker, number)).await??;
                    serde_json::to_string(&truth).map_err(external)
                }
            }
        }
        .boxed()
    }
}

/// The maker of a config, as JSON.
fn maker_of(last: &Mutex<Last>, config: &str) -> Result<Arc<Maker>, DataFusionError> {
    // Held while it is built: tasks that come at the same time need the same one.
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((of, maker)) if of == config => Ok(Arc::clone(maker)),
        _ => {
            let parsed: Config = serde_json::from_str(config).map_err(external)?;
            let maker = Arc::new(Maker::new(&Plan::new(&parsed).map_err(told)?));
            *last = Some((config.to_owned(), Arc::clone(&maker)));
            Ok(maker)
        }
    }
}

fn make(maker: &Maker, number: usize) -> Result<(Made, Vec<u8>), DataFusionError> {
    let part = maker.plan().parts().get(number);
    let part = part.ok_or_else(|| exec_datafusion_err!("there is no part {number}"))?;
    // On one thread, as a task has one slot.
    let file = maker.part_on(part, 1).map_err(told)?;
    let made = Made {
        path: part.path.clone(),
        rows: part.row_count(),
        bytes: file.len() as u64,
        sha256: format!("{:x}", Sha256::digest(&file)),
    };
    Ok((made, file))
}

fn count(maker: &Maker, number: usize) -> Result<datagen::truth::DateTruth, DataFusionError> {
    if number >= maker.plan().dates() {
        return Err(exec_datafusion_err!("there is no date {number}"));
    }
    maker.date_on(number, 1).map_err(told)
}

/// Computes beside what the task's thread has to answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DataFusionError> {
    tokio::task::spawn_blocking(work).await.map_err(external)
}

/// The store's errors as they are: some are worth another try.
fn told(error: datagen::Error) -> DataFusionError {
    match error {
        datagen::Error::Store { source, .. } => DataFusionError::ObjectStore(Box::new(source)),
        error => external(error),
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
