//! Small lakes on disk, written column by column.

use std::cmp::Ordering;
use std::fs::File;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema, TimeUnit,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use tempfile::TempDir;

/// One cell.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Int(i128),
    Float(f64),
    Text(String),
}

/// Bits count, but one NaN is as good as another.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => {
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
            }
            _ => false,
        }
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn float(value: Option<f64>) -> Self {
        value.map_or(Self::Null, Self::Float)
    }

    pub(crate) fn int(value: Option<impl Into<i128>>) -> Self {
        value.map_or(Self::Null, |v| Self::Int(v.into()))
    }

    /// Order within one column: nulls last, floats as numbers.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).unwrap(),
            _ => unreachable!("a column has one type"),
        }
    }
}

/// How an item or key column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Utf8,
    LargeUtf8,
    Utf8View,
    Dictionary,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::UInt8,
        Self::UInt16,
        Self::UInt32,
        Self::UInt64,
        Self::Utf8,
        Self::LargeUtf8,
        Self::Utf8View,
        Self::Dictionary,
    ];

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Utf8 => DataType::Utf8,
            Self::LargeUtf8 => DataType::LargeUtf8,
            Self::Utf8View => DataType::Utf8View,
            Self::Dictionary => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
        }
    }

    pub(crate) fn is_text(self) -> bool {
        !self.data_type().is_integer()
    }

    /// How many of the values of [`nth`](Self::nth) differ.
    pub(crate) fn distinct(self) -> u16 {
        match self {
            Self::Int8 | Self::UInt8 => 1 << 8,
            _ => 4_000,
        }
    }

    /// Distinct values, the awkward ones first.
    pub(crate) fn nth(self, n: u16) -> Value {
        let n = i128::from(n);
        let spread = |step: i128, start: i128| Value::Int(start + n * step);
        match self {
            Self::Int8 => spread(1, -128),
            Self::Int16 => spread(7, -40),
            Self::Int32 => spread(30_011, -60_022),
            Self::Int64 => spread((1 << 33) + 1, -(3 << 33)),
            Self::UInt8 => spread(1, 0),
            Self::UInt16 => spread(16, 7),
            Self::UInt32 => spread(59_999, 0),
            Self::UInt64 => spread((1 << 47) + 3, (1 << 63) - (3 << 47)),
            _ => Value::text(match n {
                0 => String::new(),
                1 => "unknown".into(),
                2 => "한국어 뮤지컬".into(),
                3 => "a longer text than fits into a view without a buffer".into(),
                4 => "é\u{0301}\"\\\n".into(),
                5 => " ".into(),
                6 => "🎭".into(),
                7 => "date".into(),
                n => format!("k{n}"),
            }),
        }
    }

    pub(crate) fn array(self, values: &[Value]) -> ArrayRef {
        let plain: ArrayRef = if self.is_text() {
            texts(values)
        } else if self == Self::UInt64 {
            Arc::new(UInt64Array::from_iter(values.iter().map(|v| match v {
                Value::Int(v) => Some(*v as u64),
                _ => None,
            })))
        } else {
            ints(values)
        };
        cast(&plain, &self.data_type()).unwrap()
    }
}

pub(crate) fn ints(values: &[Value]) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values.iter().map(|v| match v {
        Value::Int(v) => Some(*v as i64),
        _ => None,
    })))
}

pub(crate) fn floats(values: &[Value]) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values.iter().map(|v| match v {
        Value::Float(v) => Some(*v),
        _ => None,
    })))
}

pub(crate) fn texts(values: &[Value]) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.iter().map(|v| match v {
        Value::Text(v) => Some(v.as_str()),
        _ => None,
    })))
}

/// Days since 1970-01-01 as dates.
pub(crate) fn dates(values: &[Value]) -> ArrayRef {
    let days = cast(&ints(values), &DataType::Int32).unwrap();
    cast(&days, &DataType::Date32).unwrap()
}

/// Microseconds since 1970-01-01T00:00Z as timestamps.
pub(crate) fn timestamps(values: &[Value], unit: TimeUnit, zone: Option<&str>) -> ArrayRef {
    let us = cast(
        &ints(values),
        &DataType::Timestamp(TimeUnit::Microsecond, None),
    )
    .unwrap();
    let instants = cast(&us, &DataType::Timestamp(unit, None)).unwrap();
    // By way of UTC: the same instants under another name.
    let utc = cast(&instants, &DataType::Timestamp(unit, Some("UTC".into()))).unwrap();
    match zone {
        None => instants,
        Some(zone) => cast(&utc, &DataType::Timestamp(unit, Some(zone.into()))).unwrap(),
    }
}

/// A folder that is gone after the test.
pub(crate) struct Lake(TempDir);

impl Lake {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Columns without nulls are required ones.
    pub(crate) fn write(&self, file: &str, columns: &[(&str, ArrayRef)], row_group_rows: usize) {
        self.write_as(file, columns, row_group_rows, |column| {
            column.null_count() > 0
        });
    }

    /// All columns may have nulls, as in files that others write.
    pub(crate) fn write_nullable(
        &self,
        file: &str,
        columns: &[(&str, ArrayRef)],
        row_group_rows: usize,
    ) {
        self.write_as(file, columns, row_group_rows, |_| true);
    }

    fn write_as(
        &self,
        file: &str,
        columns: &[(&str, ArrayRef)],
        row_group_rows: usize,
        nullable: impl Fn(&ArrayRef) -> bool,
    ) {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), nullable(array)))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let path = self.0.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(row_group_rows))
            .build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.0.path().join(file)).unwrap();
    }
}

/// The rows of a batch, cell by cell.
pub(crate) fn rows_of(batch: &RecordBatch) -> Vec<Vec<Value>> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(values_of).collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}

fn values_of(array: &ArrayRef) -> Vec<Value> {
    match array.data_type() {
        DataType::UInt64 => {
            let wide = cast(array, &DataType::Decimal128(20, 0)).unwrap();
            let wide = wide.as_primitive::<Decimal128Type>();
            wide.iter().map(Value::int).collect()
        }
        t if t.is_integer() || matches!(t, DataType::Date32) => {
            let wide = cast(&cast(array, &DataType::Int32).unwrap(), &DataType::Int64);
            let wide = match t {
                DataType::Date32 => wide.unwrap(),
                _ => cast(array, &DataType::Int64).unwrap(),
            };
            wide.as_primitive::<Int64Type>()
                .iter()
                .map(Value::int)
                .collect()
        }
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .iter()
            .map(Value::float)
            .collect(),
        t => {
            assert!(t.is_string(), "a published column is {t}");
            let texts = array.as_string::<i32>();
            (0..texts.len())
                .map(|i| match texts.is_valid(i) {
                    true => Value::text(texts.value(i)),
                    false => Value::Null,
                })
                .collect()
        }
    }
}
