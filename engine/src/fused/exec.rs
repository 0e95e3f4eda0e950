//! The fused aggregation as an operator.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::{JoinSet, spawn_blocking};

use super::aggregator::{Aggregator, Gathered, Measure, StateColumns, state_type};
use super::definition::{BUCKET, Definition, Key};
use super::groups::KeySource;
use super::log::{LogReader, column_name};
use super::spill::{PairFiles, exchange_hashes};
use crate::rank::slices;
use crate::skew::{INPUT_ROWS, note, tell};

/// A task that holds less than this has nothing that it is worth to write.
const LEAST_SPILL: usize = 1 << 16;

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

/// A grouped aggregation with its lookups: see [`super`].
#[derive(Debug)]
pub struct FusedExec {
    input: Arc<dyn ExecutionPlan>,
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
            definition,
            step,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(super) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    fn task(&self, partition: usize, context: &Arc<TaskContext>) -> Task {
        Task {
            definition: Arc::clone(&self.definition),
            step: self.step,
            schema: Arc::clone(&self.schema),
            metrics: BaselineMetrics::new(&self.metrics, partition),
            spills: MetricBuilder::new(&self.metrics).spill_count(partition),
            rows: MetricBuilder::new(&self.metrics).counter(INPUT_ROWS, partition),
            told: (self.metrics.clone(), partition),
            context: Arc::clone(context),
        }
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
            format!(
                "{} is looked up in a table of {} rows, built once in each process: rows aren't \
                 shuffled by it",
                column_name(&lookup.fact_key),
                lookup.rows
            )
        });
        lookups.chain([step.to_owned()]).collect()
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
        )
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
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                let exec = Self::try_new(input, Arc::clone(&self.definition), self.step)?;
                Ok(Arc::new(exec))
            }
            Err(children) => internal_err!("FusedExec has one input, not {}", children.len()),
        }
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
        let mut tasks = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let input = self.input.execute(partition, Arc::clone(&context))?;
            tasks.push((self.task(partition, &context), input));
        }
        let gathers = self.step == Step::Gather;
        let batches = async move {
            match tasks.pop() {
                Some((task, input)) if !gathers => task.run(input).await,
                Some(last) => {
                    tasks.push(last);
                    gather(tasks).await
                }
                None => Ok(Vec::new()),
            }
        };
        let batches = stream::once(batches)
            .map_ok(|batches| stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)))
            .try_flatten();
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Of groups that didn't fit the memory.
struct Spilled {
    /// The groups without their distinct values.
    merged: Aggregator,
    /// For each distinct measure its values.
    files: Vec<Option<PairFiles>>,
}

/// What a task has read.
struct Read {
    reader: LogReader,
    aggregator: Aggregator,
    /// The date that the aggregator's groups end with, where they do.
    date: Option<i32>,
    spilled: Option<Spilled>,
    /// Of dates that have ended.
    results: Vec<RecordBatch>,
}

/// Reads all partitions at once, and brings together what was found.
async fn gather(tasks: Vec<(Task, SendableRecordBatchStream)>) -> Result<Vec<RecordBatch>> {
    let threads = tasks.len();
    let mut reading = JoinSet::new();
    for (at, (task, input)) in tasks.into_iter().enumerate() {
        reading.spawn(async move {
            // Held until all is gathered.
            let reservation = task.reservation();
            let read = task.read(input, None, &reservation).await?;
            Ok::<_, DataFusionError>((at, task, read, reservation))
        });
    }
    let mut all = Vec::with_capacity(threads);
    while let Some(read) = reading.join_next().await {
        all.push(read.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
    }
    // The same groups get the same numbers, whichever task was done first.
    all.sort_by_key(|(at, ..)| *at);
    let counting = spawn_blocking(move || {
        let Some((_, task, _, _)) = all.first() else {
            return Ok(Vec::new());
        };
        let (definition, schema) = (Arc::clone(&task.definition), Arc::clone(&task.schema));
        let (metrics, context) = (task.metrics.clone(), Arc::clone(&task.context));
        let _timer = metrics.elapsed_compute().timer();
        let keys = definition.key_sources().into_iter().zip(&definition.bounds);
        let sources = keys.map(|(source, bounds)| KeySource {
            bounds: *bounds,
            ..source
        });
        let mut gathered = Gathered::new(sources.collect(), definition.measures());
        let mut reservations = Vec::with_capacity(threads);
        for (_, _, mut read, reservation) in all {
            let reader = &mut read.reader;
            gathered.add(read.aggregator, |keys, rows| reader.keys(keys, rows, None))?;
            reservations.push(reservation);
        }
        let done = gathered.finish(threads)?;
        let mut columns = done.keys;
        columns.extend(done.measures);
        metrics.record_output(done.groups);
        if done.groups == 0 {
            return Ok(Vec::new());
        }
        batches(&schema, columns, done.groups, &context)
    });
    counting
        .await
        .map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
}

/// Rows in batches of the session's size.
fn batches(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
    context: &TaskContext,
) -> Result<Vec<RecordBatch>> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let whole = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
    Ok(slices(whole, context.session_config().batch_size()))
}

