//! Builds the table of a dimension.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, StringViewArray, UInt32Array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;

use super::{Dimension, FIRST_ROW, Keys, Large, NO_MATCH, Numbers};
use crate::fused::groups::{integers, is_dense_integer, is_text};

/// Keys index an array if it has at most so many places for each.
const PLACES_PER_KEY: usize = 8;
/// Or if it is no larger than this.
const SMALL_ARRAY: usize = 1 << 22;
/// Repeated keys that an error shows.
const EXAMPLES: usize = 3;

/// Whether so many keys index an array of `span` places.
pub(super) fn array_fits(span: i128, keys: usize) -> bool {
    let allowed = SMALL_ARRAY.max(keys.saturating_mul(PLACES_PER_KEY));
    span <= allowed as i128
}

/// Why a table wasn't built: it would take more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dimension's table would take more than {most} bytes")]
pub(in crate::fused) struct TooLarge {
    /// What it may take.
    pub(in crate::fused) most: usize,
}

/// Builds a table from a plan whose first column is the key.
struct Builder {
    keys: Keys,
    large: Large,
    attributes: Option<Attributes>,
    numbers: Vec<usize>,
    repeated: Vec<String>,
    /// Bytes of keys that are texts.
    text_bytes: usize,
    /// Rows to come, as far as is known.
    expected: usize,
    /// Bytes that the table may take.
    most: usize,
    rows: usize,
}

