//! Ranks against those of the day before.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use rankmill_engine::rank::RANK_COLUMN;
use rankmill_engine::source::DATE_COLUMN;

use super::shape::{Columns, column};
use crate::spec::RankingSpec;

/// Adds `previous_rank` (null: not ranked the day before) and `rank_change` (places gained;
/// null likewise) to a ranking, given the one of the day before.
pub(crate) fn with_rank_change(
    ranking: &RankingSpec,
    rows: &RecordBatch,
    previous: Option<&RecordBatch>,
) -> Result<RecordBatch, DataFusionError> {
    let today = keys(ranking, rows, rows)?.unwrap_or_default();
    let fields = today.iter().map(|c| SortField::new(c.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut before: HashMap<Vec<u8>, i64> = HashMap::new();
    if let Some(previous) = previous
        && let Some(columns) = keys(ranking, previous, rows)?
        && let Some(ranks) = previous.column_by_name(RANK_COLUMN)
        && ranks.data_type() == &DataType::Int64
    {
        let ranks = ranks.as_primitive::<Int64Type>();
        let keys = converter.convert_columns(&columns)?;
        for (key, rank) in keys.iter().zip(ranks.values()) {
            before.insert(key.as_ref().to_vec(), *rank);
        }
    }
    let ranks = column(rows, RANK_COLUMN)?;
    let ranks = ranks.as_primitive::<Int64Type>();
    let keys = converter.convert_columns(&today)?;
    let previous_ranks: Int64Array = keys
        .iter()
        .map(|key| before.get(key.as_ref()).copied())
        .collect();
    let changes: Int64Array = previous_ranks
        .iter()
        .zip(ranks.values())
        .map(|(previous, rank)| previous.map(|previous| previous - rank))
        .collect();
    let mut columns = Columns::of(rows);
    columns.push("previous_rank", Arc::new(previous_ranks));
    columns.push("rank_change", Arc::new(changes));
    columns.into_batch()
}

/// What identifies a row from one day to the next, in the types of `like`; `None` if a column
/// is missing, as it may be in what an older spec published.
fn keys(
    ranking: &RankingSpec,
    rows: &RecordBatch,
    like: &RecordBatch,
) -> Result<Option<Vec<ArrayRef>>, DataFusionError> {
    let names = ranking.per.iter().filter(|key| *key != DATE_COLUMN);
    let mut columns = Vec::new();
    for name in names.chain([&ranking.item]) {
        let Some(found) = rows.column_by_name(name) else {
            return Ok(None);
        };
        columns.push(cast(found, column(like, name)?.data_type())?);
    }
    Ok(Some(columns))
}
