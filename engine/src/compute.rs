//! Where a plan is computed: in this process, or on the executors of a cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};

use crate::error::Result;
use crate::progress::{ScanProgress, scan_progress};
use crate::session::Session;
use crate::skew::{self, SkewReport};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The rows of a plan.
#[derive(Debug, Clone)]
pub struct Computed {
    /// Their schema, also where there are no rows.
    pub schema: SchemaRef,
    /// The rows, in the order of the plan if it has one.
    pub batches: Vec<RecordBatch>,
    /// What the scans have read.
    pub scanned: ScanProgress,
    /// What was skewed.
    pub skew: SkewReport,
}

/// Computes plans. Dropping the future of [`execute`](Compute::execute) stops the computation.
#[async_trait]
pub trait Compute: Send + Sync {
    /// The rows of `plan`, whose tables and functions are those of `session`. `name` is for
    /// people: the job and its dates. `progress` is called from the same task, a few times a
    /// second.
    async fn execute(
        &self,
        session: &Session,
        name: &str,
        plan: &LogicalPlan,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<Computed>;

    /// Whether that is this process.
    fn is_here(&self) -> bool {
        false
    }
}

/// Computes in this process, with the session's threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

#[async_trait]
impl Compute for Embedded {
    async fn execute(
        &self,
        session: &Session,
        _name: &str,
        plan: &LogicalPlan,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<Computed> {
        let context = session.context();
        let physical = context.state().create_physical_plan(plan).await?;
        let collecting = collect(Arc::clone(&physical), context.task_ctx());
        let (batches, scanned) = watched(collecting, &physical, progress).await;
        Ok(Computed {
            batches: batches?,
            schema: physical.schema(),
            scanned,
            skew: skew::embedded(&physical),
        })
    }

    fn is_here(&self) -> bool {
        true
    }
}

/// Waits for what a plan gives, and tells how far its scans are. What they have read in the end.
pub(crate) async fn watched<T>(
    work: impl Future<Output = T>,
    plan: &Arc<dyn ExecutionPlan>,
    progress: &(dyn Fn(ScanProgress) + Sync),
) -> (T, ScanProgress) {
    let mut work = Box::pin(work);
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = tick.tick() => progress(scan_progress(plan)),
        }
    };
    let scanned = scan_progress(plan);
    progress(scanned);
    (done, scanned)
}
