//! A hash join that goes to disk where the rows of its build side don't fit a task's share of the
//! memory.
//!
//! The build side, whose rows go into the hash table, is read first. If it doesn't fit, its rows and
//! then those of the probe side are written in parts by the hash of their keys, and a part at a time
//! is joined; a part that doesn't fit either is cut anew by further bits. (Grace hash join:
//! Kitsuregawa, Tanaka and Moto-oka, "Application of Hash to Data Base Machine and Its Architecture",
//! New Generation Computing 1, 1983.) DataFusion 55 joins each part: its hash join doesn't spill
//! itself, and its sort-merge join fails where sorts beside each other have taken what one of them
//! needs to merge.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{
    DataFusionError, JoinSide, JoinType, NullEquality, Result, Statistics, internal_err,
};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties, SendableRecordBatchStream, StatisticsArgs,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::parts::{Cut, Keys, PartWriter, WrittenPart, compact};
use crate::fused::forget_unused;
use crate::operator::rows_bytes;
use crate::salted::is_salt;
use crate::session::Distributed;
use crate::skew::{INPUT_BYTES, note};

/// A task sets aside one of so many parts of what it has of the memory that is left; the rest is for
/// other joins and what comes after them.
const JOIN_SHARE: usize = 4;
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
    /// Puts itself in the place of `join`.
    ///
    /// # Errors
    /// If that holds its build side once for all partitions, asks whether all of it has no null, or ends
    /// after some rows.
    pub(crate) fn try_new(join: HashJoinExec, build_rows: usize) -> Result<Self> {
        let of_all = join.null_aware || join.fetch().is_some();
        if *join.partition_mode() != PartitionMode::Partitioned || of_all {
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

/// A task of the join.
struct Task {
    join: Arc<HashJoinExec>,
    build: SendableRecordBatchStream,
    probe: SendableRecordBatchStream,
    build_rows: usize,
    measured: BaselineMetrics,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
    context: Arc<TaskContext>,
}

impl Task {
    /// Joins with a share of the memory, or with as much as it takes.
    async fn join(mut self, share: Option<Share>) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("GraceJoinExec[{}]", self.partition));
        let reservation = consumer.register(self.context.memory_pool());
        let joiner = Joiner::new(&self.join, &self.context, self.measured.clone())?;
        let memory = match share {
            None => {
                return joiner.join(
                    Side::Input(self.build),
                    Side::Input(self.probe),
                    reservation,
                );
            }
            Some(share) => share.set_aside(&reservation, self.context.memory_pool().as_ref())?,
        };
        let mut held = Held::default();
        while let Some(batch) = self.build.try_next().await? {
            let _timer = self.measured.elapsed_compute().timer();
            held.push(&batch)?;
            if joined_bytes(held.rows, held.bytes) > memory {
                break;
            }
        }
        let needed = joined_bytes(held.rows, held.bytes);
        if needed <= memory {
            reservation.try_resize(needed)?;
            let build = held_stream(held, &self.build.schema());
            return joiner.join(Side::Own(build), Side::Input(self.probe), reservation);
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
            bits: first_bits(&held, self.build_rows, memory),
        };
        let writer = |side| joiner.writer(side, cut, memory);
        let compute = self.measured.elapsed_compute().clone();
        let build = written(
            held.batches,
            &mut self.build,
            writer(JoinSide::Left)?,
            &compute,
        );
        let build = build.await?;
        let probe = written(
            Vec::new(),
            &mut self.probe,
            writer(JoinSide::Right)?,
            &compute,
        );
        let probe = probe.await?;
        let told = format!(
            "the hashed side of a join went beyond its share of the memory: both sides were written \
             to disk in {} parts and joined part by part",
            build.len()
        );
        note(&self.metrics, self.partition, &told);
        let parts = build.into_iter().zip(probe);
        let parts = parts.map(|(build, probe)| Parts { build, probe, cut });
        let schema = self.join.schema();
        let todo = Todo {
            parts: parts.rev().collect(),
            memory,
            reservation,
            joiner,
        };
        let joined = stream::try_unfold(todo, |mut todo| async move {
            let joined = todo.next()?;
            Ok::<_, DataFusionError>(joined.map(|joined| (joined, todo)))
        });
        let joined = joined.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, joined)))
    }
}

