//! Brings a plan's rows into the published form.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use rankmill_engine::rank::RANK_COLUMN;
use rankmill_engine::source::DATE_COLUMN;

use crate::compile::{NULL_ITEMS, ROWS, RUN_DATE};
use crate::spec::{RankingSpec, Spec};

type Result<T> = std::result::Result<T, DataFusionError>;

/// What a ranking's plan says of all rows of a date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Rows that `where` let through.
    pub(crate) rows: u64,
    /// Rows without an item.
    pub(crate) null_items: u64,
    /// For each lookup, rows whose key the dimension doesn't have.
    pub(crate) unmatched: Vec<u64>,
}

/// The ranked rows of one date (in the plan's columns and the labels'), in the published columns
/// and their order.
pub(crate) fn published_rows(
    spec: &Spec,
    ranking: &RankingSpec,
    rows: &RecordBatch,
    date: NaiveDate,
) -> Result<RecordBatch> {
    let run_dates = column(rows, RUN_DATE)?;
    let days = (date - NaiveDate::default()).num_days() as i32;
    let of_date: BooleanArray = run_dates
        .as_primitive::<Date32Type>()
        .iter()
        .map(|run_date| Some(run_date == Some(days)))
        .collect();
    let rows = filter_record_batch(rows, &of_date)?;
    let mut published = Columns::default();
    for key in &ranking.per {
        if key == DATE_COLUMN {
            let text = vec![date.to_string(); rows.num_rows()];
            published.push(key, Arc::new(StringArray::from(text)));
        } else {
            published.push(key, plain(&column(&rows, key)?)?);
        }
    }
    published.push(RANK_COLUMN, column(&rows, RANK_COLUMN)?);
    published.push(&ranking.item, plain(&column(&rows, &ranking.item)?)?);
    let labels = spec.labels.iter().flat_map(|labels| &labels.columns);
    for name in labels.chain(ranking.measures.keys()) {
        published.push(name, plain(&column(&rows, name)?)?);
    }
    published.into_batch()
}

/// One batch of a query's result, in types that every reader of Parquet knows.
pub(crate) fn query_rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let rows = concat_batches(schema, batches)?;
    let mut published = Columns::default();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        published.push(field.name(), plain(column)?);
    }
    published.into_batch()
}

/// Splits the rows of totals (rank 0) off a ranking plan's output.
pub(crate) fn take_totals(
    rows: &RecordBatch,
    unmatched: &[String],
) -> Result<(RecordBatch, BTreeMap<NaiveDate, Totals>)> {
    let ranks = column(rows, RANK_COLUMN)?;
    let ranks = ranks.as_primitive::<Int64Type>();
    let is_ranked: BooleanArray = ranks.iter().map(|rank| Some(rank != Some(0))).collect();
    let dates = column(rows, RUN_DATE)?;
    let dates = dates.as_primitive::<Date32Type>();
    let mut totals = BTreeMap::new();
    for row in (0..rows.num_rows()).filter(|row| !is_ranked.value(*row)) {
        let number = |name: &str| -> Result<u64> {
            Ok(column(rows, name)?.as_primitive::<Int64Type>().value(row) as u64)
        };
        let of_date = Totals {
            rows: number(ROWS)?,
            null_items: number(NULL_ITEMS)?,
            unmatched: unmatched
                .iter()
                .map(|name| number(name))
                .collect::<Result<_>>()?,
        };
        // Rows without a date count for no ranking.
        if dates.is_valid(row) {
            let days = TimeDelta::days(dates.value(row).into());
            totals.insert(NaiveDate::default() + days, of_date);
        }
    }
    Ok((filter_record_batch(rows, &is_ranked)?, totals))
}

/// The columns of a result, all nullable, in order.
#[derive(Default)]
pub(super) struct Columns {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Columns {
    pub(super) fn of(rows: &RecordBatch) -> Self {
        let mut columns = Self::default();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            columns.push(field.name(), Arc::clone(column));
        }
        columns
    }

    pub(super) fn push(&mut self, name: &str, column: ArrayRef) {
        let field = Field::new(name, column.data_type().clone(), true);
        self.fields.push(field);
        self.columns.push(column);
    }

    pub(super) fn into_batch(self) -> Result<RecordBatch> {
        let schema = Arc::new(Schema::new(self.fields));
        Ok(RecordBatch::try_new(schema, self.columns)?)
    }
}

/// A column by name.
pub(super) fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let column = rows.column_by_name(name).map(Arc::clone);
    column.ok_or_else(|| {
        datafusion::common::internal_datafusion_err!("the result lacks the column '{name}'")
    })
}

/// Texts as plain texts, not views or dictionaries.
fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    let wanted = match column.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) if values.is_string() => DataType::Utf8,
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        _ => return Ok(Arc::clone(column)),
    };
    Ok(cast(column, &wanted)?)
}
