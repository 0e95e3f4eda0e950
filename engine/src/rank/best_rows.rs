//! Keeps the best N rows of each group, by their sort keys.

use std::collections::BinaryHeap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{interleave_record_batch, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use hashbrown::HashMap;

use crate::operator::rows_bytes;

/// Rows that may be held beyond four times those in use before the rest is let go.
const SPARE_ROWS: usize = 1 << 16;

/// Batches of few rows that may be held before they become one.
const SMALL_BATCHES: usize = 1_024;

/// A row in the running: its sort key, and where it lies.
struct Candidate {
    key: Box<[u8]>,
    batch: usize,
    row: usize,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// A heap for each group. Groups and sort keys are columns in arrow's row format, in which the bytes
/// of several columns follow each other and compare as their values do.
pub(super) struct BestRows {
    top: usize,
    group_rows: RowConverter,
    /// The first column of the sort key, by which most rows are out.
    first_rows: RowConverter,
    key_rows: RowConverter,
    /// The worst of a group lies on top of its heap.
    groups: HashMap<Box<[u8]>, BinaryHeap<Candidate>>,
    /// Batches with rows in the running.
    batches: Vec<RecordBatch>,
    small_batches: usize,
    held_rows: usize,
    live_rows: usize,
    held_bytes: usize,
    key_bytes: usize,
    reservation: MemoryReservation,
}

impl BestRows {
    /// Keeps `top` rows of each group; `keys` are the columns to sort by, at least one.
    pub(super) fn try_new(
        top: usize,
        groups: Vec<SortField>,
        keys: Vec<SortField>,
        reservation: MemoryReservation,
    ) -> Result<Self> {
        Ok(Self {
            top,
            group_rows: RowConverter::new(groups)?,
            first_rows: RowConverter::new(keys[..1].to_vec())?,
            key_rows: RowConverter::new(keys)?,
            groups: HashMap::new(),
            batches: Vec::new(),
            small_batches: 0,
            held_rows: 0,
            live_rows: 0,
            held_bytes: 0,
            key_bytes: 0,
            reservation,
        })
    }

    /// Rows in the running.
    pub(super) fn live_rows(&self) -> usize {
        self.live_rows
    }

    /// Takes the rows of a batch for which `counts` says so.
    ///
    /// # Errors
    /// If the memory doesn't suffice. The rows were taken nevertheless, and nothing is lost.
    pub(super) fn push(
        &mut self,
        batch: &RecordBatch,
        groups: &[ArrayRef],
        keys: &[ArrayRef],
        counts: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let groups = self.group_rows.convert_columns(groups)?;
        let running = self.in_the_running(batch.num_rows(), &groups, &keys[..1], counts)?;
        if running.is_empty() {
            return Ok(());
        }
        let running = UInt32Array::from(running);
        let keys: Vec<ArrayRef> = keys
            .iter()
            .map(|key| take(key, &running, None))
            .collect::<Result<_, _>>()?;
        let keys = self.key_rows.convert_columns(&keys)?;
        // Few rows are copied, so that they don't keep all of their batch.
        let is_small = running.len() <= batch.num_rows() / 2;
        let mut wanted = false;
        for (at, row) in running.values().iter().enumerate() {
            let row = *row as usize;
            let place = if is_small { at } else { row };
            wanted |= self.offer(groups.row(row).as_ref(), keys.row(at).as_ref(), place);
        }
        if wanted {
            let batch = match is_small {
                true => compact(&taken(batch, &running)?)?,
                false => batch.clone(),
            };
            self.small_batches += usize::from(is_small);
            self.held_rows += batch.num_rows();
            self.held_bytes += rows_bytes(&batch);
            self.batches.push(batch);
        }
        let many_spare = self.held_rows > 4 * self.live_rows + SPARE_ROWS;
        if many_spare || self.small_batches > SMALL_BATCHES {
            self.let_go()?;
        }
        match self.reserve() {
            // Each time all that stay are copied.
            Err(_) if self.held_rows > self.live_rows + self.live_rows / 4 => {
                self.let_go()?;
                self.reserve()
            }
            reserved => reserved,
        }
    }

    /// Asks for the memory of what is held.
    fn reserve(&self) -> Result<()> {
        self.reservation
            .try_resize(self.held_bytes + self.key_bytes)
    }

    /// The rows that aren't worse than all of their groups' by the first column of the sort key.
    fn in_the_running(
        &self,
        rows: usize,
        groups: &Rows,
        first: &[ArrayRef],
        counts: impl Fn(usize) -> bool,
    ) -> Result<Vec<u32>> {
        let first = self.first_rows.convert_columns(first)?;
        let is_out = |row: usize| {
            let heap = self.groups.get(groups.row(row).as_ref());
            let worst = heap.filter(|heap| heap.len() >= self.top);
            // The worst row's key begins with its first column, and goes on.
            worst
                .and_then(BinaryHeap::peek)
                .is_some_and(|worst| first.row(row).as_ref() > worst.key.as_ref())
        };
        let rows = (0..rows).filter(|row| counts(*row) && !is_out(*row));
        Ok(rows.map(|row| row as u32).collect())
    }

    /// Whether a row of the batch that comes next is in the running.
    fn offer(&mut self, group: &[u8], key: &[u8], row: usize) -> bool {
        let heap = match self.groups.get_mut(group) {
            Some(heap) => heap,
            None => {
                self.key_bytes += group.len() + size_of::<(Box<[u8]>, BinaryHeap<Candidate>)>();
                self.groups.entry(group.into()).or_default()
            }
        };
        if heap.len() >= self.top {
            match heap.peek_mut() {
                Some(worst) if key < worst.key.as_ref() => {
                    self.key_bytes -= size_of::<Candidate>() + worst.key.len();
                    std::collections::binary_heap::PeekMut::pop(worst);
                    self.live_rows -= 1;
                }
                _ => return false,
            }
        }
        heap.push(Candidate {
            key: key.into(),
            batch: self.batches.len(),
            row,
        });
        self.key_bytes += size_of::<Candidate>() + key.len();
        self.live_rows += 1;
        true
    }

    /// The rows that were kept, best first and with their ranks, groups in ascending order; none if
    /// there are none. Begins anew.
    pub(super) fn ranked(&mut self) -> Result<Option<(RecordBatch, Vec<i64>)>> {
        let mut groups: Vec<_> = self.groups.drain().collect();
        groups.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut places = Vec::with_capacity(self.live_rows);
        let mut ranks = Vec::with_capacity(self.live_rows);
        for (_, heap) in groups {
            for (i, candidate) in heap.into_sorted_vec().into_iter().enumerate() {
                places.push((candidate.batch, candidate.row));
                ranks.push(i as i64 + 1);
            }
        }
        let rows = self.begin_anew(&places)?;
        Ok(rows.map(|rows| (rows, ranks)))
    }

    /// The same rows in any order.
    pub(super) fn unordered(&mut self) -> Result<Option<RecordBatch>> {
        let mut places = Vec::with_capacity(self.live_rows);
        for (_, heap) in self.groups.drain() {
            places.extend(heap.into_iter().map(|kept| (kept.batch, kept.row)));
        }
        self.begin_anew(&places)
    }

    fn begin_anew(&mut self, places: &[(usize, usize)]) -> Result<Option<RecordBatch>> {
        let rows = match places.is_empty() {
            true => None,
            false => Some(self.gather(places)?),
        };
        self.batches.clear();
        (self.small_batches, self.held_rows, self.live_rows) = (0, 0, 0);
        (self.held_bytes, self.key_bytes) = (0, 0);
        self.reservation.free();
        Ok(rows)
    }

    fn gather(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        compact(&interleave_record_batch(&batches, places)?)
    }

    /// Lets go of rows that are no longer in the running.
    fn let_go(&mut self) -> Result<()> {
        let mut places = Vec::with_capacity(self.live_rows);
        let mut groups = std::mem::take(&mut self.groups);
        for heap in groups.values_mut() {
            let mut candidates = std::mem::take(heap).into_vec();
            for candidate in &mut candidates {
                places.push((candidate.batch, candidate.row));
                (candidate.batch, candidate.row) = (0, places.len() - 1);
            }
            *heap = candidates.into();
        }
        self.batches = vec![self.gather(&places)?];
        self.groups = groups;
        self.small_batches = 0;
        self.held_rows = places.len();
        self.held_bytes = rows_bytes(&self.batches[0]);
        Ok(())
    }
}

fn taken(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let columns = batch.columns().iter();
    let columns = columns.map(|column| take(column, rows, None));
    let columns = columns.collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// The batch with texts in buffers of its own: a few views hold all of the buffers that they came with.
fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter();
    let columns = columns.map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
        _ => Arc::clone(column),
    });
    Ok(RecordBatch::try_new(batch.schema(), columns.collect())?)
}