/// One partition's work.
struct Task {
    definition: Arc<Definition>,
    step: Step,
    schema: SchemaRef,
    metrics: BaselineMetrics,
    /// How many times distinct values went to disk.
    spills: Count,
    /// Rows taken in.
    rows: Count,
    /// Where the task tells what was skewed, and its partition.
    told: (ExecutionPlanMetricsSet, usize),
    context: Arc<TaskContext>,
}

impl Task {
    async fn run(self, input: SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
        let reservation = self.reservation();
        let batches = match self.step {
            Step::Single { date } => self.finish(self.read(input, date, &reservation).await?)?,
            Step::Partial { .. } | Step::Gather => {
                self.finish(self.read(input, None, &reservation).await?)?
            }
            Step::Count | Step::Final => self.merge(input, &reservation).await?,
        };
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        self.metrics.record_output(rows);
        Ok(batches)
    }

    fn reservation(&self) -> MemoryReservation {
        MemoryConsumer::new(format!("FusedExec[{}]", self.told.1))
            .with_can_spill(self.spills())
            .register(self.context.memory_pool())
    }

    /// Reads the log, and tells what was skewed in it.
    async fn read(
        &self,
        mut input: SendableRecordBatchStream,
        date: Option<usize>,
        reservation: &MemoryReservation,
    ) -> Result<Read> {
        let definition = Arc::clone(&self.definition);
        let mut reader = LogReader::new(definition, date, &self.context).await?;
        let mut aggregator = Aggregator::new(self.definition.measures());
        let mut current = None;
        let mut done = HashSet::new();
        let mut results = Vec::new();
        let mut spilled: Option<Spilled> = None;
        while let Some(batch) = input.next().await {
            let _timer = self.metrics.elapsed_compute().timer();
            let batch = batch?;
            self.rows.add(batch.num_rows());
            reader.add(
                &batch,
                &mut current,
                &mut aggregator,
                |reader, date, aggregator| {
                    if !done.insert(date) {
                        return internal_err!("the rows of a date don't follow on each other");
                    }
                    results.extend(self.end(reader, date, aggregator, spilled.take())?);
                    Ok(())
                },
            )?;
            let held = |spilled: &Option<Spilled>| spilled.as_ref().map_or(0, |s| s.merged.size());
            if let Err(full) = reservation.try_resize(aggregator.size() + held(&spilled)) {
                // Only distinct values can go to disk, and buckets for others are sent from memory.
                let small = aggregator.size() < LEAST_SPILL;
                if !self.definition.has_distinct() || small || !self.spills() {
                    return Err(full);
                }
                let date = current.flatten();
                self.spill(&mut spilled, &mut reader, date, &mut aggregator)?;
                reservation.try_resize(held(&spilled))?;
            }
        }
        drop(input);
        let _timer = self.metrics.elapsed_compute().timer();
        let last = current.flatten();
        if done.contains(&last) && current.is_some() {
            return internal_err!("the rows of a date don't follow on each other");
        }
        let (metrics, partition) = &self.told;
        if spilled.is_some() {
            note(
                metrics,
                *partition,
                "distinct values went to disk: memory was short",
            );
        }
        if let Some(form) = aggregator.groups_form() {
            note(metrics, *partition, form);
        }
        for found in reader.hot_columns()? {
            tell(metrics, *partition, &found);
        }
        Ok(Read {
            reader,
            aggregator,
            date: last,
            spilled,
            results,
        })
    }

