//! `dim/performances`: one row a performance, ids in order.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int32Array, StringArray};
use arrow::error::ArrowError;

use crate::catalogue::Performance;
use crate::traffic::World;

/// The columns of some rows.
pub(crate) fn columns(world: &World, rows: Range<u64>) -> Result<Vec<ArrayRef>, ArrowError> {
    // Row numbers start at 0, ids at 1.
    let performances: Vec<Performance> = rows
        .clone()
        .map(|row| world.catalogue.performance(row as u32))
        .collect();
    let texts = |text: fn(&Performance) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(performances.iter().map(text)))
    };
    let days = |day: fn(&Performance) -> i32| -> ArrayRef {
        Arc::new(Date32Array::from_iter_values(performances.iter().map(day)))
    };
    Ok(vec![
        Arc::new(Int32Array::from_iter_values(rows.map(|row| row as i32 + 1))),
        texts(|performance| &performance.title),
        texts(|performance| performance.genre),
        texts(|performance| performance.venue),
        texts(|performance| performance.region),
        days(|performance| performance.opens_day),
        days(|performance| performance.closes_day),
        Arc::new(Int32Array::from_iter_values(
            performances.iter().map(|performance| performance.price_krw),
        )),
    ])
}
