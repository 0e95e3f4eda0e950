//! Joins the salted sides: by a hash table where the dimension's rows of a task fit its share of the
//! memory, part by part from disk where they don't.
//!
//! The dimension is read first. If it doesn't fit, its rows and then those of the log are written in
//! parts by the hash of key and salt, and a part at a time is joined; a part that doesn't fit either
//! is cut anew by further bits. (Grace hash join: Kitsuregawa, Tanaka and Moto-oka, "Application of
//! Hash to Data Base Machine and Its Architecture", New Generation Computing 1, 1983.) DataFusion 55
//! joins each part: its hash join doesn't spill itself, and its sort-merge join fails where sorts
//! beside each other have taken what one of them needs to merge.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{
    ColumnStatistics, DataFusionError, JoinType, NullEquality, Result, Statistics, internal_err,
};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryReservation, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::joins::{HashJoinExec, JoinOn, PartitionMode};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties, SendableRecordBatchStream, StatisticsArgs,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::exec::{KEY, SALT};
use super::parts::{Cut, PartWriter, WrittenPart, compact};
use crate::operator::rows_bytes;
use crate::session::Distributed;
use crate::skew::{INPUT_BYTES, INPUT_ROWS, note};

/// A task sets aside one of so many parts of what it has of the memory; the rest is for what comes
/// after the join.
const JOIN_SHARE: usize = 3;
/// The least with which a task joins.
const LEAST_BYTES: usize = 1 << 20;
/// What DataFusion's hash table takes for a row besides the row itself: a slot of 16 bytes, of which
/// at least 7 in 16 are in use, its byte of control, and a link to the next row.
const TABLE_ROW_BYTES: usize = 44;
/// Rows are held twice while they are brought together.
const COPIES: usize = 2;
/// A task writes once it holds one of so many parts of its memory.
const WRITE_SHARE: usize = 4;
/// Rows that a chunk should have at least.
const CHUNK_ROWS: usize = 256;
/// By so many bits of hashes a part is cut anew; at first at least by so many.
const CUT_BITS: u32 = 4;
/// Bits for the parts of a first cut, and for all parts.
const FIRST_BITS: u32 = 10;
const MOST_BITS: u32 = 24;

/// Joins the two sides of a salted join by key and salt: see the [module](self). Output: the
/// dimension's columns, null where nothing matched, then the log's; both with key and salt.
#[derive(Debug)]
pub struct SaltedJoinExec {
    /// Partitioned, over the dimension and the log.
    join: Arc<HashJoinExec>,
    /// Rows of the dimension, in all tasks, as far as is known.
    dimension_rows: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SaltedJoinExec {
    pub(super) fn try_new(
        dimension: Arc<dyn ExecutionPlan>,
        log: Arc<dyn ExecutionPlan>,
        dimension_rows: usize,
    ) -> Result<Self> {
        let join = Arc::new(hash_join(dimension, log)?);
        let properties = PlanProperties::new(
            // Parts come one after the other: no order is kept.
            EquivalenceProperties::new(join.schema()),
            join.properties().output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            join,
            dimension_rows,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(super) fn dimension_rows(&self) -> usize {
        self.dimension_rows
    }
}

/// The places of key and salt, which are the last two columns of a side.
fn key_columns(side: &Schema) -> Result<[usize; 2]> {
    Ok([side.index_of(KEY)?, side.index_of(SALT)?])
}

/// Each row of the log with that of the dimension, or with nulls.
fn hash_join(
    dimension: Arc<dyn ExecutionPlan>,
    log: Arc<dyn ExecutionPlan>,
) -> Result<HashJoinExec> {
    let columns = |side: &Schema| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let columns = key_columns(side)?.into_iter();
        let columns = columns.map(|at| Arc::new(Column::new(side.field(at).name(), at)) as _);
        Ok(columns.collect())
    };
    let of_dimension = columns(&dimension.schema())?.into_iter();
    let on: JoinOn = of_dimension.zip(columns(&log.schema())?).collect();
    HashJoinExec::try_new(
        dimension,
        log,
        on,
        None,
        &JoinType::Right,
        None,
        PartitionMode::Partitioned,
        NullEquality::NullEqualsNothing,
        false,
    )
}

impl DisplayAs for SaltedJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SaltedJoinExec: dimension rows={}", self.dimension_rows)
    }
}

