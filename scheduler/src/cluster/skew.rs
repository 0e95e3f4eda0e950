//! What was skewed in a computation on executors, from the metrics that Ballista keeps of its stages.

use std::collections::HashMap;
use std::time::Duration;

use ballista_core::JobId;
use ballista_scheduler::state::execution_stage::{ExecutionStage, SuccessfulStage};
use rankmill_engine::skew::{SkewReport, decisions, stages_report};

use super::{Cluster, Planner};

/// How often, and how many times, a job that has ended is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: usize = 25;

impl Cluster {
    /// The report of a job that has ended well. Empty if Ballista has forgotten the job.
    pub(super) async fn skew_of(&self, job: &JobId) -> SkewReport {
        for _ in 0..LOOKS {
            let running = self.server.state.task_manager.get_running_job_cache();
            if let Some(info) = running.get(job) {
                return self.report(info.execution_graph.read().await.stages());
            }
            if let Ok(Some(graph)) = self.ended.get_execution_graph(job).await {
                return self.report(graph.stages());
            }
            // For a moment a job that ends is neither among those that run nor among the others.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        SkewReport::default()
    }

    fn report(&self, stages: &HashMap<usize, ExecutionStage>) -> SkewReport {
        let ended = ended(stages);
        let mut report = stages_report(
            ended
                .iter()
                .map(|stage| (&stage.plan, &stage.stage_metrics[..])),
        );
        if self.options.planner == Planner::Adaptive {
            // What was planned isn't known before.
            let planned = ended.iter().flat_map(|stage| decisions(&stage.plan));
            report.add(SkewReport {
                decisions: planned.collect(),
                ..SkewReport::default()
            });
        }
        report
    }
}

/// The stages that are done, from the files on.
fn ended(stages: &HashMap<usize, ExecutionStage>) -> Vec<&SuccessfulStage> {
    let ended = stages.values().filter_map(|stage| match stage {
        ExecutionStage::Successful(stage) => Some(stage),
        _ => None,
    });
    let mut ended: Vec<&SuccessfulStage> = ended.collect();
    // So Ballista numbers them.
    ended.sort_by_key(|stage| stage.stage_id);
    ended
}
