//! Leaving a cluster in order.
//!
//! Ballista's own way is to tell the scheduler at once that the executor has stopped and then to
//! wait for its tasks; the scheduler has by then given them, and the shuffle files of all jobs
//! here, up for lost. Here the executor first only says that it terminates, which keeps new tasks
//! away, and says that it has stopped when nothing of it is needed any more. The scheduler must
//! leave it the time (`executor_termination_grace_period` of more than a few heartbeats).

use std::sync::atomic::Ordering;
use std::time::Duration;

use ballista_core::serde::protobuf::{
    ExecutorStatus, ExecutorStoppedParams, HeartBeatParams, executor_status::Status,
};
use ballista_executor::executor_server::TERMINATING;
use tokio::time::{sleep, timeout};

use crate::executor::{Member, Process};
use crate::sweep::{self, Job};

/// The scheduler is given this long for each message.
const TELL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked whether something is still needed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The rows of a job that has just ended may be being fetched.
const FETCHED_AFTER: Duration = Duration::from_secs(3);

impl Member {
    /// Waits until nothing here is needed any more, at most for the drain time-out.
    pub(crate) async fn leave(&mut self, process: &Process) {
        TERMINATING.store(true, Ordering::Release);
        self.tell_terminating().await;
        let limit = process.options.drain_timeout;
        tracing::info!(
            tasks = self.executor.active_task_count(),
            limit_s = limit.as_secs(),
            "leaving: no new tasks"
        );
        let done = timeout(limit, async {
            while self.is_needed(process).await {
                sleep(LOOK_EVERY).await;
            }
        });
        if done.await.is_err() {
            tracing::warn!(
                tasks = self.executor.active_task_count(),
                "leaving although an unfinished job needs this executor"
            );
        }
        self.tell_stopped().await;
    }

    async fn is_needed(&mut self, process: &Process) -> bool {
        if self.executor.active_task_count() > 0 {
            return true;
        }
        // A task that has just ended may not have been reported; its job is unfinished then.
        for (folder, age) in sweep::folders(process.shuffle()).await {
            match sweep::job_of(&mut self.scheduler, &folder).await {
                Job::Unfinished => return true,
                Job::Over if age < FETCHED_AFTER => return true,
                // A scheduler that is gone has forgotten its jobs.
                Job::Failed | Job::Over | Job::Unclear => {}
            }
        }
        false
    }

    /// Ballista's heartbeat says so too, but only with its next beat.
    async fn tell_terminating(&mut self) {
        let metadata = self.executor.metadata.clone();
        let told = self.scheduler.heart_beat_from_executor(HeartBeatParams {
            executor_id: metadata.id.clone(),
            metrics: vec![],
            status: Some(ExecutorStatus {
                status: Some(Status::Terminating(String::new())),
            }),
            metadata: Some(metadata),
        });
        if !matches!(timeout(TELL_TIMEOUT, told).await, Ok(Ok(_))) {
            tracing::warn!("the scheduler could not be told that this executor leaves");
        }
    }

    async fn tell_stopped(&mut self) {
        let told = self.scheduler.executor_stopped(ExecutorStoppedParams {
            executor_id: self.executor.metadata.id.clone(),
            reason: "it was told to stop".to_owned(),
        });
        if !matches!(timeout(TELL_TIMEOUT, told).await, Ok(Ok(_))) {
            tracing::warn!("the scheduler could not be told that this executor has stopped");
        }
    }
}
