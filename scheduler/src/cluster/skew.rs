//! What was skewed in a computation on executors, from the metrics that Ballista keeps of its stages.

use std::collections::HashMap;
use std::time::Duration;

use ballista_core::JobId;
use ballista_scheduler::state::execution_stage::{ExecutionStage, SuccessfulStage};
use rankmill_engine::skew::{SkewReport, stages_report};

use super::Cluster;

/// How often, and how many times, a job that has ended is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: usize = 25;

impl Cluster {
    /// The report of a job that has ended well. Empty if Ballista has forgotten the job.
    pub(super) async fn skew_of(&self, job: &JobId) -> SkewReport {
        for _ in 0..LOOKS {
            let running = self.server.state.task_manager.get_running_job_cache();
            if let Some(info) = running.get(job) {
                return report(info.execution_graph.read().await.stages());
            }
            if let Ok(Some(graph)) = self.ended.get_execution_graph(job).await {
                return report(graph.stages());
            }
            // For a moment a job that ends is neither among those that run nor among the others.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        SkewReport::default()
    }
}

fn report(stages: &HashMap<usize, ExecutionStage>) -> SkewReport {
    let mut ended: Vec<&SuccessfulStage> = stages
        .values()
        .filter_map(|stage| match stage {
            ExecutionStage::Successful(stage) => Some(stage),
            _ => None,
        })
        .collect();
    // Ballista numbers stages from the files on.
    ended.sort_by_key(|stage| stage.stage_id);
    stages_report(
        ended
            .iter()
            .map(|stage| (&stage.plan, &stage.stage_metrics[..])),
    )
}