/// Writes what was held of a side, and what is to come of it.
async fn written(
    held: Vec<RecordBatch>,
    side: &mut SendableRecordBatchStream,
    mut writer: PartWriter,
    compute: &Time,
) -> Result<Vec<WrittenPart>> {
    for batch in held {
        let _timer = compute.timer();
        writer.write(&batch)?;
    }
    while let Some(batch) = side.try_next().await? {
        let _timer = compute.timer();
        writer.write(&batch)?;
    }
    let _timer = compute.timer();
    writer.finish()
}

/// What tasks have of the memory.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// Of the whole pool.
    bytes: usize,
    /// That share the pool.
    tasks: usize,
}

impl Share {
    /// Sets memory aside for the whole join: a share of what is left, as other joins of a plan have
    /// taken theirs; less where that isn't there. Tables of dimensions that nobody uses give way.
    fn set_aside(self, reservation: &MemoryReservation, pool: &dyn MemoryPool) -> Result<usize> {
        let left = || self.bytes.saturating_sub(pool.reserved()) / (JOIN_SHARE * self.tasks);
        if pool.reserved() > 0 {
            forget_unused(0);
        }
        let mut bytes = left().max(LEAST_BYTES);
        loop {
            match reservation.try_grow(bytes) {
                Ok(()) => return Ok(bytes),
                Err(_) if bytes / 2 >= LEAST_BYTES => bytes /= 2,
                Err(full) => return Err(full),
            }
        }
    }
}

/// What joining takes with so many rows of the build side.
fn joined_bytes(rows: usize, bytes: usize) -> usize {
    let of_table = rows.saturating_mul(TABLE_ROW_BYTES);
    bytes.saturating_mul(COPIES).saturating_add(of_table)
}

/// Parts that each are likely to fit, but not so many that chunks have few rows.
fn first_bits(held: &Held, expected_rows: usize, memory: usize) -> u32 {
    let row_bytes = held.bytes / held.rows.max(1) + 1;
    let rows = expected_rows.max(held.rows * 2);
    let bytes = rows.saturating_mul(row_bytes);
    // Hashes don't spread rows quite evenly.
    let parts = joined_bytes(rows, bytes) / (memory * 3 / 4).max(1) + 1;
    let chunks = memory / WRITE_SHARE / row_bytes / CHUNK_ROWS;
    let bits = parts.next_power_of_two().ilog2();
    let most = chunks.max(1).ilog2().clamp(CUT_BITS, FIRST_BITS);
    bits.clamp(CUT_BITS, most)
}

/// Rows of the build side in memory.
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
    build: WrittenPart,
    probe: WrittenPart,
    cut: Cut,
}

impl Parts {
    /// Whether nothing can come of it: neither side has rows, or only one whose rows come to nothing
    /// without a match.
    fn is_empty(&self, join_type: JoinType) -> bool {
        let (build, probe) = (self.build.rows() > 0, self.probe.rows() > 0);
        let matched = build && probe;
        let of_build = build
            && matches!(
                join_type,
                JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark | JoinType::Full
            );
        let of_probe = probe
            && matches!(
                join_type,
                JoinType::Right | JoinType::RightAnti | JoinType::RightMark | JoinType::Full
            );
        !(matched || of_build || of_probe)
    }
}

/// Parts that are still to be joined, the next one last.
struct Todo {
    parts: Vec<Parts>,
    memory: usize,
    reservation: MemoryReservation,
    joiner: Joiner,
}

