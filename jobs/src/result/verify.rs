//! Checks on a result before it is published.

use std::collections::HashSet;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use rankmill_engine::rank::RANK_COLUMN;

use super::shape::column;
use crate::spec::RankingSpec;

type Verdict = Result<Option<String>, DataFusionError>;

/// Every group is numbered 1, 2, … without a hole, no longer than `top`, and names an item
/// once. Returns what is wrong.
pub(crate) fn verify_ranking(ranking: &RankingSpec, rows: &RecordBatch) -> Verdict {
    let ranks = column(rows, RANK_COLUMN)?;
    let ranks = ranks.as_primitive::<Int64Type>();
    let groups = key_bytes(rows, &ranking.per)?;
    let mut last: Option<(&Vec<u8>, i64)> = None;
    let mut begun: HashSet<&Vec<u8>> = HashSet::new();
    for (row, (group, rank)) in groups.iter().zip(ranks.values()).enumerate() {
        let expected = match last {
            Some((previous, rank)) if previous == group => rank + 1,
            _ => 1,
        };
        if expected == 1 && !begun.insert(group) {
            return Ok(Some(format!("row {row} takes up a group that had ended")));
        }
        if *rank != expected || *rank > i64::from(ranking.top) {
            let wrong = format!("row {row} has rank {rank} where {expected} belongs");
            return Ok(Some(wrong));
        }
        last = Some((group, *rank));
    }
    let mut key = ranking.per.clone();
    key.push(ranking.item.clone());
    verify_key(rows, &key)
}

/// No two rows agree in all columns of the key. Returns what is wrong.
pub(crate) fn verify_key(rows: &RecordBatch, key: &[String]) -> Verdict {
    if let Some(missing) = key.iter().find(|name| rows.column_by_name(name).is_none()) {
        let wrong = format!("the key's column '{missing}' is not in the result");
        return Ok(Some(wrong));
    }
    let keys = key_bytes(rows, key)?;
    let mut seen = HashSet::with_capacity(keys.len());
    let twice = keys.iter().position(|key| !seen.insert(key));
    Ok(twice.map(|row| {
        let key = key.join(", ");
        format!("row {row} has the same key ({key}) as a row before it")
    }))
}

fn key_bytes(rows: &RecordBatch, names: &[String]) -> Result<Vec<Vec<u8>>, DataFusionError> {
    if names.is_empty() {
        return Ok(vec![Vec::new(); rows.num_rows()]);
    }
    let columns: Vec<ArrayRef> = names
        .iter()
        .map(|name| column(rows, name))
        .collect::<Result<_, _>>()?;
    let fields = columns
        .iter()
        .map(|c| SortField::new(c.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let keys = converter.convert_columns(&columns)?;
    Ok(keys.iter().map(|key| key.as_ref().to_vec()).collect())
}
