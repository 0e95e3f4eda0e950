//! Keeps the best N rows of each group.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, new_null_array,
};
use datafusion::arrow::compute::{SortOptions, concat_batches, interleave_record_batch};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;
use hashbrown::HashMap;

use super::Ranking;
use super::exec::RankMode;
use super::node::ResolvedRanking;

/// Rows that may be held beyond four times those in use before the rest is let go.
const SPARE_ROWS: usize = 1 << 16;

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

pub(super) struct TopPerGroup {
    top: usize,
    mode: RankMode,
    columns: ResolvedRanking,
    schema: SchemaRef,
    group_rows: RowConverter,
    key_rows: RowConverter,
    /// The worst of a group lies on top of its heap.
    groups: HashMap<Box<[u8]>, BinaryHeap<Candidate>>,
    /// Batches with rows in the running.
    batches: Vec<RecordBatch>,
    held_rows: usize,
    live_rows: usize,
    /// Totals by date, in the dates' order.
    totals: BTreeMap<Box<[u8]>, (ScalarValue, Vec<i64>)>,
    date_rows: RowConverter,
    reservation: MemoryReservation,
}

impl TopPerGroup {
    /// `schema` is the output's: the input's columns and the rank.
    pub(super) fn try_new(
        ranking: &Ranking,
        mode: RankMode,
        schema: SchemaRef,
        reservation: MemoryReservation,
    ) -> Result<Self> {
        let columns = ranking.resolve(&schema)?;
        let type_of = |index: usize| schema.field(index).data_type().clone();
        let ascending = |index: &usize| SortField::new(type_of(*index));
        let mut key_fields: Vec<SortField> = columns
            .order
            .iter()
            .map(|(index, descending)| {
                let options = SortOptions {
                    descending: *descending,
                    nulls_first: false,
                };
                SortField::new_with_options(type_of(*index), options)
            })
            .collect();
        key_fields.push(SortField::new(type_of(columns.item)));
        Ok(Self {
            top: ranking.top,
            mode,
            group_rows: RowConverter::new(columns.groups.iter().map(ascending).collect())?,
            date_rows: RowConverter::new(vec![ascending(&columns.groups[0])])?,
            key_rows: RowConverter::new(key_fields)?,
            columns,
            schema,
            groups: HashMap::new(),
            batches: Vec::new(),
            held_rows: 0,
            live_rows: 0,
            totals: BTreeMap::new(),
            reservation,
        })
    }

    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let is_total: Option<Int64Array> = match self.mode {
            RankMode::Local => None,
            RankMode::Final => {
                let ranks = batch.column(batch.num_columns() - 1);
                Some(ranks.as_primitive::<Int64Type>().clone())
            }
        };
        self.add_totals(&batch, is_total.as_ref())?;

        let columns = |indices: &mut dyn Iterator<Item = usize>| -> Vec<ArrayRef> {
            indices.map(|i| Arc::clone(batch.column(i))).collect()
        };
        let groups = columns(&mut self.columns.groups.iter().copied());
        let groups = self.group_rows.convert_columns(&groups)?;
        let mut keys: Vec<ArrayRef> = columns(&mut self.columns.order.iter().map(|(i, _)| *i))
            .into_iter()
            .map(|column| without_nan(&column))
            .collect();
        let items = Arc::clone(batch.column(self.columns.item));
        keys.push(Arc::clone(&items));
        let keys = self.key_rows.convert_columns(&keys)?;