impl Todo {
    /// The next part, being joined.
    fn next(&mut self) -> Result<Option<SendableRecordBatchStream>> {
        let compute = self.joiner.measured.elapsed_compute().clone();
        let _timer = compute.timer();
        while let Some(parts) = self.parts.pop() {
            if parts.is_empty(*self.joiner.join.join_type()) {
                continue;
            }
            let needed = joined_bytes(parts.build.rows(), parts.build.bytes());
            if needed > self.memory && self.cut_anew(&parts)? {
                continue;
            }
            // Rows of a single key can't be cut, and there may be more of them than the share.
            let reserved = self.memory.max(needed);
            self.reservation.try_resize(reserved)?;
            let joined = self.joiner.join(
                Side::Own(part_stream(&parts.build)?),
                Side::Own(part_stream(&parts.probe)?),
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
        let write = |part: &WrittenPart, side| {
            let mut writer = self.joiner.writer(side, cut, self.memory)?;
            part.read()?.try_for_each(|batch| writer.write(&batch?))?;
            writer.finish()
        };
        let build = write(&parts.build, JoinSide::Left)?;
        if build.iter().any(|part| part.rows() == parts.build.rows()) {
            return Ok(false);
        }
        let probe = write(&parts.probe, JoinSide::Right)?;
        let cut_anew = build.into_iter().zip(probe);
        let cut_anew = cut_anew.map(|(build, probe)| Parts { build, probe, cut });
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
    join: Arc<HashJoinExec>,
    /// Without a limit: what a join takes is set aside before.
    context: Arc<TaskContext>,
    measured: BaselineMetrics,
}

impl Joiner {
    fn new(
        join: &Arc<HashJoinExec>,
        context: &TaskContext,
        measured: BaselineMetrics,
    ) -> Result<Self> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(context.runtime_env().as_ref());
        let runtime = runtime.with_memory_pool(Arc::new(UnboundedMemoryPool::default()));
        let context = TaskContext::default()
            .with_session_config(context.session_config().clone())
            .with_runtime(runtime.build_arc()?);
        Ok(Self {
            join: Arc::clone(join),
            context: Arc::new(context),
            measured,
        })
    }

    /// Writes parts of a side.
    fn writer(&self, side: JoinSide, cut: Cut, memory: usize) -> Result<PartWriter> {
        let on = self.join.on().iter();
        let (input, keys): (_, Vec<_>) = match side {
            JoinSide::Left => (self.join.left(), on.map(|on| Arc::clone(&on.0)).collect()),
            _ => (self.join.right(), on.map(|on| Arc::clone(&on.1)).collect()),
        };
        let keys = Keys {
            exprs: keys,
            // Such rows match none, so they may be anywhere.
            spread_nulls: self.join.null_equality() == NullEquality::NullEqualsNothing,
        };
        let disk = &self.context.runtime_env().disk_manager;
        PartWriter::new(&input.schema(), keys, cut, memory / WRITE_SHARE, disk)
    }

    /// Joins two sides. `held` is let go at the end.
    fn join(
        &self,
        build: Side,
        probe: Side,
        held: MemoryReservation,
    ) -> Result<SendableRecordBatchStream> {
        let of_inputs = Time::new();
        let (build, probe) = (build.table(&of_inputs)?, probe.table(&of_inputs)?);
        let join = join_of(&self.join, build, probe)?;
        let schema = join.schema();
        let mut joined = join.execute(0, Arc::clone(&self.context))?;
        let measured = self.measured.clone();
        let joined = stream::poll_fn(move |polled| {
            let _held = &held;
            let (begun, before) = (Instant::now(), of_inputs.value());
            let batch = joined.poll_next_unpin(polled);
            let inputs = Duration::from_nanos((of_inputs.value() - before) as u64);
            let own = begun.elapsed().saturating_sub(inputs);
            measured.elapsed_compute().add_duration(own);
            measured.record_poll(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, joined)))
    }
}

/// A side of a join that is joined at once.
enum Side {
    /// What the operator has, in memory or on disk: reading it is its own work.
    Own(SendableRecordBatchStream),
    /// What other operators give, who measure their time themselves.
    Input(SendableRecordBatchStream),
}

impl Side {
    /// The side as an operator. Of an input the time is counted.
    fn table(self, of_inputs: &Time) -> Result<Arc<dyn ExecutionPlan>> {
        let (stream, time) = match self {
            Self::Own(stream) => (stream, Time::new()),
            Self::Input(stream) => (stream, of_inputs.clone()),
        };
        let schema = stream.schema();
        let mut stream = stream;
        let timed = stream::poll_fn(move |polled| {
            let _timer = time.timer();
            stream.poll_next_unpin(polled)
        });
        let once = Arc::new(Once {
            schema: Arc::clone(&schema),
            stream: Mutex::new(Some(Box::pin(RecordBatchStreamAdapter::new(
                Arc::clone(&schema),
                timed,
            )))),
        });
        let table = StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?;
        Ok(Arc::new(table))
    }
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
