//! The ranking as an operator.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::top_per_group::TopPerGroup;
use super::{RANK_COLUMN, Ranking};

/// Which of the two steps an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankMode {
    /// The best of a partition, with the totals of its rows.
    Local,
    /// The best of all, from the outputs of `Local`; needs them in one partition.
    Final,
}

/// Top-N per group. Holds N rows for each group, nothing else.
#[derive(Debug)]
pub struct RankExec {
    input: Arc<dyn ExecutionPlan>,
    ranking: Arc<Ranking>,
    mode: RankMode,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RankExec {
    /// Fails if the input lacks a column of the ranking.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        ranking: Arc<Ranking>,
        mode: RankMode,
    ) -> Result<Self> {
        let schema = match mode {
            RankMode::Local => with_rank(&input.schema()),
            RankMode::Final => input.schema(),
        };
        ranking.resolve(&schema)?;
        let partitions = match mode {
            RankMode::Local => input.output_partitioning().partition_count(),
            RankMode::Final => 1,
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            ranking,
            mode,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// What is ranked.
    pub fn ranking(&self) -> &Arc<Ranking> {
        &self.ranking
    }

    /// Which step this is.
    pub fn mode(&self) -> RankMode {
        self.mode
    }
}

fn with_rank(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Field> = input
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    fields.push(Field::new(RANK_COLUMN, DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

impl DisplayAs for RankExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RankExec: mode={:?}, {}", self.mode, self.ranking)
    }
}

impl ExecutionPlan for RankExec {
    fn name(&self) -> &str {
        "RankExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.mode {
            RankMode::Local => Distribution::UnspecifiedDistribution,
            RankMode::Final => Distribution::SinglePartition,
        }])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                let exec = Self::try_new(input, Arc::clone(&self.ranking), self.mode)?;
                Ok(Arc::new(exec))
            }
            Err(children) => internal_err!("RankExec has one input, not {}", children.len()),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let reservation =
            MemoryConsumer::new(format!("RankExec[{partition}]")).register(context.memory_pool());
        let batch_rows = context.session_config().batch_size();
        let mut top = TopPerGroup::try_new(
            &self.ranking,
            self.mode,
            Arc::clone(&self.schema),
            reservation,
        )?;
        let ranked = async move {
            let mut input = input;
            while let Some(batch) = input.next().await {
                let _timer = metrics.elapsed_compute().timer();
                top.push(batch?)?;
            }
            // The input's buffers are not needed while the result is built.
            drop(input);
            let _timer = metrics.elapsed_compute().timer();
            let result = top.finish()?;
            metrics.record_output(result.num_rows());
            let slices = slices(result, batch_rows).into_iter().map(Ok);
            Ok::<_, DataFusionError>(stream::iter(slices))
        };
        let batches = stream::once(ranked).try_flatten();
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn slices(batch: RecordBatch, rows: usize) -> Vec<RecordBatch> {
    (0..batch.num_rows())
        .step_by(rows.max(1))
        .map(|at| batch.slice(at, rows.min(batch.num_rows() - at)))
        .collect()
}