impl Builder {
    fn new(schema: &SchemaRef, expected: usize, most: usize) -> Result<Self> {
        let key = schema.field(0).data_type();
        let attributes = schema.project(&(1..schema.fields().len()).collect::<Vec<_>>())?;
        let attributes = match attributes.fields().is_empty() {
            true => None,
            false => Some(Attributes::new(Arc::new(attributes))?),
        };
        let keys = match key {
            t if is_dense_integer(t) || *t == DataType::UInt64 => Keys::Array {
                base: 0,
                numbers: Numbers::Bytes(Vec::new()),
            },
            t if is_text(t) => Keys::Texts(hashbrown::HashMap::new()),
            other => return exec_err!("a dimension's keys can't be {other}"),
        };
        Ok(Self {
            keys,
            large: Large::new(),
            attributes,
            numbers: Vec::new(),
            repeated: Vec::new(),
            text_bytes: 0,
            expected,
            most,
            rows: 0,
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        self.rows += rows;
        match &mut self.attributes {
            Some(attributes) => attributes.number(&batch.columns()[1..], &mut self.numbers)?,
            None => {
                self.numbers.clear();
                self.numbers.resize(rows, 0);
            }
        }
        let largest = self.attributes.as_ref().map_or(1, |a| a.values.len()) + FIRST_ROW as usize;
        let largest = u32::try_from(largest)
            .map_err(|_| exec_datafusion_err!("a dimension has too many different attributes"))?;
        self.check_size(self.keys.table_size() + self.text_bytes)?;
        let numbered = |n: &usize| *n as u32 + FIRST_ROW;
        if let Keys::Texts(known) = &mut self.keys {
            let numbers = self.numbers.iter().map(numbered);
            let keys = cast(batch.column(0), &DataType::Utf8View)?;
            let keys: &StringViewArray = keys.as_string_view();
            for (key, number) in keys.iter().zip(numbers) {
                self.text_bytes += key.map_or(0, str::len);
                if let Some(key) = key
                    && known.insert(key.into(), number).is_some()
                    && self.repeated.len() < EXAMPLES
                {
                    self.repeated.push(key.to_owned());
                }
            }
            return Ok(());
        }
        if *batch.column(0).data_type() == DataType::UInt64 {
            let keys = batch.column(0).as_primitive::<UInt64Type>();
            for (key, number) in keys.iter().zip(self.numbers.iter().map(numbered)) {
                if let Some(key) = key.filter(|key| i64::try_from(*key).is_err())
                    && self.large.insert(key, number).is_some()
                    && self.repeated.len() < EXAMPLES
                {
                    self.repeated.push(key.to_string());
                }
            }
        }
        // Those have become null.
        let keys = cast(batch.column(0), &DataType::Int64)?;
        let keys: &Int64Array = keys.as_primitive();
        self.make_room(keys, largest)?;
        let repeated = &mut self.repeated;
        let mut repeat = |key: i64| {
            if repeated.len() < EXAMPLES {
                repeated.push(key.to_string());
            }
        };
        let rows = &self.numbers;
        match &mut self.keys {
            Keys::Array { base, numbers } => match numbers {
                Numbers::Bytes(places) => fill(keys, *base, places, rows, |n| n as u8, repeat),
                Numbers::Halves(places) => fill(keys, *base, places, rows, |n| n as u16, repeat),
                Numbers::Words(places) => fill(keys, *base, places, rows, |n| n, repeat),
            },
            Keys::Integers(known) => {
                let rows = keys.iter().zip(rows.iter().map(numbered));
                let rows = rows.filter_map(|(key, number)| key.map(|key| (key, number)));
                rows.filter(|(key, number)| known.insert(*key, *number).is_some())
                    .for_each(|(key, _)| repeat(key));
            }
            Keys::Texts(_) => {}
        }
        Ok(())
    }

    /// Makes the array long and wide enough, or turns to hashing where it would be mostly empty.
    fn make_room(&mut self, keys: &Int64Array, largest: u32) -> Result<()> {
        let Keys::Array { base, numbers } = &self.keys else {
            return Ok(());
        };
        let min = datafusion::arrow::compute::min(keys);
        let max = datafusion::arrow::compute::max(keys);
        let Some((mut min, mut max)) = min.zip(max) else {
            return Ok(());
        };
        if numbers.len() > 0 {
            min = min.min(*base);
            max = max.max(*base + (numbers.len() as i64 - 1));
        }
        let span = i128::from(max) - i128::from(min) + 1;
        let in_array = array_fits(span, self.expected.max(self.rows));
        if in_array {
            // Before it is made larger.
            self.check_size(numbers.size_of(span as usize, largest))?;
        }
        let Keys::Array { base, numbers } = &mut self.keys else {
            return Ok(());
        };
        if numbers.len() == 0 {
            *base = min;
        }
        if !in_array {
            let mut hashed = hashbrown::HashMap::new();
            for at in 0..numbers.len() {
                if let Some(number) = numbers.get(at).filter(|n| *n != NO_MATCH) {
                    hashed.insert(*base + at as i64, number);
                }
            }
            self.keys = Keys::Integers(hashed);
            return Ok(());
        }
        numbers.widen(largest);
        let before = (*base - min) as usize;
        if before > 0 {
            numbers.shift(before);
            *base = min;
        }
        if numbers.len() < span as usize {
            numbers.resize(span as usize);
        }
        Ok(())
    }

    /// An error if the table, whose keys take so much, may not be so large.
    fn check_size(&self, of_keys: usize) -> Result<()> {
        let attributes = self.attributes.as_ref();
        let attributes = attributes.map_or(0, |attributes| attributes.values.size());
        match of_keys.saturating_add(attributes) > self.most {
            true => Err(DataFusionError::External(Box::new(TooLarge {
                most: self.most,
            }))),
            false => Ok(()),
        }
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<Dimension> {
        self.check_size(self.keys.table_size() + self.text_bytes)?;
        let columns: Vec<usize> = (1..schema.fields().len()).collect();
        let attributes = Arc::new(schema.project(&columns)?);
        let attributes = match &mut self.attributes {
            Some(values) => {
                let values = values.values.emit(EmitTo::All)?.into_iter();
                let values = values.zip(attributes.fields());
                let values: Vec<ArrayRef> = values
                    .map(|(values, field)| Ok(cast(&values, field.data_type())?))
                    .collect::<Result<_>>()?;
                let nullable = attributes.fields().iter();
                let nullable: Vec<_> = nullable
                    .map(|field| field.as_ref().clone().with_nullable(true))
                    .collect();
                let schema = datafusion::arrow::datatypes::Schema::new(nullable);
                RecordBatch::try_new(Arc::new(schema), values)?
            }
            None => {
                let options = datafusion::arrow::record_batch::RecordBatchOptions::new();
                let options = options.with_row_count(Some(1));
                RecordBatch::try_new_with_options(attributes, Vec::new(), &options)?
            }
        };
        Ok(Dimension::new(
            self.keys,
            self.large,
            attributes,
            self.repeated,
        ))
    }
}

/// Puts the numbers of rows into an array of keys, wide enough for both, and tells the keys that
/// were there before.
fn fill<N: Copy + PartialEq>(
    keys: &Int64Array,
    base: i64,
    places: &mut [N],
    rows: &[usize],
    narrow: impl Fn(u32) -> N,
    mut repeat: impl FnMut(i64),
) {
    let none = narrow(NO_MATCH);
    let mut put = |key: i64, row: usize| {
        let place = &mut places[key.wrapping_sub(base) as usize];
        if *place != none {
            repeat(key);
        }
        *place = narrow(row as u32 + FIRST_ROW);
    };
    match keys.null_count() {
        0 => {
            let rows = keys.values().iter().zip(rows);
            rows.for_each(|(key, row)| put(*key, *row));
        }
        _ => {
            let rows = keys.iter().zip(rows);
            rows.for_each(|(key, row)| key.into_iter().for_each(|key| put(key, *row)));
        }
    }
}

/// The different rows of attributes, numbered as they come.
struct Attributes {
    values: Box<dyn GroupValues>,
    /// Of a single column of integers what is known already: hashing each of millions of rows, of
    /// which nearly all repeat a value, would take longer than decoding them.
    known: KnownIntegers,
    numbers: Vec<usize>,
}

impl Attributes {
    fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self {
            values: new_group_values(schema, &GroupOrdering::None)?,
            known: KnownIntegers::default(),
            numbers: Vec::new(),
        })
    }

    fn number(&mut self, columns: &[ArrayRef], out: &mut Vec<usize>) -> Result<()> {
        let integers = match columns {
            [column] => integers(column),
            _ => None,
        };
        let Some(integers) = integers else {
            return self.values.intern(columns, out);
        };
        out.clear();
        out.extend(integers.values().iter().map(|value| self.known.get(*value)));
        if let Some(nulls) = integers.nulls() {
            let null = self.known.null;
            (!nulls.inner())
                .set_indices()
                .for_each(|row| out[row] = null);
        }
        if !out.contains(&UNKNOWN) {
            return Ok(());
        }
        let is_new = |row: &u32| out[*row as usize] == UNKNOWN;
        let new: UInt32Array = (0..out.len() as u32).filter(is_new).collect();
        self.values
            .intern(&[take(&columns[0], &new, None)?], &mut self.numbers)?;
        self.known.make_room(&integers);
        for (row, number) in new.values().iter().zip(&self.numbers) {
            let row = *row as usize;
            let value = integers.is_valid(row).then(|| integers.value(row));
            out[row] = *number;
            self.known.put(value, *number);
        }
        Ok(())
    }
}

/// Stands for the number of a value that has none yet.
const UNKNOWN: usize = usize::MAX;
/// Values of [`KnownIntegers`] at most: all dates of a thousand years.
const MOST_KNOWN: i128 = 1 << 19;

/// Numbers of integers that lie close together.
struct KnownIntegers {
    base: i64,
    numbers: Vec<usize>,
    null: usize,
}

impl Default for KnownIntegers {
    fn default() -> Self {
        Self {
            base: 0,
            numbers: Vec::new(),
            null: UNKNOWN,
        }
    }
}

impl KnownIntegers {
    #[inline]
    fn get(&self, value: i64) -> usize {
        let at = value.wrapping_sub(self.base) as u64 as usize;
        self.numbers.get(at).copied().unwrap_or(UNKNOWN)
    }

