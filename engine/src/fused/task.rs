//! What one task of the fused aggregation does: reads, spills where memory is short, and sends on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder,
};
use futures::StreamExt;
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinSet, spawn_blocking};

use super::aggregator::{Aggregator, Days, Gathered, StateColumns};
use super::definition::Definition;
use super::dimension::forget_unused;
use super::exec::Step;
use super::log::LogReader;
use super::selection::Selection;
use super::spill::{GroupFiles, exchange_hashes};
use crate::operator::rows_bytes;
use crate::rank::slices;
use crate::skew::{INPUT_BYTES, INPUT_ROWS, note, tell};

/// A task that holds less than this has nothing that it is worth to let go of.
const LEAST_SPILL: usize = if cfg!(test) { 1 << 10 } else { 1 << 16 };
/// Of a set's bytes so many are needed in all while its values are sorted to be sent.
const SENDING: usize = 10;

/// What a task notes when a part of what it had on disk didn't fit either.
pub(super) const CUT_ANEW: &str =
    "groups on disk were cut into smaller parts: memory was very short";

/// Columns, and how many rows they have.
type Rows = (Vec<ArrayRef>, usize);

/// Where a task sends its rows.
pub(super) struct Output {
    sender: Sender<Result<RecordBatch>>,
    schema: SchemaRef,
    batch_size: usize,
}

impl Output {
    pub(super) fn new(
        sender: Sender<Result<RecordBatch>>,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Self {
        Self {
            sender,
            schema,
            batch_size: context.session_config().batch_size(),
        }
    }

    /// Sends rows, in batches of the session's size.
    async fn send(&self, (columns, rows): Rows, metrics: &BaselineMetrics) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let whole = RecordBatch::try_new_with_options(schema, columns, &options)?;
        metrics.record_output(rows);
        for batch in slices(whole, self.batch_size) {
            if self.sender.send(Ok(batch)).await.is_err() {
                // Nobody wants more.
                break;
            }
        }
        Ok(())
    }
}

/// One partition's work.
pub(super) struct Task {
    /// What makes the log of the input, where that isn't the log itself.
    selection: Option<Arc<Selection>>,
    definition: Arc<Definition>,
    step: Step,
    metrics: BaselineMetrics,
    /// How many times groups went to disk.
    spills: Count,
    /// Rows taken in; bytes where they come from other tasks.
    rows: Count,
    bytes: Count,
    /// Where the task tells what was skewed, and its partition.
    told: (ExecutionPlanMetricsSet, usize),
    /// Whether it has told that memory was short, and how short.
    noted_short: Once,
    noted_cut: Once,
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    /// Where groups go, day by day, instead of being sent.
    days: Option<Arc<Mutex<Days>>>,
}

/// What a task has read.
struct Read {
    reader: LogReader,
    aggregator: Aggregator,
    /// The date that the aggregator's groups end with, where they do.
    date: Option<i32>,
    spilled: Option<GroupFiles>,
}

impl Task {
    pub(super) fn new(
        definition: Arc<Definition>,
        step: Step,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
        context: &Arc<TaskContext>,
    ) -> Self {
        let consumer = MemoryConsumer::new(format!("FusedExec[{partition}]"));
        // Gathering is for memory without a limit.
        let consumer = consumer.with_can_spill(step != Step::Gather);
        Self {
            selection: None,
            definition,
            step,
            metrics: BaselineMetrics::new(metrics, partition),
            spills: MetricBuilder::new(metrics).spill_count(partition),
            rows: MetricBuilder::new(metrics).counter(INPUT_ROWS, partition),
            bytes: MetricBuilder::new(metrics).counter(INPUT_BYTES, partition),
            told: (metrics.clone(), partition),
            noted_short: Once::new(),
            noted_cut: Once::new(),
            reservation: consumer.register(context.memory_pool()),
            context: Arc::clone(context),
            days: None,
        }
    }

    /// The same over an input that isn't the log yet, if there is a selection.
    pub(super) fn with_selection(self, selection: Option<Arc<Selection>>) -> Self {
        Self { selection, ..self }
    }

