//! Computes one plan on the executors, and begins anew where Ballista would hang or give up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::config::BALLISTA_ADAPTIVE_PLANNER_ENABLED;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::task_status;
use ballista_scheduler::scheduler_server::event::SubmitPlan;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{SessionConfig, SessionContext};
use rankmill_engine::skew::{SkewReport, decisions};
use rankmill_engine::{
    ClusterFault, Compute, Computed, Embedded, Error, JOINS_IN_PARTS, LEFT_OUT_ROWS, Result,
    ScanProgress, Session, has_hash_join, is_out_of_memory, joins_in_parts, scan_bytes,
    without_shared_tables,
};

use super::collect::{FetchError, fetch};
use super::executors::{busy_slots, since_epoch};
use super::shape::unsafe_operator;
use super::watch::{Sighting, Trouble, Watch};
use super::{Cluster, Planner, ballista_settings};
use crate::model::Executor;

/// How often a job is looked at; Ballista also tells at once when it ends.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Submissions of one plan before the run itself must be tried again.
const MAX_SUBMISSIONS: usize = 6;
/// A task reads at most about so many bytes of files: its length is what a lost executor costs,
/// and what tells a long task from one that never ends.
const MAX_TASK_BYTES: u64 = 512 << 20;
/// But more partitions for each slot than this cost more in the shuffle than they help.
const MAX_PARTITIONS_PER_SLOT: usize = 16;
/// A job without a running task for so long, beside idle executors, is helped on.
const STARVED_AFTER: Duration = Duration::from_secs(3);

/// How one submission went wrong.
enum Failure {
    /// Submit anew at once.
    Anew(String),
    /// Submit anew if it can do with less memory.
    OutOfMemory(String),
    /// Give up.
    Final(Error),
}