    /// The results of all that was read.
    fn finish(&self, read: Read) -> Result<Vec<RecordBatch>> {
        let _timer = self.metrics.elapsed_compute().timer();
        let Read {
            mut reader,
            mut aggregator,
            date,
            spilled,
            mut results,
        } = read;
        results.extend(self.end(&mut reader, date, &mut aggregator, spilled)?);
        Ok(results)
    }

    fn spills(&self) -> bool {
        matches!(self.step, Step::Single { .. })
    }

    /// Moves distinct values to disk, and all else of the groups to where it is merged.
    fn spill(
        &self,
        spilled: &mut Option<Spilled>,
        reader: &mut LogReader,
        date: Option<i32>,
        aggregator: &mut Aggregator,
    ) -> Result<()> {
        let definition = &self.definition;
        if spilled.is_none() {
            self.spills.add(1);
            let files = definition.measures.iter().map(|measure| {
                Ok(match &measure.measure {
                    Measure::Distinct { value_type, .. } => {
                        Some(PairFiles::new(&state_type(value_type), &self.context)?)
                    }
                    _ => None,
                })
            });
            let sources = definition.key_sources();
            *spilled = Some(Spilled {
                files: files.collect::<Result<_>>()?,
                merged: Aggregator::hashed(sources, definition.measures())?,
            });
        }
        if let Some(Spilled { merged, files }) = spilled {
            aggregator.drain(merged, files, |keys, rows| reader.keys(keys, rows, date))?;
        }
        Ok(())
    }

    /// The groups so far, as what this step gives.
    fn end(
        &self,
        reader: &mut LogReader,
        date: Option<i32>,
        aggregator: &mut Aggregator,
        mut spilled: Option<Spilled>,
    ) -> Result<Vec<RecordBatch>> {
        if spilled.is_some() {
            self.spill(&mut spilled, reader, date, aggregator)?;
        }
        if let Some(Spilled { mut merged, files }) = spilled {
            merged.count_files(files)?;
            let mut done = merged.finish()?;
            done.keys.extend(done.measures);
            return self.batches(done.keys, done.groups);
        }
        if aggregator.is_empty() {
            return Ok(Vec::new());
        }
        match self.step {
            Step::Partial { buckets: 0 } => {
                let done = aggregator.counted_states()?;
                let mut columns = reader.keys(&done.keys, done.groups, date)?;
                columns.extend(done.measures.into_iter().flatten());
                self.batches(columns, done.groups)
            }
            Step::Partial { buckets } => {
                let done = aggregator.states(buckets)?;
                let keys = reader.keys(&done.keys, done.groups, date)?;
                self.bucket_batches(&keys, &done.measures, done.groups, buckets)
            }
            _ => {
                let done = aggregator.finish()?;
                let mut columns = reader.keys(&done.keys, done.groups, date)?;
                columns.extend(done.measures);
                self.batches(columns, done.groups)
            }
        }
    }

