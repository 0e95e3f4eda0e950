//! What operators have in common.

use std::sync::Arc;

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