        let batch_index = self.batches.len();
        let live_before = self.live_rows;
        let mut wanted = false;
        for row in 0..batch.num_rows() {
            if items.is_null(row) || is_total.as_ref().is_some_and(|rank| rank.value(row) == 0) {
                continue;
            }
            let key = keys.row(row);
            let key = key.as_ref();
            let group = groups.row(row);
            let heap = match self.groups.get_mut(group.as_ref()) {
                Some(heap) => heap,
                None => self.groups.entry(group.as_ref().into()).or_default(),
            };
            if heap.len() >= self.top {
                match heap.peek() {
                    Some(worst) if key < worst.key.as_ref() => {
                        heap.pop();
                        self.live_rows -= 1;
                    }
                    _ => continue,
                }
            }
            heap.push(Candidate {
                key: key.into(),
                batch: batch_index,
                row,
            });
            self.live_rows += 1;
            wanted = true;
        }
        if wanted {
            self.held_rows += batch.num_rows();
            let key_bytes = (self.live_rows.saturating_sub(live_before)) * size_of::<Candidate>();
            self.reservation.try_grow(rows_bytes(&batch) + key_bytes)?;
            self.batches.push(batch);
        }
        if self.held_rows > 4 * self.live_rows + SPARE_ROWS {
            self.compact()?;
        }
        Ok(())
    }

    /// The best of each group, numbered, groups in ascending order; then the totals.
    pub(super) fn finish(mut self) -> Result<RecordBatch> {
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
        let mut parts = Vec::new();
        if !places.is_empty() {
            let rows = self.gather(&places)?;
            parts.push(self.with_ranks(rows.columns(), ranks)?);
        }
        if !self.totals.is_empty() {
            parts.push(self.totals_batch()?);
        }
        Ok(concat_batches(&self.schema, &parts)?)
    }

    fn gather(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(interleave_record_batch(&batches, places)?)
    }

    /// Lets go of rows that are no longer in the running.
    fn compact(&mut self) -> Result<()> {
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
        self.held_rows = places.len();
        let bytes = rows_bytes(&self.batches[0]);
        self.reservation
            .try_resize(bytes + self.live_rows * size_of::<Candidate>())?;
        Ok(())
    }

    fn add_totals(&mut self, batch: &RecordBatch, ranks: Option<&Int64Array>) -> Result<()> {
        if self.columns.totals.is_empty() {
            return Ok(());
        }
        let dates = batch.column(self.columns.groups[0]);
        let date_keys = self.date_rows.convert_columns(&[Arc::clone(dates)])?;
        let totals: Vec<&Int64Array> = self
            .columns
            .totals
            .iter()
            .map(|i| batch.column(*i).as_primitive())
            .collect();
        for row in 0..batch.num_rows() {
            if ranks.is_some_and(|rank| rank.value(row) != 0) {
                continue;
            }
            let key = date_keys.row(row);
            if !self.totals.contains_key(key.as_ref()) {
                let date = ScalarValue::try_from_array(dates, row)?;
                let zeros = vec![0; totals.len()];
                self.totals.insert(key.as_ref().into(), (date, zeros));
            }
            let Some((_, sums)) = self.totals.get_mut(key.as_ref()) else {
                continue;
            };
            for (sum, column) in sums.iter_mut().zip(&totals) {
                if column.is_valid(row) {
                    *sum = sum
                        .checked_add(column.value(row))
                        .ok_or_else(|| exec_datafusion_err!("a total of rows overflows"))?;
                }
            }
        }
        Ok(())
    }

    fn totals_batch(&self) -> Result<RecordBatch> {
        let rows = self.totals.len();
        let mut columns: Vec<ArrayRef> = self
            .schema
            .fields()
            .iter()
            .map(|field| new_null_array(field.data_type(), rows))
            .collect();
        columns.pop();
        let dates = self.totals.values().map(|(date, _)| date.clone());
        columns[self.columns.groups[0]] = ScalarValue::iter_to_array(dates)?;
        for (i, column) in self.columns.totals.iter().enumerate() {
            let sums = self.totals.values().map(|(_, sums)| sums[i]);
            columns[*column] = Arc::new(Int64Array::from_iter_values(sums));
        }
        self.with_ranks(&columns, vec![0; rows])
    }

    /// Puts the ranks behind the input's columns (in place of the ranks of a local step).
    fn with_ranks(&self, columns: &[ArrayRef], ranks: Vec<i64>) -> Result<RecordBatch> {
        let inputs = self.schema.fields().len() - 1;
        let mut columns = columns[..inputs].to_vec();
        columns.push(Arc::new(Int64Array::from(ranks)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Bytes of a batch's rows. Batches are slices of larger ones, whose buffers would count again with
/// each of them.
fn rows_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            let sliced = column.to_data().get_slice_memory_size();
            sliced.unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

/// Floats to sort by: NaN is no value, and −0 is 0.
fn without_nan(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            let cleaned: Float64Array = floats
                .iter()
                .map(|v| v.filter(|v| !v.is_nan()).map(|v| v + 0.0))
                .collect();
            Arc::new(cleaned)
        }
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            let cleaned: datafusion::arrow::array::Float32Array = floats
                .iter()
                .map(|v| v.filter(|v| !v.is_nan()).map(|v| v + 0.0))
                .collect();
            Arc::new(cleaned)
        }
        _ => Arc::clone(column),
    }
}
