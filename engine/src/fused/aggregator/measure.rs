//! What is aggregated, and how its states travel.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

/// What is aggregated.
#[derive(Debug, Clone)]
pub(in crate::fused) enum Measure {
    /// Rows.
    Rows,
    /// Rows whose key a dimension doesn't have, by the lookup's number.
    Unmatched(usize),
    /// Rows that a filter lets through, and whose value, if there is one, isn't null.
    Values,
    /// Different values, of the type Int64 or Utf8View.
    Distinct {
        value_type: DataType,
        /// The smallest and the largest, as far as is known before reading.
        bounds: Option<(i64, i64)>,
    },
    /// The largest integer, or what is stored as such; or the smallest.
    Extreme {
        smallest: bool,
        value_type: DataType,
    },
    /// Any other aggregate, by DataFusion's interface.
    Other {
        function: Arc<AggregateFunctionExpr>,
        /// The types of its arguments.
        types: Vec<DataType>,
    },
}

impl Measure {
    /// The columns that carry its state from one step to the next. `counted`: distinct values have
    /// been counted already, each in one task.
    pub(in crate::fused) fn state_fields(&self, at: usize, counted: bool) -> Result<Vec<FieldRef>> {
        let field = |data_type| Arc::new(Field::new(format!("__s{at}"), data_type, true));
        Ok(match self {
            Self::Rows | Self::Unmatched(_) | Self::Values => vec![field(DataType::Int64)],
            Self::Distinct { .. } if counted => vec![field(DataType::Int64)],
            Self::Distinct { value_type, .. } => {
                vec![field(DataType::List(item_field(value_type)))]
            }
            Self::Extreme { value_type, .. } => vec![field(value_type.clone())],
            Self::Other { function, .. } => {
                let fields = function.state_fields()?.into_iter().enumerate();
                let named = fields.map(|(i, field)| {
                    let field = field.as_ref().clone().with_name(format!("__s{at}_{i}"));
                    Arc::new(field.with_nullable(true))
                });
                named.collect()
            }
        })
    }
}

/// Values of a state: views keep all of their buffers in every slice, and a state travels in slices.
pub(in crate::fused) fn state_type(value_type: &DataType) -> DataType {
    match value_type {
        DataType::Utf8View => DataType::LargeUtf8,
        other => other.clone(),
    }
}

fn item_field(value_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(state_type(value_type), true))
}

/// A measure's part of some rows.
pub(in crate::fused) struct Argument {
    /// The values; none for rows and unmatched rows.
    pub(in crate::fused) values: Vec<ArrayRef>,
    /// Rows that count.
    pub(in crate::fused) filter: Option<BooleanArray>,
}

impl Argument {
    /// Rows that count: those that pass, and whose value, if there is one, isn't null. None: all.
    pub(super) fn kept(&self) -> Option<BooleanBuffer> {
        let valid = self
            .values
            .first()
            .and_then(|values| values.logical_nulls());
        let valid = valid.filter(|nulls| nulls.null_count() > 0);
        let passing = self.filter.as_ref().map(|passing| match passing.nulls() {
            None => passing.values().clone(),
            Some(nulls) => passing.values() & nulls.inner(),
        });
        match (valid, passing) {
            (None, passing) => passing,
            (Some(valid), None) => Some(valid.into_inner()),
            (Some(valid), Some(passing)) => Some(valid.inner() & &passing),
        }
    }
}
