//! `dim/users`: one row a user, ids in order.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray};
use arrow::error::ArrowError;

use crate::traffic::World;

/// The columns of some rows.
pub(crate) fn columns(world: &World, rows: Range<u64>) -> Result<Vec<ArrayRef>, ArrowError> {
    // Row numbers start at 0, ids at 1.
    let profiles: Vec<_> = rows
        .clone()
        .map(|row| world.population.profile(row as u32 + 1))
        .collect();
    Ok(vec![
        Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64 + 1))),
        Arc::new(Date32Array::from_iter(
            profiles.iter().map(|user| user.birth_day),
        )),
        Arc::new(StringArray::from_iter(
            profiles.iter().map(|user| user.gender),
        )),
        Arc::new(StringArray::from_iter_values(
            profiles.iter().map(|user| user.region),
        )),
        Arc::new(Date32Array::from_iter_values(
            profiles.iter().map(|user| user.signed_up_day),
        )),
    ])
}
