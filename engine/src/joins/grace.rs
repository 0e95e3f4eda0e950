//! A hash join that goes to disk where the rows of its build side don't fit a task's share of the
//! memory.
//!
//! The build side, whose rows go into the hash table, is read first. If it doesn't fit, its rows and
//! then those of the probe side are written in parts by the hash of their keys, and a part at a time
//! is joined; a part that doesn't fit either is cut anew by further bits. (Grace hash join:
//! Kitsuregawa, Tanaka and Moto-oka, "Application of Hash to Data Base Machine and Its Architecture",
//! New Generation Computing 1, 1983.) DataFusion 55 joins each part: its hash join doesn't spill
//! itself, and its sort-merge join fails where sorts beside each other have taken what one of them
//! needs to merge. What a task does is in [`task`](super::task).

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties, SendableRecordBatchStream, StatisticsArgs,
};
use futures::{TryStreamExt, stream};

use super::task::{Share, Task};
use crate::operator::rows_bytes;
use crate::salted::is_salt;
use crate::session::Distributed;
use crate::skew::INPUT_BYTES;

/// A partitioned [`HashJoinExec`] that may go to disk: see the [module](self).
#[derive(Debug)]
pub(crate) struct GraceJoinExec {
    join: Arc<HashJoinExec>,
    /// Rows of the build side, in all tasks, as far as is known.
    build_rows: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GraceJoinExec {
    /// Whether parts of a join can be joined by themselves: it doesn't hold its build side once for all
    /// partitions, ask whether all of it has no null, or end after some rows.
    pub(super) fn takes(join: &HashJoinExec) -> bool {
        let of_all = join.null_aware || join.fetch().is_some();
        *join.partition_mode() == PartitionMode::Partitioned && !of_all
    }

    /// Puts itself in the place of `join`.
    ///
    /// # Errors
    /// If that isn't one that it [takes](Self::takes).
    pub(crate) fn try_new(join: HashJoinExec, build_rows: usize) -> Result<Self> {
        if !Self::takes(&join) {
            return internal_err!("parts of a join must not know of each other");
        }
        // Parts come one after the other: no order is kept.
        let mut equivalences = join.properties().equivalence_properties().clone();
        equivalences.clear_orderings();
        let properties = PlanProperties::new(
            equivalences,
            join.properties().output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            join: Arc::new(join),
            build_rows,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// What joins each part.
    pub(crate) fn join(&self) -> &Arc<HashJoinExec> {
        &self.join
    }

    pub(super) fn build_rows(&self) -> usize {
        self.build_rows
    }
}

/// The same join of other inputs with the same columns.
pub(super) fn join_of(
    join: &HashJoinExec,
    build: Arc<dyn ExecutionPlan>,
    probe: Arc<dyn ExecutionPlan>,
) -> Result<HashJoinExec> {
    join.builder()
        .with_new_children(vec![build, probe])?
        .reset_state()
        .build()
}

impl DisplayAs for GraceJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GraceJoinExec: build rows={}, ", self.build_rows)?;
        self.join.fmt_as(t, f)
    }
}

impl ExecutionPlan for GraceJoinExec {
    fn name(&self) -> &str {
        "GraceJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.join.children()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let on = self.join.on();
        if !on.iter().any(|(build, _)| is_salt(build)) {
            return self.join.input_distribution_requirements();
        }
        // Both sides are always exchanged for it, into as many partitions. Ballista's adaptive planner
        // knows DataFusion's joins by their types, and doesn't see that of another's sides.
        let (build, probe) = on.iter().cloned().unzip();
        InputDistributionRequirements::new(vec![
            Distribution::KeyPartitioned(build),
            Distribution::KeyPartitioned(probe),
        ])
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.join.apply_expressions(f)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 2]>::try_from(children) {
            Ok([build, probe]) => {
                let join = join_of(&self.join, build, probe)?;
                Ok(Arc::new(Self::try_new(join, self.build_rows)?))
            }
            Err(children) => internal_err!("a join has two inputs, not {}", children.len()),
        }
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.join.child_stats_requests(partition)
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.join.statistics_from_inputs(input_stats, args)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let config = context.session_config();
        // Tasks of an executor have pools of their own.
        let tasks = match Distributed::is_set(config) {
            true => 1,
            false => config.target_partitions().max(1),
        };
        let share = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(bytes) => Some(Share { bytes, tasks }),
            _ => None,
        };
        let bytes = MetricBuilder::new(&self.metrics).counter(INPUT_BYTES, partition);
        let counted = |side: &Arc<dyn ExecutionPlan>| -> Result<SendableRecordBatchStream> {
            let stream = side.execute(partition, Arc::clone(&context))?;
            Ok(counted(stream, bytes.clone()))
        };
        let partitions =
            |side: &Arc<dyn ExecutionPlan>| side.output_partitioning().partition_count();
        let of_build = partitions(self.join.left());
        if of_build != partitions(self.join.right()) {
            return internal_err!("a join of {of_build} partitions with others");
        }
        // A task of an executor knows its own partitions only.
        let partitions = match Distributed::is_set(config) {
            true => config.target_partitions().max(of_build),
            false => of_build,
        };
        let task = Task {
            join: Arc::clone(&self.join),
            build: counted(self.join.left())?,
            probe: counted(self.join.right())?,
            build_rows: self.build_rows / partitions.max(1),
            measured: BaselineMetrics::new(&self.metrics, partition),
            metrics: self.metrics.clone(),
            partition,
            context,
        };
        let schema = self.schema();
        let joined = stream::once(task.join(share)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, joined)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn counted(stream: SendableRecordBatchStream, bytes: Count) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let stream = stream.inspect_ok(move |batch| bytes.add(rows_bytes(batch)));
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}
