//! A leading scheduler without a lease or an API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use rankmill_engine::{
    Compute, Computed, Embedded, Location, ScanProgress, Session, SessionOptions,
};
use rankmill_jobs::publication::Retry;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

use super::{Flaky, Lake};
use crate::access::Access;
use crate::backend::Backend;
use crate::core::{Core, CoreOptions};
use crate::dispatch::{Dispatcher, Halt};
use crate::error::Result;
use crate::gaps::Gaps;
use crate::generate::{LoadGenerator, NotGenerated};
use crate::lease::Standing;
use crate::metrics::Metrics;
use crate::model::{Progress, RunId, RunState, RunView, SubmitRun};
use crate::options::Limits;
use crate::records::{Folder, Layout};
use crate::service::{Caller, Lead, Service};

/// Computes when it is let.
pub(crate) struct Gate {
    /// A permit for each computation.
    pub(crate) open: Semaphore,
    /// So many computations fail as if an executor had been lost.
    pub(crate) lose: AtomicUsize,
    /// So many fail as if the store had been away.
    pub(crate) stumble: AtomicUsize,
    /// So many panic.
    pub(crate) panic: AtomicUsize,
    /// Computations that have begun.
    pub(crate) begun: AtomicUsize,
    /// Those under way, and the most there ever were.
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    /// Lets so many computations through.
    pub(crate) fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Semaphore::new(permits),
            lose: AtomicUsize::new(0),
            stumble: AtomicUsize::new(0),
            panic: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// Computations that have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// The most computations that were ever under way at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Counts a computation as under way until it is over.
    fn enter(&self) -> Inside<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        Inside(self)
    }
}

struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts one down, if there is one left.
fn take(left: &AtomicUsize) -> bool {
    let down = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down)
        .is_ok()
}

#[async_trait]
impl Compute for Gate {
    async fn execute(
        &self,
        session: &Session,
        name: &str,
        plan: &LogicalPlan,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> rankmill_engine::Result<Computed> {
        let _inside = self.enter();
        if take(&self.lose) {
            return Err(rankmill_engine::Error::Cluster {
                reason: "an executor was lost".to_owned(),
                cause: rankmill_engine::ClusterFault::Executors,
            });
        }
        if take(&self.stumble) {
            let away = object_store::Error::Generic {
                store: "test",
                source: "it is away".into(),
            };
            return Err(datafusion::error::DataFusionError::ObjectStore(Box::new(away)).into());
        }
        assert!(!take(&self.panic), "as the test wants");
        self.open.acquire().await.unwrap().forget();
        Embedded.execute(session, name, plan, progress).await
    }
}

/// Writes a file. Waits until it is told to stop if its options say `"wait"`; finds the store away
/// if they say `"away"`, as long as there is a file of that name, which it removes.
struct Waiter;

impl LoadGenerator for Waiter {
    fn check(&self, options: &Value) -> Result<(), String> {
        match options {
            Value::String(_) => Ok(()),
            _ => Err("expected a text".to_owned()),
        }
    }

    fn generate<'a>(
        &'a self,
        _session: &'a Session,
        lake: &'a str,
        options: &'a Value,
        progress: &'a (dyn Fn(Progress) + Sync),
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, Result<(), NotGenerated>> {
        async move {
            progress(Progress {
                rows: 7,
                ..Progress::default()
            });
            while options == "wait" && !stop() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let failed = |reason: &dyn std::fmt::Display, retryable| NotGenerated {
                reason: reason.to_string(),
                retryable,
            };
            if options == "away" && std::fs::exists(format!("{lake}/away")).is_ok_and(|away| away) {
                std::fs::remove_file(format!("{lake}/away")).map_err(|e| failed(&e, false))?;
                return Err(failed(&"the store is away", true));
            }
            let made = format!("{lake}/made");
            let text = options.as_str().unwrap_or_default();
            std::fs::write(made, text).map_err(|e| failed(&e, false))
        }
        .boxed()
    }
}

/// What may differ between nodes.
pub(crate) struct NodeOptions {
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
    pub(crate) gate: Arc<Gate>,
    /// In place of the lake's own.
    pub(crate) store: Option<Arc<dyn ObjectStore>>,
    /// The one prefix that is allowed to all, in place of the lake.
    pub(crate) allowed: Option<String>,
}

impl NodeOptions {
    /// Over a store in place of the lake's own.
    pub(crate) fn over(store: &Arc<Flaky>, epoch: u64) -> Self {
        Self {
            epoch,
            store: Some(store.clone()),
            ..Self::default()
        }
    }
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            epoch: 1,
            limits: Limits {
                first_backoff: Duration::from_millis(1),
                longest_backoff: Duration::from_millis(1),
                ..Limits::default()
            },
            gate: Gate::new(1_000),
            store: None,
            allowed: None,
        }
    }
}