    /// Merges states.
    async fn merge(
        &self,
        mut input: SendableRecordBatchStream,
        reservation: &MemoryReservation,
    ) -> Result<Vec<RecordBatch>> {
        let definition = &self.definition;
        let sources = definition.key_sources();
        let mut aggregator = Aggregator::hashed(sources, definition.measures())?;
        let counted = self.step == Step::Final;
        let measures = definition.measures.iter().enumerate();
        let widths = measures.map(|(at, m)| Ok(m.measure.state_fields(at, counted)?.len()));
        let widths: Vec<usize> = widths.collect::<Result<_>>()?;
        while let Some(batch) = input.next().await {
            let _timer = self.metrics.elapsed_compute().timer();
            let batch = batch?;
            let mut columns = batch.columns().iter();
            if !counted {
                // The bucket.
                columns.next();
            }
            let keys: Vec<ArrayRef> = columns
                .by_ref()
                .take(definition.keys.len())
                .cloned()
                .collect();
            let mut states: Vec<Vec<ArrayRef>> = Vec::with_capacity(widths.len());
            for width in &widths {
                states.push(columns.by_ref().take(*width).cloned().collect());
            }
            aggregator.merge(&keys, &states, batch.num_rows())?;
            reservation.try_resize(aggregator.size())?;
        }
        drop(input);
        let _timer = self.metrics.elapsed_compute().timer();
        if aggregator.is_empty() {
            return Ok(Vec::new());
        }
        if self.step == Step::Final {
            let mut done = aggregator.finish()?;
            done.keys.extend(done.measures);
            self.batches(done.keys, done.groups)
        } else {
            let mut done = aggregator.counted_states()?;
            done.keys.extend(done.measures.into_iter().flatten());
            self.batches(done.keys, done.groups)
        }
    }

    /// Cuts columns into batches.
    fn batches(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<Vec<RecordBatch>> {
        batches(&self.schema, columns, rows, &self.context)
    }

    /// For each bucket the groups that have values in it; each group's other states go with the
    /// bucket that comes round.
    fn bucket_batches(
        &self,
        keys: &[ArrayRef],
        states: &[StateColumns],
        groups: usize,
        buckets: u32,
    ) -> Result<Vec<RecordBatch>> {
        let groups = groups as u32;
        let numbers = bucket_numbers(buckets)?;
        let mut batches = Vec::new();
        for bucket in 0..buckets {
            let is_plain = |group: u32| group % buckets == bucket;
            let rows: Vec<u32> = (0..groups)
                .filter(|group| {
                    is_plain(*group)
                        || states.iter().any(|state| match state {
                            StateColumns::Lists(lists) => {
                                lists[bucket as usize].value_length(*group as usize) > 0
                            }
                            StateColumns::Plain { .. } => false,
                        })
                })
                .collect();
            let number = numbers[bucket as usize];
            let number = UInt32Array::from_value(number, rows.len());
            let mut columns: Vec<ArrayRef> = vec![Arc::new(number)];
            // A group's state, or that of none, which lies behind those of all groups.
            let states_at = rows.iter().map(|group| match is_plain(*group) {
                true => *group,
                false => groups,
            });
            let states_at = UInt32Array::from_iter_values(states_at);
            let rows = UInt32Array::from(rows);
            for key in keys {
                columns.push(take(key, &rows, None)?);
            }
            for state in states {
                match state {
                    StateColumns::Plain { groups, none } => {
                        for (state, none) in groups.iter().zip(none) {
                            let with_none = concat(&[state, none])?;
                            columns.push(take(&with_none, &states_at, None)?);
                        }
                    }
                    StateColumns::Lists(lists) => {
                        columns.push(take(&lists[bucket as usize], &rows, None)?);
                    }
                }
            }
            batches.extend(self.batches(columns, rows.len())?);
        }
        Ok(batches)
    }
}

/// For each partition of a repartition a number that goes there, so that buckets are spread evenly
/// over them. Were they not, only the balance would suffer.
fn bucket_numbers(buckets: u32) -> Result<Vec<u32>> {
    let candidates: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..buckets * 64));
    let hashes = exchange_hashes(&candidates)?;
    let mut numbers: Vec<Option<u32>> = vec![None; buckets as usize];
    for (number, hash) in hashes.iter().enumerate() {
        let partition = (hash % u64::from(buckets)) as usize;
        numbers[partition].get_or_insert(number as u32);
    }
    let numbers = numbers.into_iter().enumerate();
    Ok(numbers
        .map(|(partition, number)| number.unwrap_or(buckets * 64 + partition as u32))
        .collect())
}

/// Whether a definition's key is a date that groups may end with.
pub(super) fn is_date_key(definition: &Definition, at: usize) -> bool {
    matches!(definition.keys[at], Key::Log(_))
        && definition.output.field(at).data_type() == &DataType::Date32
}