#[async_trait]
impl Compute for Cluster {
    async fn execute(
        &self,
        session: &Session,
        name: &str,
        plan: &LogicalPlan,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<Computed> {
        let mut last = String::new();
        let mut in_parts = false;
        for submission in 1..=MAX_SUBMISSIONS {
            let slots = self.slots(name).await?;
            let Some((context, physical)) = self.plan(session, name, plan, slots, in_parts).await?
            else {
                return Embedded.execute(session, name, plan, progress).await;
            };
            let schema = physical.schema();
            // The adaptive planner wouldn't have them go to disk.
            let is_static = self.options.planner == Planner::Static;
            let hashed = is_static && has_hash_join(&physical);
            let mut decided = match self.options.planner {
                Planner::Static => decisions(&physical),
                // Another plan is made, by itself.
                Planner::Adaptive => Vec::new(),
            };
            decided.extend(in_parts.then(|| JOINS_IN_PARTS.to_owned()));
            // What looks stalled may only be slow: each time it is given more time.
            let patience = self.options.stall_timeout * (1 << (submission - 1));
            let job = match self.options.planner {
                Planner::Static => SubmitPlan::Physical(physical),
                Planner::Adaptive => SubmitPlan::Logical(plan.clone()),
            };
            match self.submit(name, context, job, patience, progress).await {
                Ok((batches, scanned, mut skew)) => {
                    skew.decisions.splice(0..0, decided);
                    return Ok(Computed {
                        batches: with_schema(&schema, batches)?,
                        schema,
                        scanned,
                        skew,
                    });
                }
                Err(Failure::OutOfMemory(reason)) if hashed && !in_parts => {
                    tracing::warn!(
                        "{name}: {reason}; submitting it anew with joins that go to disk"
                    );
                    last = reason;
                    in_parts = true;
                }
                Err(Failure::OutOfMemory(reason)) => {
                    return Err(Error::Cluster {
                        reason,
                        cause: ClusterFault::Plan,
                    });
                }
                Err(Failure::Anew(reason)) => {
                    tracing::warn!("{name}: {reason}; submitting it anew ({submission})");
                    last = reason;
                }
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        Err(Error::Cluster {
            reason: format!("given up after {MAX_SUBMISSIONS} submissions: {last}"),
            cause: ClusterFault::Executors,
        })
    }
}

impl Cluster {
    /// Slots of all executors; waits for the first executor.
    async fn slots(&self, name: &str) -> Result<usize> {
        let begun = Instant::now();
        loop {
            let executors = self.executors().await;
            let slots: u32 = executors.iter().map(|executor| executor.slots).sum();
            if slots > 0 {
                return Ok(slots as usize);
            }
            if begun.elapsed() > self.options.no_executor_timeout {
                let waited = begun.elapsed().as_secs();
                return Err(Error::Cluster {
                    reason: format!("{name}: there was no executor for {waited} s"),
                    cause: ClusterFault::Executors,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The plan as it is sent, made by the session's own rules with partitions for the cluster.
    /// None if Ballista can't be trusted with it.
    async fn plan(
        &self,
        session: &Session,
        name: &str,
        plan: &LogicalPlan,
        slots: usize,
        in_parts: bool,
    ) -> Result<Option<(Arc<SessionContext>, Arc<dyn ExecutionPlan>)>> {
        let least = self.options.partitions_per_slot.max(1);
        let config = ballista_settings(session.context().copied_config());
        let mut reasons = Vec::new();
        for config in [config.clone(), without_collected_sides(config)] {
            let planned = async |partitions| {
                let mut config = config.clone().with_target_partitions(partitions);
                if in_parts {
                    config = joins_in_parts(config);
                }
                let adaptive = self.options.planner == Planner::Adaptive;
                let config = config.set_bool(BALLISTA_ADAPTIVE_PLANNER_ENABLED, adaptive);
                let state = session.state_with(config)?;
                let physical = state.create_physical_plan(plan).await?;
                Ok::<_, Error>((state, physical))
            };
            let (mut state, mut physical) = planned(slots * least).await?;
            let wanted = partitions(slots, least, scan_bytes(&physical));
            if wanted > slots * least {
                (state, physical) = planned(wanted).await?;
            }
            match unsafe_operator(&physical) {
                None => {
                    let context = Arc::new(SessionContext::new_with_state(state));
                    return Ok(Some((context, physical)));
                }
                Some(operator) => reasons.push(operator),
            }
        }
        let reasons = reasons.join("; ");
        tracing::warn!("{name}: computed in the scheduler's process, for it has {reasons}");
        Ok(None)
    }

    async fn submit(
        &self,
        name: &str,
        context: Arc<SessionContext>,
        plan: SubmitPlan,
        stall_timeout: Duration,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<(Vec<RecordBatch>, ScanProgress, SkewReport), Failure> {
        let (told, mut tell) = tokio::sync::mpsc::channel(64);
        let submitted = match plan {
            SubmitPlan::Physical(plan) => {
                let server = &self.server;
                server
                    .submit_physical_plan(name, context, plan, Some(told))
                    .await
            }
            SubmitPlan::Logical(plan) => {
                self.server
                    .submit_job(name, context, &plan, Some(told))
                    .await
            }
        };
        let job = submitted.map_err(|e| {
            Failure::Final(Error::Cluster {
                reason: e.to_string(),
                cause: ClusterFault::Executors,
            })
        })?;
        tracing::info!("{name}: submitted as {job}");
        let guard = CancelOnDrop {
            server: self.server.clone(),
            job: Some(job.clone()),
        };
        let mut watch = Watch::new(self.options.executor_timeout, stall_timeout, since_epoch());
        let mut scanned = ScanProgress::default();
        let mut idle_since = Instant::now();
        let locations = loop {
            tokio::select! {
                _ = tell.recv(), if !tell.is_closed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let status = self.server.state.task_manager.get_job_status(&job).await;
            match status.ok().flatten().and_then(|status| status.status) {
                Some(Status::Successful(done)) => break done.partition_location,
                Some(Status::Failed(failed)) => {
                    guard.ended();
                    return Err(failure(failed.error));
                }
                _ => {}
            }
            let (sighting, now) = self.sight(&job).await;
            scanned.rows = scanned.rows.max(now.rows);
            scanned.bytes = scanned.bytes.max(now.bytes);
            scanned.files_done = scanned.files_done.max(now.files_done);
            (scanned.tasks, scanned.tasks_done) = (now.tasks, now.tasks_done);
            progress(scanned);
            if !sighting.involved.is_empty() {
                idle_since = Instant::now();
            } else if idle_since.elapsed() > STARVED_AFTER {
                self.register_idle_executors_anew(name).await;
                idle_since = Instant::now();
            }
            if let Some(trouble) = watch.look(&sighting) {
                self.forget_lost(&trouble).await;
                return Err(Failure::Anew(trouble.to_string()));
            }
        };
        scanned.tasks_done = scanned.tasks;
        progress(scanned);
        // Before the result: when that has been fetched, the executors may leave.
        let skew = self.skew_of(&job).await;
        // A result that can't be fetched was on an executor that has just gone.
        let batches = fetch(locations, &self.endpoint).await;
        let batches = batches.map_err(|e| match e {
            FetchError::Lost(e) => Failure::Anew(format!("its result is lost: {e}")),
            FetchError::TooLarge(most) => Failure::Final(Error::Cluster {
                reason: format!(
                    "the result has more than {} MiB; rank fewer rows, or say LIMIT",
                    most >> 20
                ),
                cause: ClusterFault::Plan,
            }),
        })?;
        guard.ended();
        Ok((batches, scanned, skew))
    }

    /// Tasks must not be sent to a lost executor again; Ballista itself would notice later.
    async fn forget_lost(&self, trouble: &Trouble) {
        if let Trouble::ExecutorLost { id } = trouble {
            let manager = &self.server.state.executor_manager;
            let removed = manager.remove_executor(id, Some("lost".to_owned())).await;
            if let Err(error) = removed {
                tracing::debug!("executor {id}: {error}");
            }
        }
    }

    /// Ballista may lose count of an executor's free slots when a job is cancelled while another
    /// executor is lost, and then never give it a task again. An executor that it doesn't know
    /// registers with its next heartbeat, with all of its slots.
    async fn register_idle_executors_anew(&self, name: &str) {
        let executors = self.executors().await;
        if executors.iter().any(|executor| executor.busy_slots > 0) {
            return;
        }
        for Executor { id, .. } in executors {
            tracing::warn!("{name}: executor {id} gets no task; it is registered anew");
            let manager = &self.server.state.executor_manager;
            let removed = manager.remove_executor(&id, Some("gets no task".to_owned()));
            if let Err(error) = removed.await {
                tracing::debug!("executor {id}: {error}");
            }
        }
    }

    /// What is to be seen of a job now, and how far its scans have come by the tasks done.
    async fn sight(&self, job: &JobId) -> (Sighting, ScanProgress) {
        let mut sighting = Sighting {
            at: since_epoch(),
            ..Sighting::default()
        };
        let mut progress = ScanProgress::default();
        let manager = &self.server.state.executor_manager;
        let known = manager.get_executors_state().await.unwrap_or_default();
        sighting.heard = known
            .into_iter()
            .filter_map(|(metadata, heard, _)| Some((metadata.id, heard?)))
            .collect::<BTreeMap<String, Duration>>();
        let jobs = self.server.state.task_manager.get_running_job_cache();
        if let Some(info) = jobs.get(job) {
            let graph = info.execution_graph.read().await;
            sighting.involved = involved(graph.stages());
            sighting.waits = graph.running_tasks().is_empty();
            for stage in graph.stages().values() {
                add_stage(stage, &mut sighting, &mut progress);
            }
        }
        // Without a task of its own, all that are at work are others'.
        sighting.waits = sighting.waits && !busy_slots(&self.server).await.is_empty();
        (sighting, progress)
    }
}

/// Partitions of a plan that reads so many bytes on so many slots.
fn partitions(slots: usize, least_per_slot: usize, bytes: u64) -> usize {
    let by_bytes = usize::try_from(bytes.div_ceil(MAX_TASK_BYTES)).unwrap_or(usize::MAX);
    by_bytes
        .min(slots * MAX_PARTITIONS_PER_SLOT)
        .max(slots * least_per_slot)
}

/// Joins over partitions of both sides only.
fn without_collected_sides(config: SessionConfig) -> SessionConfig {
    without_shared_tables(config).set_usize("ballista.optimizer.broadcast_join_threshold_bytes", 0)
}

/// Executors with a running task, or with the output of a stage whose readers have not ended.
fn involved(stages: &std::collections::HashMap<usize, ExecutionStage>) -> BTreeSet<String> {
    let ended = |id: &usize| matches!(stages.get(id), Some(ExecutionStage::Successful(_)));
    let mut involved = BTreeSet::new();
    for stage in stages.values() {
        let links = stage.output_links();
        let still_read = links.is_empty() || !links.iter().all(ended);
        for task in stage.task_infos().unwrap_or_default() {
            match &task.task_status {
                task_status::Status::Running(running) => {
                    involved.insert(running.executor_id.clone());
                }
                task_status::Status::Successful(done) if still_read => {
                    involved.insert(done.executor_id.clone());
                }
                _ => {}
            }
        }
    }
    involved
}

fn add_stage(stage: &ExecutionStage, sighting: &mut Sighting, progress: &mut ScanProgress) {
    let tasks = stage.task_infos().unwrap_or_default();
    let running = tasks
        .iter()
        .filter(|task| matches!(task.task_status, task_status::Status::Running(_)));
    sighting.tasks_ended += tasks.len() - running.count();
    let done = tasks
        .iter()
        .filter(|task| matches!(task.task_status, task_status::Status::Successful(_)));
    progress.tasks_done += done.count() as u64;
    let (partitions, metrics) = match stage {
        ExecutionStage::Running(stage) => (stage.partitions, stage.stage_metrics.as_deref()),
        ExecutionStage::Successful(stage) => (stage.partitions, Some(&stage.stage_metrics[..])),
        ExecutionStage::Resolved(stage) => (stage.partitions, None),
        ExecutionStage::UnResolved(stage) => {
            (stage.plan.output_partitioning().partition_count(), None)
        }
        ExecutionStage::Failed(stage) => (stage.partitions, None),
    };
    progress.tasks += partitions as u64;
    for metrics in metrics.unwrap_or_default() {
        if let Some(bytes) = metrics.sum_by_name("bytes_scanned") {
            progress.bytes += bytes.as_usize() as u64;
            let left_out = metrics.sum_by_name(LEFT_OUT_ROWS);
            let left_out = left_out.map_or(0, |rows| rows.as_usize());
            progress.rows += (metrics.output_rows().unwrap_or(0) + left_out) as u64;
        }
        if let Some(files) = metrics.sum_by_name("files_processed") {
            progress.files_done += files.as_usize();
        }
    }
}

/// What Ballista says of a failed job is text, which says where it comes from only by its words.
/// Checked from top to bottom.
const SIGNS: [(&str, Sign); 17] = [
    // Ballista's own words for the output of a lost executor.
    ("FetchFailed", Sign::Lost),
    ("Fetch partition", Sign::Lost),
    ("ExecutorLost", Sign::Lost),
    ("executor lost", Sign::Lost),
    ("Executor lost", Sign::Lost),
    // The lake or the executor's own disk.
    ("No space left on device", Sign::Transient),
    ("Generic S3 error", Sign::Transient),
    ("Generic LocalFileSystem error", Sign::Transient),
    // A connection between nodes. Only what nodes send each other is IPC.
    ("IpcError", Sign::Lost),
    ("h2 protocol error", Sign::Lost),
    ("GrpcConnectionError", Sign::Lost),
    ("transport error", Sign::Lost),
    ("no executors", Sign::NoExecutors),
    ("IO error", Sign::Transient),
    ("IoError", Sign::Transient),
    ("Io error", Sign::Transient),
    ("task could not be prepared", Sign::Transient),
];

/// What a word of an error stands for.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// An executor, or the connection to it; its job may be submitted anew at once.
    Lost,
    NoExecutors,
    Transient,
}

/// Tasks that could not read or write may be tried again, a plan that can't be computed may not.
fn failure(text: String) -> Failure {
    let found = SIGNS.iter().find(|(words, _)| text.contains(words));
    let cause = match found.map(|(_, sign)| sign) {
        Some(Sign::Lost) => return Failure::Anew(text),
        Some(Sign::NoExecutors) => ClusterFault::Executors,
        Some(Sign::Transient) => ClusterFault::Transient,
        None if is_out_of_memory(&text) => return Failure::OutOfMemory(text),
        None => ClusterFault::Plan,
    };
    Failure::Final(Error::Cluster {
        reason: text,
        cause,
    })
}

/// Ballista's batches carry the same columns; nullability may differ from the plan's.
fn with_schema(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0);
    batches
        .map(|batch| {
            RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
                .map_err(|e| datafusion::error::DataFusionError::from(e).into())
        })
        .collect()
}

/// Stops the Ballista job when nobody waits for it any more.
struct CancelOnDrop {
    server: super::Server,
    job: Option<JobId>,
}

impl CancelOnDrop {
    fn ended(mut self) {
        self.job = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else {
            return;
        };
        let server = self.server.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = server.cancel_job(job.clone()).await {
                    tracing::warn!("job {job} could not be cancelled: {error}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ballista_says_is_understood() {
        let anew = |text: &str| matches!(failure(text.to_owned()), Failure::Anew(_));
        let cause = |text: &str| match failure(text.to_owned()) {
            Failure::Final(Error::Cluster { cause, .. }) => Some(cause),
            _ => None,
        };
        // A reader's, when the executor that it read from was killed.
        assert!(anew(
            "Job failed due to stage 2 failed: Task failed due to runtime execution error: \
             DataFusionError(Shared(External(ArrowError(IpcError(\"Arrow error: Ipc error: code: \
             'Unknown error', message: \\\"h2 protocol error: error reading a body from \
             connection\\\", source: hyper::Error(Body, Error { kind: Io(Custom { kind: \
             BrokenPipe, error: \\\"stream closed because of a broken pipe\\\" }) })\")))))"
        ));
        assert!(anew("Task failed due to FetchFailed: IO error"));
        for (text, expected) in [
            (
                "ArrowError(IpcError(\"IO error: No space left on device\"))",
                ClusterFault::Transient,
            ),
            (
                "ObjectStore(Generic S3 error: error sending request: h2 protocol error)",
                ClusterFault::Transient,
            ),
            ("there are no executors", ClusterFault::Executors),
            ("Arrow error: Divide by zero error", ClusterFault::Plan),
        ] {
            assert_eq!(cause(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn partitions_follow_bytes_within_bounds() {
        let gib = |n: u64| n << 30;
        assert_eq!(partitions(4, 2, 0), 8);
        assert_eq!(partitions(4, 2, gib(4)), 8);
        assert_eq!(partitions(4, 2, gib(4) + 1), 9);
        assert_eq!(partitions(4, 2, gib(20)), 40);
        assert_eq!(partitions(4, 2, gib(1000)), 64);
        assert_eq!(partitions(1, 16, u64::MAX), 16);
    }
}
