//! The cut as an operator.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::row::SortField;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    SendableRecordBatchStream, StatisticsArgs,
};
use futures::{StreamExt, stream};

use crate::operator::{only_input, ran_out_of_memory};
use crate::rank::best_rows::BestRows;
use crate::rank::exec::slices;

/// Rows after which a task judges whether the cut leaves enough out.
const PROBED_ROWS: usize = 1 << 17;

/// The share of rows, in percent, from which on a cut isn't worth its while.
const MOST_KEPT_PERCENT: usize = 80;

/// The first N rows of each group of a partition, in any order. Rows pass where nearly all are kept,
/// and what is held is sent on where the memory is short: so there may be more.
#[derive(Debug)]
pub struct GroupLimitExec {
    input: Arc<dyn ExecutionPlan>,
    groups: Vec<Arc<dyn PhysicalExpr>>,
    order: Vec<PhysicalSortExpr>,
    limit: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GroupLimitExec {
    /// Groups and order are over the input's columns.
    ///
    /// # Errors
    /// If there is nothing to order by.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        groups: Vec<Arc<dyn PhysicalExpr>>,
        order: Vec<PhysicalSortExpr>,
        limit: usize,
    ) -> Result<Self> {
        if order.is_empty() {
            return internal_err!("a limit of groups has no order");
        }
        // Rows stay in their partitions, but not in their order.
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.clear_orderings();
        let properties = PlanProperties::new(
            equivalences,
            input.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            groups,
            order,
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn groups(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.groups
    }

    pub(crate) fn order(&self) -> &[PhysicalSortExpr] {
        &self.order
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn best_rows(&self, schema: &Schema, reservation: MemoryReservation) -> Result<BestRows> {
        let groups = self.groups.iter().map(|group| group.data_type(schema));
        let groups = groups.map(|data_type| data_type.map(SortField::new));
        let keys = self.order.iter().map(|sort| {
            let data_type = sort.expr.data_type(schema)?;
            Ok(SortField::new_with_options(data_type, sort.options))
        });
        let (groups, keys) = (groups.collect::<Result<_>>()?, keys.collect::<Result<_>>()?);
        BestRows::try_new(self.limit, groups, keys, reservation)
    }
}

impl DisplayAs for GroupLimitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let order: Vec<String> = self.order.iter().map(ToString::to_string).collect();
        let (groups, order) = (groups.join(", "), order.join(", "));
        write!(
            f,
            "GroupLimitExec: {} per [{groups}] by [{order}]",
            self.limit
        )
    }
}

impl ExecutionPlan for GroupLimitExec {
    fn name(&self) -> &str {
        "GroupLimitExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let order = self.order.iter().map(|sort| &sort.expr);
        for expr in self.groups.iter().chain(order) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_input(self.name(), children)?;
        let (groups, order) = (self.groups.clone(), self.order.clone());
        Ok(Arc::new(Self::try_new(input, groups, order, self.limit)?))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(input_stats[0].as_ref().clone().to_inexact()))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let reservation = MemoryConsumer::new(format!("GroupLimitExec[{partition}]"))
            .register(context.memory_pool());
        let cut = Cut {
            input: Some(self.input.execute(partition, Arc::clone(&context))?),
            groups: self.groups.clone(),
            keys: self.order.iter().map(|s| Arc::clone(&s.expr)).collect(),
            best: Some(self.best_rows(&schema, reservation)?),
            seen_rows: 0,
            judged: false,
            ready: VecDeque::new(),
            batch_rows: context.session_config().batch_size(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(cut, |mut cut| async move {
            Ok(cut.next().await?.map(|batch| (batch, cut)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A task: what it reads, what it holds, and what it sends on.
struct Cut {
    input: Option<SendableRecordBatchStream>,
    groups: Vec<Arc<dyn PhysicalExpr>>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// None where rows pass.
    best: Option<BestRows>,
    seen_rows: usize,
    judged: bool,
    ready: VecDeque<RecordBatch>,
    batch_rows: usize,
    metrics: BaselineMetrics,
}

impl Cut {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.metrics.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(input) = &mut self.input else {
                return Ok(None);
            };
            let batch = input.next().await.transpose()?;
            let elapsed = self.metrics.elapsed_compute().clone();
            let _timer = elapsed.timer();
            match batch {
                Some(batch) => self.take(batch)?,
                None => {
                    self.input = None;
                    self.send_on()?;
                }
            }
        }
    }

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let Some(best) = &mut self.best else {
            self.ready.push_back(batch);
            return Ok(());
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = |exprs: &[Arc<dyn PhysicalExpr>]| -> Result<Vec<ArrayRef>> {
            let columns = exprs.iter().map(|expr| expr.evaluate(&batch));
            let columns = columns.map(|column| column?.into_array(batch.num_rows()));
            columns.collect()
        };
        let (groups, keys) = (columns(&self.groups)?, columns(&self.keys)?);
        self.seen_rows += batch.num_rows();
        match best.push(&batch, &groups, &keys, |_| true) {
            Ok(()) => {}
            Err(error) if ran_out_of_memory(&error) => return self.send_on(),
            Err(error) => return Err(error),
        }
        if !self.judged && self.seen_rows >= PROBED_ROWS {
            self.judged = true;
            if best.live_rows() * 100 >= self.seen_rows * MOST_KEPT_PERCENT {
                self.send_on()?;
                self.best = None;
            }
        }
        Ok(())
    }

    /// What is held; what comes begins anew.
    fn send_on(&mut self) -> Result<()> {
        if let Some(best) = &mut self.best
            && let Some(rows) = best.unordered()?
        {
            self.ready.extend(slices(rows, self.batch_rows));
        }
        Ok(())
    }
}
