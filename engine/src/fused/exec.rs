//! The fused aggregation as an operator.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, SendableRecordBatchStream,
};

use super::aggregator::Days;
use super::definition::{BUCKET, Definition, Key};
use super::log::column_name;
use super::selection::Selection;
use super::task::{Output, Task, gather, keep_days};
use crate::operator::only_input;

/// Which step of the aggregation an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// From the log to results. With a `date`, each partition holds whole dates, one after the
    /// other; without, there is one partition.
    Single {
        /// The key that groups end with.
        date: Option<usize>,
    },
    /// From the log to results, in one process: its partitions are read by a task each, and what
    /// they found is brought together in memory.
    Gather,
    /// From the log to states, whose distinct values are cut into so many buckets; 0 if there are
    /// none.
    Partial {
        /// Buckets of distinct values.
        buckets: u32,
    },
    /// From states of one bucket to states whose distinct values are counted.
    Count,
    /// From states of some groups to results.
    Final,
}

impl Step {
    /// Whether it takes rows of the log, not states.
    fn reads_log(self) -> bool {
        match self {
            Self::Single { .. } | Self::Gather | Self::Partial { .. } => true,
            Self::Count | Self::Final => false,
        }
    }
}

/// A grouped aggregation with its lookups: see [`super`].
#[derive(Debug)]
pub struct FusedExec {
    input: Arc<dyn ExecutionPlan>,
    /// What makes the log of the input, where that isn't the log itself.
    selection: Option<Arc<Selection>>,
    definition: Arc<Definition>,
    step: Step,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl FusedExec {
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        definition: Arc<Definition>,
        step: Step,
    ) -> Result<Self> {
        let schema = match step {
            Step::Single { .. } | Step::Gather | Step::Final => Arc::clone(&definition.output),
            Step::Partial { buckets } => definition.state_schema(buckets == 0)?,
            Step::Count => definition.state_schema(true)?,
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(match step {
                Step::Gather => 1,
                _ => input.output_partitioning().partition_count(),
            }),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            selection: None,
            definition,
            step,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same over an input that isn't the log yet.
    pub(super) fn with_selection(self, selection: Selection) -> Self {
        let selection = Some(Arc::new(selection));
        Self { selection, ..self }
    }

    /// The same with the filter below in it; none if there is none.
    pub(super) fn with_filter_below(&self) -> Result<Option<Self>> {
        if self.selection.is_some() || !self.step.reads_log() {
            return Ok(None);
        }
        let Some((selection, input)) = Selection::of(&self.input) else {
            return Ok(None);
        };
        let exec = Self::try_new(input, Arc::clone(&self.definition), self.step)?;
        Ok(Some(exec.with_selection(selection)))
    }

    pub(super) fn selection(&self) -> Option<&Arc<Selection>> {
        self.selection.as_ref()
    }

    pub(super) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// What the step does, in a word or two.
    pub(crate) fn step_name(&self) -> String {
        let fields = self.definition.output.fields();
        match self.step {
            Step::Single { date: None } => "single".to_owned(),
            Step::Single { date: Some(at) } => {
                format!("single by {}", fields[at].name().trim_start_matches('_'))
            }
            Step::Gather => "gathered".to_owned(),
            Step::Partial { buckets: 0 } => "partial".to_owned(),
            Step::Partial { buckets } => format!("partial in {buckets} buckets"),
            Step::Count => "count".to_owned(),
            Step::Final => "final".to_owned(),
        }
    }

    /// What the plan does about skew, and why.
    pub(crate) fn decisions(&self) -> Vec<String> {
        let step = match self.step {
            Step::Single { date: Some(_) } => {
                "tasks have whole dates: nothing is exchanged, and a hot key is a counter like any other"
            }
            Step::Single { date: None } => {
                "one task aggregates all: there is no more to read, or an exchange might outgrow the \
                 memory that is allowed"
            }
            Step::Gather => {
                "tasks aggregate files or parts of them, and their sets of distinct values are counted as \
                 one, in memory: nothing is exchanged"
            }
            Step::Partial { buckets: 0 } => {
                "tasks aggregate before the exchange: of a hot key each sends one row"
            }
            Step::Partial { .. } => {
                "distinct values go to the tasks by their own hash: those of a hot key are spread \
                 over all"
            }
            Step::Count | Step::Final => return Vec::new(),
        };
        let lookups = self.definition.lookups.iter().map(|lookup| {
            let key = column_name(&lookup.fact_key);
            // Texts don't say how many rows they have.
            let table = match lookup.rows {
                0 => "table".to_owned(),
                rows => format!("table of {rows} rows"),
            };
            format!(
                "{key} is looked up in a {table}, built once in each process: rows aren't shuffled \
                 by it"
            )
        });
        lookups.chain([step.to_owned()]).collect()
    }

    /// Whether [`FusedExec::days`] can keep what is found.
    pub(super) fn can_keep_days(&self) -> bool {
        let from_log = matches!(self.step, Step::Single { .. } | Step::Gather);
        let mut measures = self.definition.measures.iter();
        from_log && measures.all(|measure| Days::takes(&measure.measure))
    }

    /// Reads the log, and keeps the groups of each day. `date` is the key that says which.
    pub(super) async fn days(&self, date: usize, context: &Arc<TaskContext>) -> Result<Days> {
        let mut sources = self.definition.bounded_sources();
        sources.remove(date);
        let days = Days::new(sources, self.definition.measures());
        // Nothing is sent.
        let (sender, _) = tokio::sync::mpsc::channel(1);
        let output = Arc::new(Output::new(sender, Arc::clone(&self.schema), context));
        let mut tasks = Vec::new();
        for partition in 0..self.input.output_partitioning().partition_count() {
            let input = self.input.execute(partition, Arc::clone(context))?;
            let step = Step::Single { date: Some(date) };
            tasks.push((self.task(step, partition, context), input));
        }
        keep_days(tasks, &output, days).await
    }

    fn task(&self, step: Step, partition: usize, context: &Arc<TaskContext>) -> Task {
        let definition = Arc::clone(&self.definition);
        let task = Task::new(definition, step, &self.metrics, partition, context);
        task.with_selection(self.selection.clone())
    }

    /// The keys as columns of the input's states.
    fn key_columns(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let keys = self.definition.key_fields().enumerate();
        keys.map(|(at, field)| Arc::new(Column::new(field.name(), at)) as _)
            .collect()
    }
}

impl DisplayAs for FusedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let fields = self.definition.output.fields();
        let (keys, measures) = fields.split_at(self.definition.keys.len());
        let names = |fields: &[Arc<datafusion::arrow::datatypes::Field>]| {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            names.join(", ")
        };
        let step = self.step_name();
        write!(
            f,
            "FusedExec: {step}, keys=[{}], measures=[{}], lookups={}",
            names(keys),
            names(measures),
            self.definition.lookups.len()
        )?;
        match &self.selection {
            Some(selection) => write!(f, ", filter={}", selection.condition()),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for FusedExec {
    fn name(&self) -> &str {
        "FusedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // The dimensions are no children: each process builds their tables once, whatever the stage.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.step {
            Step::Single { date: None } => Distribution::SinglePartition,
            Step::Single { date: Some(_) } | Step::Gather | Step::Partial { .. } => {
                Distribution::UnspecifiedDistribution
            }
            Step::Count => Distribution::KeyPartitioned(vec![Arc::new(Column::new(BUCKET, 0))]),
            Step::Final => Distribution::KeyPartitioned(self.key_columns()),
        }])
    }

