//! The hot keys of a column, from some of its rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue};

use super::space_saving::SpaceSaving;
use super::{HotColumn, HotKey, Role};
use crate::fused::for_integer;

/// Counters of a sketch.
const COUNTERS: usize = 1 << 10;
/// From this row of a task on, one of so many rows is looked at: counting each would take longer
/// than ranking it. Primes, for rows may repeat in a rhythm.
const STRIDES: [(u64, u64); 4] = [(0, 1), (1 << 14, 17), (1 << 18, 1021), (1 << 22, 4093)];
/// Texts are told up to so many bytes.
const MAX_TEXT: usize = 120;

/// Counts the keys of a column.
#[derive(Debug)]
pub(crate) struct ColumnSketch {
    column: String,
    role: Role,
    data_type: DataType,
    keys: Keys,
    rows: u64,
    sampled: u64,
    nulls: u64,
}

#[derive(Debug)]
enum Keys {
    Integers(SpaceSaving<i64>),
    Texts(SpaceSaving<String>),
}

impl ColumnSketch {
    /// For a column of a type whose values are integers or texts; none for others.
    pub(crate) fn new(column: &str, role: Role, data_type: &DataType) -> Option<Self> {
        let of = match data_type {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        let keys = match of {
            t if t.is_string() => Keys::Texts(SpaceSaving::new(COUNTERS)),
            t if t.is_integer() => Keys::Integers(SpaceSaving::new(COUNTERS)),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                Keys::Integers(SpaceSaving::new(COUNTERS))
            }
            _ => return None,
        };
        Some(Self {
            column: column.to_owned(),
            role,
            data_type: of.clone(),
            keys,
            rows: 0,
            sampled: 0,
            nulls: 0,
        })
    }

    /// Looks at some rows of `values`, each of which stands for all those around it.
    ///
    /// # Errors
    /// If they are of another type than was said.
    pub(crate) fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let rows = values.len() as u64;
        let before = self.rows;
        self.rows += rows;
        let stride = STRIDES.iter().rev().find(|(from, _)| *from <= before);
        let stride = stride.map_or(1, |(_, stride)| *stride);
        // Where the last batch left off, so that batches of any size are looked at alike.
        let first = match stride {
            1 => 0,
            stride => (stride - before % stride) % stride,
        };
        if first >= rows {
            return Ok(());
        }
        let sampled = (first..rows).step_by(stride as usize);
        if *values.data_type() == self.data_type
            && let Keys::Integers(sketch) = &mut self.keys
        {
            // Mostly so; of a large batch a few rows, so that taking them out would cost more.
            macro_rules! count {
                ($type:ty) => {{
                    let values = values.as_primitive::<$type>();
                    for row in sampled.clone().map(|row| row as usize) {
                        self.sampled += 1;
                        match values.is_valid(row) {
                            true => sketch.add(&i64::from(values.value(row)), stride),
                            false => self.nulls += stride,
                        }
                    }
                }};
            }
            if for_integer!(values.data_type(), count).is_some() {
                return Ok(());
            }
        }
        let at: Int64Array = sampled.map(|row| row as i64).collect();
        let few = match stride {
            1 => values.clone(),
            _ => datafusion::arrow::compute::take(values, &at, None)?,
        };
        self.count(&few, stride)
    }

    fn count(&mut self, values: &ArrayRef, weight: u64) -> Result<()> {
        self.sampled += values.len() as u64;
        match &mut self.keys {
            Keys::Integers(sketch) => {
                for value in &integers(&cast(values, &self.data_type)?)? {
                    match value {
                        Some(value) => sketch.add(&value, weight),
                        None => self.nulls += weight,
                    }
                }
            }
            Keys::Texts(sketch) => {
                let values = cast(values, &DataType::Utf8View)?;
                for value in values.as_string_view() {
                    match value {
                        Some(value) => sketch.add(value, weight),
                        None => self.nulls += weight,
                    }
                }
            }
        }
        Ok(())
    }

    /// The keys that have more than `share` of the rows, at most `most` of them.
    pub(crate) fn frequent(&self, share: f64, most: usize) -> Result<Vec<ScalarValue>> {
        let least = share * self.rows as f64;
        match &self.keys {
            Keys::Integers(sketch) => {
                let top = sketch.top(most).into_iter();
                let values: Int64Array = top
                    .take_while(|(_, rows)| *rows as f64 > least)
                    .map(|(key, _)| Some(key))
                    .collect();
                let values = self.typed(values)?;
                (0..values.len())
                    .map(|at| ScalarValue::try_from_array(&values, at))
                    .collect()
            }
            Keys::Texts(sketch) => {
                let top = sketch.top(most).into_iter();
                let frequent = top.take_while(|(_, rows)| *rows as f64 > least);
                Ok(frequent
                    .map(|(key, _)| ScalarValue::Utf8View(Some(key)))
                    .collect())
            }
        }
    }

    /// The reverse of [`integers`].
    fn typed(&self, keys: Int64Array) -> Result<ArrayRef> {
        Ok(match self.data_type {
            DataType::UInt64 => Arc::new(keys.unary::<_, UInt64Type>(|key| key as u64)),
            _ => cast(&keys, &self.data_type)?,
        })
    }

    /// What was found, with so many keys at most; none without rows.
    pub(crate) fn finish(&self, most: usize) -> Result<Option<HotColumn>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let most = most.min(COUNTERS);
        let (mut keys, threshold) = match &self.keys {
            Keys::Integers(sketch) => {
                let top = sketch.top(most + 1);
                let integers: Int64Array = top.iter().map(|(key, _)| Some(*key)).collect();
                let typed = self.typed(integers)?;
                let options = FormatOptions::default();
                let texts = ArrayFormatter::try_new(typed.as_ref(), &options)?;
                let keys = top.iter().enumerate();
                let keys = keys.map(|(at, (_, rows))| (texts.value(at).to_string(), *rows));
                (keys.collect::<Vec<_>>(), sketch.threshold())
            }
            Keys::Texts(sketch) => {
                let top = sketch.top(most + 1).into_iter();
                (
                    top.map(|(key, rows)| (shown(key), rows)).collect(),
                    sketch.threshold(),
                )
            }
        };
        // What isn't told may be as frequent as the first that isn't.
        let untold = keys.get(most).map_or(0, |(_, rows)| *rows);
        keys.truncate(most);
        let keys = keys.into_iter().map(|(key, rows)| HotKey { key, rows });
        Ok(Some(HotColumn {
            column: self.column.clone(),
            role: self.role,
            rows: self.rows,
            sampled: self.sampled,
            nulls: self.nulls,
            error: threshold.max(untold),
            keys: keys.collect(),
        }))
    }
}

/// Values as integers: of those that don't fit, the same bits.
fn integers(values: &ArrayRef) -> Result<Int64Array> {
    if let Some(values) = values.as_primitive_opt::<UInt64Type>() {
        return Ok(values.unary(|value| value as i64));
    }
    Ok(cast(values, &DataType::Int64)?.as_primitive().clone())
}

fn shown(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let cut = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    text
}