    pub(super) async fn run(self, input: SendableRecordBatchStream, output: &Output) -> Result<()> {
        let ends_with = match self.step {
            Step::Count | Step::Final => return self.merge(input, output).await,
            Step::Single { date } => date,
            Step::Partial { .. } | Step::Gather => None,
        };
        let read = self.read(input, ends_with, output).await?;
        self.end(read, output).await.map(drop)
    }

    /// Reads the log, and tells what was skewed in it. Sends what must not wait for the end.
    async fn read(
        &self,
        mut input: SendableRecordBatchStream,
        ends_with: Option<usize>,
        output: &Output,
    ) -> Result<Read> {
        let definition = Arc::clone(&self.definition);
        let mut read = Read {
            reader: LogReader::new(definition, ends_with, &self.context).await?,
            aggregator: Aggregator::new(self.definition.measures()),
            date: None,
            spilled: None,
        };
        let mut begun = HashSet::new();
        while let Some(batch) = input.next().await {
            let batch = batch?;
            self.rows.add(batch.num_rows());
            let (batch, runs) = {
                let _timer = self.metrics.elapsed_compute().timer();
                let selected = match &self.selection {
                    Some(selection) => selection.select(&batch)?,
                    None => Some(batch),
                };
                match selected {
                    Some(batch) => read.reader.runs(&batch)?,
                    None => continue,
                }
            };
            for run in runs {
                if ends_with.is_some() && (begun.is_empty() || read.date != run.date) {
                    if !begun.is_empty() {
                        read = self.end(read, output).await?;
                    }
                    if !begun.insert(run.date) && self.days.is_none() {
                        return internal_err!("the rows of a date don't follow on each other");
                    }
                    read.date = run.date;
                }
                let _timer = self.metrics.elapsed_compute().timer();
                read.reader.add(&batch, &run, &mut read.aggregator)?;
            }
            if let Err(full) = self.reserve(&read.aggregator) {
                read = self.make_room(read, full, output).await?;
            }
        }
        drop(input);
        let _timer = self.metrics.elapsed_compute().timer();
        let (metrics, partition) = &self.told;
        if let Some(form) = read.aggregator.groups_form() {
            note(metrics, *partition, form);
        }
        for found in read.reader.hot_columns()? {
            tell(metrics, *partition, &found);
        }
        Ok(read)
    }

    /// Asks for the memory that an aggregator holds, and takes to send on.
    fn reserve(&self, aggregator: &Aggregator) -> Result<()> {
        let bytes = match self.step {
            Step::Partial { buckets } if buckets > 0 => aggregator.size() * SENDING,
            _ => aggregator.size(),
        };
        self.reservation.try_resize(bytes)
    }

    /// Sends groups on, where they are brought together later, or moves them to disk.
    async fn make_room(
        &self,
        mut read: Read,
        full: DataFusionError,
        output: &Output,
    ) -> Result<Read> {
        // What is kept for later gives way to what is needed now.
        if forget_unused(0) && self.reserve(&read.aggregator).is_ok() {
            return Ok(read);
        }
        if read.aggregator.size() < LEAST_SPILL || self.step == Step::Gather {
            return Err(full);
        }
        if let Step::Partial { .. } = self.step {
            self.note_once(
                &self.noted_short,
                "groups were sent on early: memory was short",
            );
            let next = read.aggregator.next();
            read = self.end(read, output).await?;
            read.aggregator = next;
        } else {
            let _timer = self.metrics.elapsed_compute().timer();
            self.spill(&mut read)?;
        }
        self.reserve(&read.aggregator)?;
        Ok(read)
    }

    /// Notes that memory was short, in whichever way a task's step meets that.
    fn note_once(&self, noted: &Once, sentence: &'static str) {
        let (metrics, partition) = &self.told;
        noted.call_once(|| note(metrics, *partition, sentence));
    }

    /// Moves all groups to disk.
    fn spill(&self, read: &mut Read) -> Result<()> {
        let files = self.files(&mut read.spilled)?;
        let (reader, date) = (&mut read.reader, read.date);
        let keys = |keys: &[ArrayRef], rows| reader.keys(keys, rows, date);
        read.aggregator.spill(files, keys)
    }