    /// Makes room for these too, unless they lie too far apart.
    fn make_room(&mut self, values: &Int64Array) {
        let min = datafusion::arrow::compute::min(values);
        let max = datafusion::arrow::compute::max(values);
        let Some((mut min, mut max)) = min.zip(max) else {
            return;
        };
        if !self.numbers.is_empty() {
            min = min.min(self.base);
            max = max.max(self.base + (self.numbers.len() as i64 - 1));
        }
        let span = i128::from(max) - i128::from(min) + 1;
        if span > MOST_KNOWN || span == self.numbers.len() as i128 {
            return;
        }
        let mut numbers = vec![UNKNOWN; span as usize];
        let before = self.base.wrapping_sub(min) as usize;
        if !self.numbers.is_empty() {
            numbers[before..before + self.numbers.len()].copy_from_slice(&self.numbers);
        }
        (self.base, self.numbers) = (min, numbers);
    }

    fn put(&mut self, value: Option<i64>, number: usize) {
        match value {
            None => self.null = number,
            Some(value) => {
                let at = value.wrapping_sub(self.base) as u64 as usize;
                if let Some(place) = self.numbers.get_mut(at) {
                    *place = number;
                }
            }
        }
    }
}

/// Runs `plan`, whose first column is the key, and builds its table.
///
/// # Errors
/// Among others [`TooLarge`], if it takes more than `most` bytes.
pub(super) async fn build(
    plan: Arc<dyn ExecutionPlan>,
    expected: usize,
    most: usize,
    context: Arc<TaskContext>,
) -> Result<Dimension> {
    let schema = plan.schema();
    let partitions = plan.output_partitioning().partition_count();
    let mut builder = Builder::new(&schema, expected, most)?;
    // Partitions are decoded side by side; one task fills the table.
    let (send, mut receive) = tokio::sync::mpsc::channel::<Result<RecordBatch>>(4 * partitions);
    let mut decoding = tokio::task::JoinSet::new();
    for partition in 0..partitions {
        let mut stream = plan.execute(partition, Arc::clone(&context))?;
        let send = send.clone();
        decoding.spawn(async move {
            while let Some(batch) = stream.next().await {
                if send.send(batch).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(send);
    while let Some(batch) = receive.recv().await {
        builder.add(&batch?)?;
    }
    while let Some(ended) = decoding.join_next().await {
        // A decoder that panicked has not told all rows.
        ended.map_err(|e| DataFusionError::External(Box::new(e)))?;
    }
    builder.finish(&schema)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As by DataFusion's own numbering, whose first sight of a value decides.
        #[test]
        fn integers_are_numbered_as_they_come(
            batches in prop::collection::vec(
                prop::collection::vec(
                    prop::option::weighted(0.9, prop_oneof![
                        6 => -40i64..40,
                        2 => 1_000i64..90_000,
                        1 => any::<i64>(),
                    ]),
                    0..60,
                ),
                0..8,
            ),
        ) {
            let field = Field::new("a", DataType::Int64, true);
            let schema = Arc::new(Schema::new(vec![field]));
            let mut plain = new_group_values(Arc::clone(&schema), &GroupOrdering::None).unwrap();
            let mut attributes = Attributes::new(schema).unwrap();
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            for batch in &batches {
                let column: ArrayRef = Arc::new(batch.iter().copied().collect::<Int64Array>());
                plain.intern(&[Arc::clone(&column)], &mut expected).unwrap();
                attributes.number(&[column], &mut found).unwrap();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