impl ExecutionPlan for SaltedJoinExec {
    fn name(&self) -> &str {
        "SaltedJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.join.children()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let (dimension, log) = self.join.on().iter().cloned().unzip();
        InputDistributionRequirements::co_partitioned(vec![
            Distribution::KeyPartitioned(dimension),
            Distribution::KeyPartitioned(log),
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
            Ok([dimension, log]) => {
                let exec = Self::try_new(dimension, log, self.dimension_rows)?;
                Ok(Arc::new(exec))
            }
            Err(children) => internal_err!("a join has two inputs, not {}", children.len()),
        }
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition), ChildStats::At(partition)]
    }

    /// As many rows as the log has, where keys of the dimension occur once.
    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let log = input_stats[1].as_ref().clone().to_inexact();
        let of_dimension = self.join.left().schema().fields().len();
        let unknown = (0..of_dimension).map(|_| ColumnStatistics::new_unknown());
        Ok(Arc::new(Statistics {
            num_rows: log.num_rows,
            total_byte_size: Precision::Absent,
            column_statistics: unknown.chain(log.column_statistics).collect(),
        }))
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
            MemoryLimit::Finite(bytes) => Some(bytes / (JOIN_SHARE * tasks)),
            _ => None,
        };
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let counted = |side: &Arc<dyn ExecutionPlan>| -> Result<SendableRecordBatchStream> {
            let (rows, bytes) = (counter(INPUT_ROWS), counter(INPUT_BYTES));
            let stream = side.execute(partition, Arc::clone(&context))?;
            Ok(counted(stream, rows, bytes))
        };
        let partitions = self.join.left().output_partitioning().partition_count();
        let task = Task {
            dimension: counted(self.join.left())?,
            log: counted(self.join.right())?,
            dimension_rows: self.dimension_rows / partitions.max(1),
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

fn counted(
    stream: SendableRecordBatchStream,
    rows: Count,
    bytes: Count,
) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let stream = stream.inspect_ok(move |batch| {
        rows.add(batch.num_rows());
        bytes.add(rows_bytes(batch));
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, stream))
}

/// A task of the join.
struct Task {
    dimension: SendableRecordBatchStream,
    log: SendableRecordBatchStream,
    dimension_rows: usize,
    measured: BaselineMetrics,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    context: Arc<TaskContext>,
}

impl Task {
    /// Joins with so many bytes, or with as many as it takes.
    async fn join(mut self, share: Option<usize>) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("SaltedJoinExec[{}]", self.partition));
        let reservation = consumer.register(self.context.memory_pool());
        let memory = match share {
            None => {
                let inner = Joiner::new(&self.context, self.measured.clone())?;
                return inner.join(self.dimension, self.log, reservation);
            }
            Some(share) => set_aside(&reservation, share)?,
        };
        let mut held = Held::default();
        while let Some(batch) = self.dimension.try_next().await? {
            let _timer = self.measured.elapsed_compute().timer();
            held.push(&batch)?;
            if joined_bytes(held.rows, held.bytes) > memory {
                break;
            }
        }
        let joiner = Joiner::new(&self.context, self.measured.clone())?;
        if joined_bytes(held.rows, held.bytes) <= memory {
            let dimension = held_stream(held, &self.dimension.schema());
            return joiner.join(dimension, self.log, reservation);
        }
        self.join_parts(held, joiner, reservation, memory).await
    }

    async fn join_parts(
        mut self,
        held: Held,
        joiner: Joiner,
        reservation: MemoryReservation,
        memory: usize,
    ) -> Result<SendableRecordBatchStream> {
        let cut = Cut {
            taken: 0,
            bits: first_bits(&held, self.dimension_rows, memory),
        };
        let dimension = self.writer(&self.dimension, cut, memory)?;
        let dimension = self.write(held.batches, dimension, true).await?;
        let log = self.writer(&self.log, cut, memory)?;
        let log = self.write(Vec::new(), log, false).await?;
        note(
            &self.metrics,
            self.partition,
            &format!(
                "the dimension's rows of a task exceeded its memory: both sides were written to disk \
                 in {} parts, and joined part by part",
                dimension.len()
            ),
        );
        let parts = dimension.into_iter().zip(log);
        let parts = parts.map(|(dimension, log)| Parts {
            dimension,
            log,
            cut,
        });
        let schema = joiner.schema(&self.dimension.schema(), &self.log.schema())?;
        let todo = Todo {
            parts: parts.rev().collect(),
            memory,
            reservation,
            context: self.context,
            joiner,
        };
        let joined = stream::try_unfold(todo, |mut todo| async move {
            let joined = todo.next()?;
            Ok::<_, DataFusionError>(joined.map(|joined| (joined, todo)))
        });
        let joined = joined.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, joined)))
    }

    fn writer(
        &self,
        side: &SendableRecordBatchStream,
        cut: Cut,
        memory: usize,
    ) -> Result<PartWriter> {
        writer(&self.context, &side.schema(), cut, memory)
    }

    /// Writes what was held of a side, and what is to come of it.
    async fn write(
        &mut self,
        held: Vec<RecordBatch>,
        mut writer: PartWriter,
        is_dimension: bool,
    ) -> Result<Vec<WrittenPart>> {
        let compute = self.measured.elapsed_compute().clone();
        for batch in held {
            let _timer = compute.timer();
            writer.write(&batch)?;
        }
        let side = match is_dimension {
            true => &mut self.dimension,
            false => &mut self.log,
        };
        while let Some(batch) = side.try_next().await? {
            let _timer = compute.timer();
            writer.write(&batch)?;
        }
        let _timer = compute.timer();
        writer.finish()
    }
}

