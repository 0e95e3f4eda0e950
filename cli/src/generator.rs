//! Load-generation runs of a scheduler: the generator of `rankmill generate`, stoppable, in the scheduler's process or
//! spread over executors.

mod spread;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rankmill_datagen::{self as datagen, Part, Plan, generate};
use rankmill_engine::work::Workers;
use rankmill_engine::{Location, Session};
use rankmill_scheduler::model::Progress;
use rankmill_scheduler::{LoadGenerator, NotGenerated};
use serde_json::Value;

use crate::load::LoadOptions;
use crate::{outcome, space};

/// How often progress is told and a stop is noticed.
const TICK: Duration = Duration::from_millis(200);

/// Makes skewed logs for a scheduler.
pub(crate) struct Generator {
    pub(crate) threads: usize,
}

/// The workers of an executor.
pub(crate) fn workers() -> Workers {
    Workers::default().with(worker::NAME, Arc::new(worker::LakeWorker::default()))
}

impl LoadGenerator for Generator {
    fn check(&self, options: &Value) -> Result<(), String> {
        plan_of(options).map(drop)
    }

    fn generate<'a>(
        &'a self,
        session: &'a Session,
        lake: &'a str,
        options: &'a Value,
        progress: &'a (dyn Fn(Progress) + Sync),
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, Result<(), NotGenerated>> {
        async move {
            let (plan, replace) = plan_of(options).map_err(unusable)?;
            let place = Location::parse(lake).map_err(|e| unusable(describe(e)))?;
            if session.computes_here() {
                return self
                    .generate_here(session, plan, place, replace, progress, stop)
                    .await;
            }
            let made = spread::generate(session, &plan, &place, replace, progress);
            let mut made = std::pin::pin!(made);
            let mut tick = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    made = &mut made => return made,
                    _ = tick.tick() => if stop() {
                        // Dropping what is awaited cancels it on the executors.
                        return Err(not_generated(datagen::Error::Stopped));
                    },
                }
            }
        }
        .boxed()
    }
}

impl Generator {
    async fn generate_here(
        &self,
        session: &Session,
        plan: Plan,
        place: Location,
        replace: bool,
        progress: &(dyn Fn(Progress) + Sync),
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), NotGenerated> {
        let store = session.stores().of(&place);
        let store = store.map_err(|e| unusable(describe(e)))?;
        let threads = self.threads;
        let watch = Watch::new(plan.parts().len(), &place);
        let watch = StopOnDrop(Arc::new(watch));
        let told = Arc::clone(&watch.0);
        let runtime = tokio::runtime::Handle::current();
        let mut making = tokio::task::spawn_blocking(move || {
            let (prefix, told) = (place.path(), told.as_ref());
            generate(&plan, store, prefix, threads, &runtime, replace, told)
        });
        let mut tick = tokio::time::interval(TICK);
        let made = loop {
            tokio::select! {
                made = &mut making => break made,
                _ = tick.tick() => {
                    progress(watch.0.progress());
                    if stop() {
                        watch.0.stop.store(true, Relaxed);
                    }
                }
            }
        };
        progress(watch.0.progress());
        let made = made.map_err(|e| unusable(describe(e)))?;
        made.map(drop).map_err(not_generated)
    }
}

fn not_generated(error: datagen::Error) -> NotGenerated {
    NotGenerated {
        retryable: error.retryable(),
        reason: describe(error),
    }
}

/// What is made, and whether it replaces what is there.
fn plan_of(options: &Value) -> Result<(Plan, bool), String> {
    if !options.is_object() {
        return Err("expected an object of options such as {\"rows\": 5000000}".to_owned());
    }
    let load: LoadOptions = serde_json::from_value(options.clone()).map_err(|e| e.to_string())?;
    let plan = Plan::new(&load.config()).map_err(|e| e.to_string())?;
    Ok((plan, load.replace))
}

/// Another attempt would go no better.
fn unusable(reason: String) -> NotGenerated {
    NotGenerated {
        reason,
        retryable: false,
    }
}

fn describe(error: impl Into<anyhow::Error>) -> String {
    outcome::describe(&error.into())
}

/// How far the threads that generate are, and whether they shall stop.
struct Watch {
    stop: AtomicBool,
    /// Free bytes where the lake goes.
    free_bytes: Option<u64>,
    files: u64,
    files_done: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Watch {
    fn new(files: usize, place: &Location) -> Self {
        Self {
            free_bytes: space::free_bytes(place),
            stop: AtomicBool::new(false),
            files: files as u64,
            files_done: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            files: self.files,
            files_done: self.files_done.load(Relaxed),
            rows: self.rows.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            ..Progress::default()
        }
    }
}

impl datagen::Progress for Watch {
    fn part_done(&self, _part: &Part, rows: u64, bytes: u64) {
        self.files_done.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn free_bytes(&self) -> Option<u64> {
        self.free_bytes
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Threads can't be dropped with the future that waits for them.
struct StopOnDrop(Arc<Watch>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rankmill_engine::SessionOptions;
    use serde_json::json;

    use super::*;

    fn generator() -> Generator {
        Generator { threads: 2 }
    }

    fn small() -> Value {
        json!({ "rows": 2000, "web_rows": 100, "users": 50, "performances": 20, "days": 4 })
    }

    #[test]
    fn options_are_checked() {
        let generator = generator();
        assert_eq!(generator.check(&small()), Ok(()));
        assert_eq!(generator.check(&json!({})), Ok(()));
        let wrong = |options: Value, word: &str| {
            let error = generator.check(&options).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        wrong(json!({ "days": 0 }), "days");
        wrong(json!({ "rows": "many" }), "many");
        wrong(json!({ "colour": "red" }), "colour");
        wrong(json!([]), "object");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lake_is_made_or_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().to_str().unwrap();
        let last = Mutex::new(Progress::default());
        let progress = |now| *last.lock().unwrap() = now;

        let (generator, small) = (generator(), small());
        let session = Session::new(&SessionOptions::default()).unwrap();
        let stopped = generator
            .generate(&session, lake, &small, &progress, &|| true)
            .await;
        // It may have been done before the stop was noticed.
        if let Err(reason) = stopped {
            let said = &reason.reason;
            assert!(said.contains("stopped") && !reason.retryable, "{said}");
            assert!(!folder.path().join("truth.json").exists());
        }
        // The same again does what is left.
        let made = generator.generate(&session, lake, &small, &progress, &|| false);
        assert_eq!(made.await, Ok(()));
        assert!(folder.path().join("truth.json").exists());
        let last = last.lock().unwrap();
        assert_eq!(last.files, last.files_done);
        assert!(last.rows > 2000 && last.bytes > 0);
    }
}