/// A leading scheduler.
pub(crate) struct Node {
    pub(crate) service: Service,
    pub(crate) core: Arc<Core>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) standing: watch::Sender<Standing>,
    halt: watch::Sender<Option<Halt>>,
    work: Option<JoinHandle<()>>,
}

impl Node {
    /// Takes over the lake.
    pub(crate) async fn start(lake: &Lake, options: NodeOptions) -> Self {
        let mut node = Self::idle(lake, options).await.unwrap();
        node.work();
        node
    }

    /// Takes over the lake, but starts nothing.
    pub(crate) async fn idle(lake: &Lake, options: NodeOptions) -> Result<Self> {
        let session = Session::new(&SessionOptions {
            threads: Some(2),
            ..SessionOptions::default()
        })?;
        let place = Location::parse(&lake.path())?;
        let store = match options.store {
            Some(store) => store,
            None => session.stores().of(&place)?,
        };
        let epoch = options.epoch;
        let (standing, receiver) = watch::channel(Standing::Leads {
            epoch,
            until: Instant::now() + Duration::from_secs(3_600),
        });
        let retry = Retry {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(1),
        };
        let metrics = Metrics::new();
        let core = Core::take_over(CoreOptions {
            folder: Folder::new(store, retry),
            layout: Layout::new(place.path()),
            lake: lake.path(),
            instance: format!("node {epoch}"),
            epoch,
            limits: options.limits,
            metrics: metrics.clone(),
            standing: receiver,
        })
        .await?;
        let session = session.with_compute(options.gate);
        let gaps = Gaps::new(session.clone());
        let access = Access::new(&[options.allowed.unwrap_or_else(|| lake.path())])?;
        let service = Service::new(access.clone(), Arc::new(Waiter), true, metrics);
        service.lead(Lead {
            core: Arc::clone(&core),
            gaps: gaps.clone(),
            backend: Backend::Embedded,
        });
        let dispatcher = Dispatcher {
            core: Arc::clone(&core),
            session,
            generator: Arc::new(Waiter),
            gaps,
            access,
        };
        Ok(Self {
            service,
            core,
            dispatcher,
            standing,
            halt: watch::channel(None).0,
            work: None,
        })
    }

    /// Stops as on SIGTERM.
    pub(crate) async fn stop(self) {
        self.halt.send(Some(Halt::Shutdown)).unwrap();
        self.work.unwrap().await.unwrap();
    }

    /// Ends without a word, as if it had been killed.
    pub(crate) async fn kill(self) {
        let work = self.work.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
    }

    /// Starts what was queued while it was idle, and goes on.
    pub(crate) fn work(&mut self) {
        let (halt, halting) = watch::channel(None);
        self.halt = halt;
        self.work = Some(tokio::spawn(self.dispatcher.clone().work(halting)));
    }

    /// Applies a job over the lake's log.
    pub(crate) async fn apply(&self, name: &str) {
        self.apply_spec(&Lake::spec(name)).await;
    }

    /// Applies a job.
    pub(crate) async fn apply_spec(&self, spec: &str) {
        let caller = Caller::default();
        let applied = self.service.apply_job(&caller, spec, Default::default());
        applied.await.unwrap();
    }

    /// Submits a run of a job.
    pub(crate) async fn submit(&self, job: &str, from: &str, to: &str) -> RunId {
        let request = submission(job, from, to);
        let caller = Caller::default();
        let run = self.service.submit(&caller, request, None).await.unwrap();
        run.summary.id
    }

    /// The run once it has ended.
    pub(crate) async fn ended(&self, id: RunId) -> RunView {
        let mut last = None;
        let mut views = self.service.watch(id).await.unwrap();
        while let Some(view) = views.next().await {
            last = Some(view);
        }
        let last = last.unwrap();
        assert!(last.summary.state.is_final(), "{last:?}");
        last
    }

    /// The run once it is in a state.
    pub(crate) async fn reached(&self, id: RunId, state: RunState) -> RunView {
        let mut views = self.service.watch(id).await.unwrap();
        while let Some(view) = views.next().await {
            if view.summary.state == state {
                return view;
            }
        }
        panic!("run {id} never was {state:?}");
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let all = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// A request for a run of a job.
pub(crate) fn submission(job: &str, from: &str, to: &str) -> SubmitRun {
    SubmitRun {
        job: Some(job.to_owned()),
        spec: None,
        generate: None,
        set: Default::default(),
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        force: false,
        allow_empty: false,
    }
}