    /// The files that groups go to, made where there are none yet.
    fn files<'a>(&self, files: &'a mut Option<GroupFiles>) -> Result<&'a mut GroupFiles> {
        self.spills.add(1);
        let new = match files.take() {
            Some(files) => files,
            None => {
                self.note_once(&self.noted_short, "groups went to disk: memory was short");
                GroupFiles::new(&self.definition, &self.context)?
            }
        };
        Ok(files.insert(new))
    }

    /// Sends the groups so far, as what this step gives. Then there are none.
    async fn end(&self, mut read: Read, output: &Output) -> Result<Read> {
        if let Some(days) = &self.days
            && !read.aggregator.is_empty()
        {
            let _timer = self.metrics.elapsed_compute().timer();
            let (reader, date) = (&mut read.reader, read.date);
            let (Some(day), Step::Single { date: Some(at) }) = (date, self.step) else {
                return internal_err!("a row without a date has been selected by its date");
            };
            let keys = |keys: &[ArrayRef], rows| {
                let mut keys = reader.keys(keys, rows, date)?;
                keys.remove(at);
                Ok(keys)
            };
            let mut days = days.lock().unwrap_or_else(PoisonError::into_inner);
            days.add(day, &mut read.aggregator, keys)?;
            drop(days);
            return Ok(read);
        }
        if read.spilled.is_some() {
            {
                let _timer = self.metrics.elapsed_compute().timer();
                self.spill(&mut read)?;
            }
            if let Some(files) = read.spilled.take() {
                self.unspill(files, output).await?;
            }
            return Ok(read);
        }
        if read.aggregator.is_empty() {
            return Ok(read);
        }
        let all = {
            let _timer = self.metrics.elapsed_compute().timer();
            let (reader, date, aggregator) = (&mut read.reader, read.date, &mut read.aggregator);
            match self.step {
                Step::Partial { buckets: 0 } => {
                    let done = aggregator.counted_states()?;
                    let mut columns = reader.keys(&done.keys, done.groups, date)?;
                    columns.extend(done.measures.into_iter().flatten());
                    vec![(columns, done.groups)]
                }
                Step::Partial { buckets } => {
                    let done = aggregator.states(buckets)?;
                    let keys = reader.keys(&done.keys, done.groups, date)?;
                    bucket_rows(&keys, &done.measures, done.groups, buckets)?
                }
                _ => {
                    let done = aggregator.finish()?;
                    let mut columns = reader.keys(&done.keys, done.groups, date)?;
                    columns.extend(done.measures);
                    vec![(columns, done.groups)]
                }
            }
        };
        for rows in all {
            output.send(rows, &self.metrics).await?;
        }
        Ok(read)
    }

    /// Merges states.
    async fn merge(&self, mut input: SendableRecordBatchStream, output: &Output) -> Result<()> {
        let definition = &self.definition;
        let counted = self.step == Step::Final;
        let new = || Aggregator::hashed(definition.key_sources(), definition.measures());
        let mut aggregator = new()?;
        let mut spilled: Option<GroupFiles> = None;
        while let Some(batch) = input.next().await {
            let _timer = self.metrics.elapsed_compute().timer();
            let batch = batch?;
            self.rows.add(batch.num_rows());
            self.bytes.add(rows_bytes(&batch));
            // The bucket comes first.
            let columns = &batch.columns()[usize::from(!counted)..];
            let (keys, states) = definition.states(columns, counted)?;
            aggregator.merge(&keys, &states, batch.num_rows())?;
            if let Err(full) = self.reserve(&aggregator) {
                if aggregator.size() < LEAST_SPILL {
                    return Err(full);
                }
                aggregator.spill(self.files(&mut spilled)?, |keys, _| Ok(keys.to_vec()))?;
                aggregator = new()?;
                self.reserve(&aggregator)?;
            }
        }
        drop(input);
        match spilled {
            Some(mut files) => {
                {
                    let _timer = self.metrics.elapsed_compute().timer();
                    aggregator.spill(&mut files, |keys, _| Ok(keys.to_vec()))?;
                }
                drop(aggregator);
                self.unspill(files, output).await
            }
            None => self.send_merged(aggregator, output).await,
        }
    }

    /// Brings together what went to disk, a part at a time.
    async fn unspill(&self, files: GroupFiles, output: &Output) -> Result<()> {
        let mut parts = {
            let _timer = self.metrics.elapsed_compute().timer();
            files.into_parts()?
        };
        loop {
            let next = {
                let _timer = self.metrics.elapsed_compute().timer();
                parts.next(&self.reservation)?
            };
            match next {
                Some(merged) => self.send_merged(merged, output).await?,
                None => break,
            }
        }
        if parts.were_cut_anew() {
            self.note_once(&self.noted_cut, CUT_ANEW);
        }
        Ok(())
    }

    /// Sends groups whose keys are those of results.
    async fn send_merged(&self, mut merged: Aggregator, output: &Output) -> Result<()> {
        if merged.is_empty() {
            return Ok(());
        }
        let rows = {
            let _timer = self.metrics.elapsed_compute().timer();
            if self.step == Step::Count {
                let mut done = merged.counted_states()?;
                done.keys.extend(done.measures.into_iter().flatten());
                (done.keys, done.groups)
            } else {
                let mut done = merged.finish()?;
                done.keys.extend(done.measures);
                (done.keys, done.groups)
            }
        };
        drop(merged);
        output.send(rows, &self.metrics).await
    }
}

