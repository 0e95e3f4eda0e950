//! `as_footers_say(value, least, most, place)`: whether rows lie where the footers of their files
//! say.
//!
//! Where a date is in a column, files are left out by the smallest and the largest value that their
//! footers state. A footer that states too little would take rows from a date, so what is read of a
//! file is held against it.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Datum, Scalar};
use datafusion::arrow::compute::kernels::cmp::{gt, lt};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AsFootersSay {
    signature: Signature,
}

impl AsFootersSay {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(4, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for AsFootersSay {
    fn name(&self) -> &'static str {
        "as_footers_say"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    /// True for each row, or an error that names the place.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            values,
            ColumnarValue::Scalar(least),
            ColumnarValue::Scalar(most),
            ColumnarValue::Scalar(place),
        ] = &args.args[..]
        else {
            return internal_err!("as_footers_say takes a column and three constants");
        };
        let values = values.to_array(args.number_rows)?;
        for (end, beyond) in [(least, lt as Beyond), (most, gt as Beyond)] {
            if let Some(outside) = first_outside(&values, end, beyond)? {
                return exec_err!(
                    "a row of {outside} lies outside of {least} to {most}, which the footers of the \
                     files in {place} state: the statistics of one of them are wrong; write its \
                     files anew"
                );
            }
        }
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}

type Beyond = fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>;

fn first_outside(
    values: &ArrayRef,
    end: &ScalarValue,
    beyond: Beyond,
) -> Result<Option<ScalarValue>> {
    let end = end.cast_to(values.data_type())?;
    let outside = beyond(values, &Scalar::new(end.to_array()?))?;
    if !outside.has_true() {
        return Ok(None);
    }
    let row = outside.iter().position(|outside| outside == Some(true));
    row.map(|row| ScalarValue::try_from_array(values, row))
        .transpose()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::TimestampMillisecondArray;
    use datafusion::arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;

    use super::*;

    fn call(values: Vec<Option<i64>>) -> Result<ColumnarValue> {
        let number_rows = values.len();
        let values: ArrayRef = Arc::new(TimestampMillisecondArray::from(values));
        let end = |ms| ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(Some(ms), None));
        let place = ColumnarValue::Scalar(ScalarValue::from("s3://lake/log/"));
        AsFootersSay::new().invoke_with_args(ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(values), end(1_000), end(2_000), place],
            arg_fields: Vec::new(),
            number_rows,
            return_field: Arc::new(Field::new("within", DataType::Boolean, true)),
            config_options: Arc::new(ConfigOptions::default()),
        })
    }

    #[test]
    fn rows_within_pass_and_others_are_named() {
        let within = call(vec![Some(1_000), None, Some(2_000)]).unwrap();
        assert!(matches!(
            within,
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))
        ));
        assert!(call(Vec::new()).is_ok());
        for (outside, shown) in [(999, "999"), (2_001, "2001")] {
            let error = call(vec![Some(1_500), None, Some(outside)]);
            let error = error.unwrap_err().to_string();
            for part in [shown, "s3://lake/log/"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
