//! Keeps the best N rows of each group.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, new_null_array,
};
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;

use super::Ranking;
use super::best_rows::BestRows;
use super::exec::RankMode;
use super::node::ResolvedRanking;

pub(super) struct TopPerGroup {
    mode: RankMode,
    columns: ResolvedRanking,
    schema: SchemaRef,
    best: BestRows,
    /// Totals by date, in the dates' order.
    totals: BTreeMap<Box<[u8]>, (ScalarValue, Vec<i64>)>,
    date_rows: RowConverter,
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
        let groups = columns.groups.iter().map(ascending).collect();
        Ok(Self {
            mode,
            date_rows: RowConverter::new(vec![ascending(&columns.groups[0])])?,
            best: BestRows::try_new(ranking.top, groups, key_fields, reservation)?,
            columns,
            schema,
            totals: BTreeMap::new(),
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
        let mut keys: Vec<ArrayRef> = columns(&mut self.columns.order.iter().map(|(i, _)| *i))
            .into_iter()
            .map(|column| without_nan(&column))
            .collect();
        let items = Arc::clone(batch.column(self.columns.item));
        keys.push(Arc::clone(&items));
        self.best.push(&batch, &groups, &keys, |row| {
            items.is_valid(row) && is_total.as_ref().is_none_or(|rank| rank.value(row) != 0)
        })
    }

    /// The best of each group, numbered, groups in ascending order; then the totals.
    pub(super) fn finish(mut self) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        if let Some((rows, ranks)) = self.best.ranked()? {
            parts.push(self.with_ranks(rows.columns(), ranks)?);
        }
        if !self.totals.is_empty() {
            parts.push(self.totals_batch()?);
        }
        Ok(concat_batches(&self.schema, &parts)?)
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
        let mut row = 0;
        while row < batch.num_rows() {
            // Rows of a date mostly follow on each other, and then are looked up together.
            let key = date_keys.row(row);
            let begin = row;
            while row < batch.num_rows() && date_keys.row(row) == key {
                row += 1;
            }
            let counted = |row: &usize| ranks.is_none_or(|rank| rank.value(*row) == 0);
            let rows = || (begin..row).filter(counted);
            let Some(first) = rows().next() else {
                continue;
            };
            if !self.totals.contains_key(key.as_ref()) {
                let date = ScalarValue::try_from_array(dates, first)?;
                let zeros = vec![0; totals.len()];
                self.totals.insert(key.as_ref().into(), (date, zeros));
            }
            let Some((_, sums)) = self.totals.get_mut(key.as_ref()) else {
                continue;
            };
            for (sum, column) in sums.iter_mut().zip(&totals) {
                for row in rows().filter(|row| column.is_valid(*row)) {
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
