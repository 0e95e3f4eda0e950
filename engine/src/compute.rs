//! Where a plan is computed: in this process, or on the executors of a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};

use crate::error::Result;
use crate::joins::{JOINS_IN_PARTS, has_hash_join, joins_in_parts};
use crate::operator::ran_out_of_memory;
use crate::progress::{ScanProgress, scan_progress};
use crate::session::Session;
use crate::skew::{self, SkewReport};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How long what a failed plan held is waited for, which other plans may hold as well.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const RELEASE_LOOK: Duration = Duration::from_millis(10);

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
        let pool = Arc::clone(&context.runtime_env().memory_pool);
        let held_before = pool.reserved();
        let physical = context.state().create_physical_plan(plan).await?;
        let hashed = has_hash_join(&physical);
        match computed(physical, context.task_ctx(), progress).await {
            Err(error) if hashed && ran_out_of_memory(&error) => {}
            ended => return Ok(ended?),
        }
        // The plan that failed is gone, but its tasks may still be ending.
        let patience = Instant::now() + RELEASE_PATIENCE;
        while pool.reserved() > held_before && Instant::now() < patience {
            tokio::time::sleep(RELEASE_LOOK).await;
        }
        let state = session.state_with(joins_in_parts(context.copied_config()))?;
        let physical = state.create_physical_plan(plan).await?;
        let mut computed = computed(physical, state.task_ctx(), progress).await?;
        computed.skew.decisions.push(JOINS_IN_PARTS.to_owned());
        Ok(computed)
    }

    fn is_here(&self) -> bool {
        true
    }
}

/// The rows of a plan in this process.
async fn computed(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    progress: &(dyn Fn(ScanProgress) + Sync),
) -> Result<Computed, DataFusionError> {
    let collecting = collect(Arc::clone(&plan), context);
    let (batches, scanned) = watched(collecting, &plan, progress).await;
    Ok(Computed {
        batches: batches?,
        schema: plan.schema(),
        scanned,
        skew: skew::embedded(&plan),
    })
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
