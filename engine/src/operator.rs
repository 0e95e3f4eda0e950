//! What operators have in common.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;

/// The input of an operator that has one.
pub(crate) fn only_input(
    operator: &str,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    match <[_; 1]>::try_from(children) {
        Ok([input]) => Ok(input),
        Err(children) => internal_err!("{operator} has one input, not {}", children.len()),
    }
}

/// Whether it is the memory that doesn't suffice.
pub(crate) fn ran_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// Bytes of a batch's rows. Batches are slices of larger ones, whose buffers would count again with
/// each of them.
pub(crate) fn rows_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(column_bytes).sum()
}

fn column_bytes(column: &ArrayRef) -> usize {
    let texts = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    let sliced = column.to_data().get_slice_memory_size();
    texts + sliced.unwrap_or_else(|_| column.get_array_memory_size())
}