    // Files are packed for these operators already.
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
        let input = only_input(self.name(), children)?;
        let exec = Self::try_new(input, Arc::clone(&self.definition), self.step)?;
        let selection = self.selection.clone();
        Ok(Arc::new(Self { selection, ..exec }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let partitions = match self.step {
            Step::Gather => 0..self.input.output_partitioning().partition_count(),
            _ => partition..partition + 1,
        };
        // Few: what is sent on is held apart from what tasks are allowed.
        let mut output = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let mut tasks = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let input = self.input.execute(partition, Arc::clone(&context))?;
            tasks.push((self.task(self.step, partition, &context), input));
        }
        let send_to = Output::new(output.tx(), Arc::clone(&self.schema), &context);
        let send_to = Arc::new(send_to);
        let gathers = self.step == Step::Gather;
        output.spawn(async move {
            match tasks.pop() {
                Some((task, input)) if !gathers => task.run(input, &send_to).await,
                Some(last) => {
                    tasks.push(last);
                    gather(tasks, &send_to).await
                }
                None => Ok(()),
            }
        });
        Ok(output.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Whether a definition's key is a date that groups may end with.
pub(super) fn is_date_key(definition: &Definition, at: usize) -> bool {
    matches!(definition.keys[at], Key::Log(_))
        && definition.output.field(at).data_type() == &DataType::Date32
}
