//! Tasks that stop when they are cancelled.
//!
//! Ballista aborts the future of a cancelled task, but the writers of its shuffle files run
//! detached from it, to the end. So the leaves of a task's plan are wrapped here: once the task's
//! future is gone, a leaf ends with an error, and with it all that reads from it. Joins are
//! wrapped too, as a few rows of their inputs may become very many.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{
    DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor,
};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream,
    SendableRecordBatchStream,
};
use datafusion::prelude::SessionConfig;
use futures::Stream;

use rankmill_engine::work::WorkExec;

use crate::failure;

/// Says to the tasks that hold it that they should stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    task: Arc<AtomicBool>,
    process: Arc<AtomicBool>,
}

impl Stop {
    /// For a task: stops when told, or when the process is.
    fn of_task(&self) -> Self {
        Self {
            task: Arc::default(),
            process: Arc::clone(&self.process),
        }
    }

    /// Stops all tasks.
    pub(crate) fn all(&self) {
        self.process.store(true, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        self.task.load(Ordering::Relaxed) || self.process.load(Ordering::Relaxed)
    }
}

/// Stops a task when its future is dropped; after its end that changes nothing.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.task.store(true, Ordering::Relaxed);
    }
}

/// Ballista's engine for tasks that can be stopped.
pub(crate) struct Engine {
    inner: DefaultExecutionEngine,
    stop: Stop,
}

impl Engine {
    pub(crate) fn new(clients: Arc<dyn BallistaClientPool>, stop: Stop) -> Self {
        Self {
            inner: DefaultExecutionEngine::with_client_pool(clients),
            stop,
        }
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let stop = self.stop.of_task();
        let plan = stoppable(plan, &stop)?;
        let inner = self.inner.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(Stage {
            inner,
            stop,
            work_dir: Path::new(work_dir).to_owned(),
        }))
    }
}

/// A task.
#[derive(Debug)]
struct Stage {
    inner: Arc<dyn QueryStageExecutor>,
    stop: Stop,
    work_dir: PathBuf,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let _guard = StopOnDrop(self.stop.clone());
        let done = self.inner.execute_query_stage(task_id, context).await;
        done.map_err(|error| failure::told(error, &self.work_dir))
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}

fn stoppable(plan: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        // Ballista looks for operators of its own along chains of single inputs: those stay. Work isn't one,
        // and has more to do than its input.
        if node.children().len() == 1 && node.downcast_ref::<WorkExec>().is_none() {
            return Ok(Transformed::no(node));
        }
        let stoppable: Arc<dyn ExecutionPlan> = Arc::new(StoppableExec {
            input: node,
            stop: stop.clone(),
        });
        Ok(Transformed::yes(stoppable))
    })?;
    Ok(wrapped.data)
}

/// An operator that can be stopped. Made on the executor and never sent.
#[derive(Debug)]
struct StoppableExec {
    input: Arc<dyn ExecutionPlan>,
    stop: Stop,
}

impl DisplayAs for StoppableExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoppableExec")
    }
}

impl ExecutionPlan for StoppableExec {
    fn name(&self) -> &'static str {
        "StoppableExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("StoppableExec has one child");
        };
        let stop = self.stop.clone();
        Ok(Arc::new(Self { input, stop }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        // Joins never yield by themselves; on threads that are all busy, nobody would get to
        // drop the cancelled future.
        Ok(Box::pin(cooperative(StoppableStream {
            input: self.input.execute(partition, context)?,
            stop: self.stop.clone(),
        })))
    }
}

struct StoppableStream {
    input: SendableRecordBatchStream,
    stop: Stop,
}

impl Stream for StoppableStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stop.is_told() {
            return Poll::Ready(Some(exec_err!("the task was cancelled")));
        }
        self.input.as_mut().poll_next(context)
    }
}

impl RecordBatchStream for StoppableStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn plan(context: &SessionContext) -> Arc<dyn ExecutionPlan> {
        let sql = "SELECT a.v % 3 AS k, count(*) FROM generate_series(1, 1000) a(v)
                   JOIN generate_series(1, 10) b(v) ON a.v % 10 = b.v GROUP BY 1 ORDER BY 1";
        let plan = context.sql(sql).await.unwrap();
        plan.create_physical_plan().await.unwrap()
    }

    #[tokio::test]
    async fn a_stopped_task_ends_with_an_error() {
        let context = SessionContext::new();
        let all = Stop::default();
        let (one, other) = (all.of_task(), all.of_task());
        let plan = plan(&context).await;
        let as_it_is = collect(Arc::clone(&plan), context.task_ctx())
            .await
            .unwrap();
        drop(StopOnDrop(one.clone()));
        let stopped = stoppable(Arc::clone(&plan), &one).unwrap();
        let error = collect(stopped, context.task_ctx()).await.unwrap_err();
        assert!(error.to_string().contains("cancelled"), "{error}");
        // The other task goes on and computes the same.
        let going = stoppable(Arc::clone(&plan), &other).unwrap();
        assert_eq!(collect(going, context.task_ctx()).await.unwrap(), as_it_is);
        all.all();
        let stopped = stoppable(plan, &other).unwrap();
        collect(stopped, context.task_ctx()).await.unwrap_err();
    }
}