fn writer(
    context: &TaskContext,
    schema: &SchemaRef,
    cut: Cut,
    memory: usize,
) -> Result<PartWriter> {
    let keys = key_columns(schema)?;
    let disk = &context.runtime_env().disk_manager;
    PartWriter::new(schema, &keys, cut, memory / WRITE_SHARE, disk)
}

/// Sets memory aside for the whole join: `share`, or as much of it as there is.
fn set_aside(reservation: &MemoryReservation, share: usize) -> Result<usize> {
    let mut bytes = share.max(LEAST_BYTES);
    loop {
        match reservation.try_grow(bytes) {
            Ok(()) => return Ok(bytes),
            Err(_) if bytes / 2 >= LEAST_BYTES => bytes /= 2,
            Err(full) => return Err(full),
        }
    }
}

/// What joining takes with so many rows of the dimension.
fn joined_bytes(rows: usize, bytes: usize) -> usize {
    bytes * COPIES + rows * TABLE_ROW_BYTES
}

/// Parts that each are likely to fit, but not so many that chunks have few rows.
fn first_bits(held: &Held, expected_rows: usize, memory: usize) -> u32 {
    let row_bytes = held.bytes / held.rows.max(1) + 1;
    let rows = expected_rows.max(held.rows * 2);
    // Hashes don't spread rows quite evenly.
    let parts = joined_bytes(rows, rows * row_bytes) / (memory * 3 / 4).max(1) + 1;
    let chunks = memory / WRITE_SHARE / row_bytes / CHUNK_ROWS;
    let bits = parts.next_power_of_two().ilog2();
    let most = chunks.max(1).ilog2().clamp(CUT_BITS, FIRST_BITS);
    bits.clamp(CUT_BITS, most)
}

/// Rows of the dimension in memory.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Held {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = compact(batch)?;
        self.rows += batch.num_rows();
        self.bytes += rows_bytes(&batch);
        self.batches.push(batch);
        Ok(())
    }
}

