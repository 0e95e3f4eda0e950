//! From the rows of a plan to a result as it is published.

mod encode;
mod labels;
mod rank_change;
mod shape;
mod verify;

pub(crate) use encode::{encode_json, encode_parquet, read_parquet};
pub(crate) use labels::attach_labels;
pub(crate) use rank_change::with_rank_change;
pub(crate) use shape::{Totals, published_rows, query_rows, take_totals};
pub(crate) use verify::{verify_key, verify_ranking};
