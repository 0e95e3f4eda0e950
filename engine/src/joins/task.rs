//! What a task of a join does: see [`grace`](super::grace).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, JoinSide, JoinType, NullEquality, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{StreamExt, TryStreamExt, stream};

use super::grace::join_of;
use super::parts::{Cut, Keys, PartWriter, WrittenPart, compact};
use crate::fused::forget_unused;
use crate::operator::rows_bytes;
use crate::skew::note;

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

/// A task of the join.
pub(super) struct Task {
    pub(super) join: Arc<HashJoinExec>,
    pub(super) build: SendableRecordBatchStream,
    pub(super) probe: SendableRecordBatchStream,
    pub(super) build_rows: usize,
    pub(super) measured: BaselineMetrics,
    pub(super) metrics: ExecutionPlanMetricsSet,
    pub(super) partition: usize,
    pub(super) context: Arc<TaskContext>,
}

impl Task {
    /// Joins with a share of the memory, or with as much as it takes.
    pub(super) async fn join(mut self, share: Option<Share>) -> Result<SendableRecordBatchStream> {
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
pub(super) struct Share {
    /// Of the whole pool.
    pub(super) bytes: usize,
    /// That share the pool.
    pub(super) tasks: usize,
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