/// Reads all partitions at once, and keeps what was found on each day.
pub(super) async fn keep_days(
    tasks: Vec<(Task, SendableRecordBatchStream)>,
    output: &Arc<Output>,
    days: Days,
) -> Result<Days> {
    let days = Arc::new(Mutex::new(days));
    let mut reading = JoinSet::new();
    for (mut task, input) in tasks {
        task.days = Some(Arc::clone(&days));
        let output = Arc::clone(output);
        reading.spawn(async move { task.run(input, &output).await });
    }
    while let Some(read) = reading.join_next().await {
        read.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??;
    }
    let days = Arc::into_inner(days).map(Mutex::into_inner);
    days.map_or_else(
        || internal_err!("a task that has ended still holds its days"),
        |days| Ok(days.unwrap_or_else(PoisonError::into_inner)),
    )
}

/// Reads all partitions at once, and brings together what was found.
pub(super) async fn gather(
    tasks: Vec<(Task, SendableRecordBatchStream)>,
    output: &Arc<Output>,
) -> Result<()> {
    let threads = tasks.len();
    let mut reading = JoinSet::new();
    for (at, (task, input)) in tasks.into_iter().enumerate() {
        let output = Arc::clone(output);
        reading.spawn(async move {
            let read = task.read(input, None, &output).await?;
            Ok::<_, DataFusionError>((at, task, read))
        });
    }
    let mut all = Vec::with_capacity(threads);
    while let Some(read) = reading.join_next().await {
        all.push(read.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
    }
    // The same groups get the same numbers, whichever task was done first.
    all.sort_by_key(|(at, ..)| *at);
    let metrics: Vec<BaselineMetrics> = all
        .iter()
        .map(|(_, task, _)| task.metrics.clone())
        .collect();
    let Some(first) = metrics.first() else {
        return Ok(());
    };
    let counting = spawn_blocking(move || {
        let begun = Instant::now();
        let definition = Arc::clone(&all[0].1.definition);
        let sources = definition.bounded_sources();
        let mut gathered = Gathered::new(sources, definition.measures());
        // Their memory stays reserved until all is counted.
        let mut reservations = Vec::with_capacity(threads);
        for (_, task, mut read) in all {
            let reader = &mut read.reader;
            gathered.add(read.aggregator, |keys, rows| reader.keys(keys, rows, None))?;
            reservations.push(task.reservation);
        }
        let done = gathered.finish(threads)?;
        let mut columns = done.keys;
        columns.extend(done.measures);
        Ok::<_, DataFusionError>((columns, done.groups, begun.elapsed()))
    });
    let (columns, groups, counted) = counting
        .await
        .map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??;
    // Wall time of as many threads as there are tasks: no task's own.
    for metrics in &metrics {
        metrics.elapsed_compute().add_duration(counted);
    }
    let rows = (columns, groups);
    output.send(rows, first).await
}

/// For each bucket the groups that have values in it; each group's other states go with the
/// bucket that comes round.
fn bucket_rows(
    keys: &[ArrayRef],
    states: &[StateColumns],
    groups: usize,
    buckets: u32,
) -> Result<Vec<Rows>> {
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
        batches.push((columns, rows.len()));
    }
    Ok(batches)
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