fn held_stream(held: Held, schema: &SchemaRef) -> SendableRecordBatchStream {
    let batches = stream::iter(held.batches.into_iter().map(Ok));
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

/// Both sides of a part.
struct Parts {
    dimension: WrittenPart,
    log: WrittenPart,
    cut: Cut,
}

/// Parts that are still to be joined, the next one last.
struct Todo {
    parts: Vec<Parts>,
    memory: usize,
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    joiner: Joiner,
}

impl Todo {
    /// The next part, being joined.
    fn next(&mut self) -> Result<Option<SendableRecordBatchStream>> {
        let compute = self.joiner.measured.elapsed_compute().clone();
        let _timer = compute.timer();
        while let Some(parts) = self.parts.pop() {
            // All that comes of a part are rows of the log.
            if parts.log.rows() == 0 {
                continue;
            }
            let needed = joined_bytes(parts.dimension.rows(), parts.dimension.bytes());
            if needed > self.memory && self.cut_anew(&parts)? {
                continue;
            }
            // Of what can't be cut, the copies of a single key, there may be more than the share.
            let reserved = self.memory.max(needed);
            self.reservation.try_resize(reserved)?;
            let joined = self.joiner.join(
                part_stream(&parts.dimension)?,
                part_stream(&parts.log)?,
                self.reservation.new_empty(),
            );
            return joined.map(Some);
        }
        Ok(None)
    }

    /// Cuts a part by further bits, if that makes it smaller.
    fn cut_anew(&mut self, parts: &Parts) -> Result<bool> {
        let cut = Cut {
            taken: parts.cut.end(),
            bits: CUT_BITS,
        };
        if cut.end() > MOST_BITS {
            return Ok(false);
        }
        let write = |part: &WrittenPart| {
            let mut writer = writer(&self.context, part.schema(), cut, self.memory)?;
            part.read()?.try_for_each(|batch| writer.write(&batch?))?;
            writer.finish()
        };
        let dimension = write(&parts.dimension)?;
        if dimension
            .iter()
            .any(|part| part.rows() == parts.dimension.rows())
        {
            return Ok(false);
        }
        let log = write(&parts.log)?;
        let cut_anew = dimension.into_iter().zip(log);
        let cut_anew = cut_anew.map(|(dimension, log)| Parts {
            dimension,
            log,
            cut,
        });
        self.parts.extend(cut_anew.rev());
        Ok(true)
    }
}

fn part_stream(part: &WrittenPart) -> Result<SendableRecordBatchStream> {
    let batches = stream::iter(part.read()?);
    let schema = Arc::clone(part.schema());
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

/// Joins streams by DataFusion's operator.
struct Joiner {
    /// Without a limit: what a join takes is set aside before.
    context: Arc<TaskContext>,
    measured: BaselineMetrics,
}

impl Joiner {
    fn new(context: &TaskContext, measured: BaselineMetrics) -> Result<Self> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(context.runtime_env().as_ref());
        let runtime = runtime.with_memory_pool(Arc::new(UnboundedMemoryPool::default()));
        let context = TaskContext::default()
            .with_session_config(context.session_config().clone())
            .with_runtime(runtime.build_arc()?);
        Ok(Self {
            context: Arc::new(context),
            measured,
        })
    }

    fn schema(&self, dimension: &SchemaRef, log: &SchemaRef) -> Result<SchemaRef> {
        let empty = |schema: &SchemaRef| {
            let plan = datafusion::physical_plan::empty::EmptyExec::new(Arc::clone(schema));
            Arc::new(plan) as Arc<dyn ExecutionPlan>
        };
        Ok(hash_join(empty(dimension), empty(log))?.schema())
    }

    /// Joins two streams. `held` is let go at the end.
    fn join(
        &self,
        dimension: SendableRecordBatchStream,
        log: SendableRecordBatchStream,
        held: MemoryReservation,
    ) -> Result<SendableRecordBatchStream> {
        let join = hash_join(table(dimension)?, table(log)?)?;
        let schema = join.schema();
        let mut joined = join.execute(0, Arc::clone(&self.context))?;
        let measured = self.measured.clone();
        let joined = stream::poll_fn(move |polled| {
            let _held = &held;
            let _timer = measured.elapsed_compute().timer();
            let batch = joined.poll_next_unpin(polled);
            measured.record_poll(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, joined)))
    }
}

fn table(stream: SendableRecordBatchStream) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = stream.schema();
    let once = Arc::new(Once {
        schema: Arc::clone(&schema),
        stream: Mutex::new(Some(stream)),
    });
    let table = StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?;
    Ok(Arc::new(table))
}

/// A stream as a partition that is read once.
struct Once {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self.stream.lock();
        let taken = taken.unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| {
            let again = internal_err!("a side of a join is read once");
            let failed = stream::iter([again]);
            Box::pin(RecordBatchStreamAdapter::new(
                Arc::clone(&self.schema),
                failed,
            ))
        })
    }
}
