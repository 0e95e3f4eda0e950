//! `within_stated(value, start, end, least, most, place)`: whether rows lie from `start` up to `end`;
//! an error for one beyond `least` or `most`, which the footers of its files state.
//!
//! Where a date is in a column, files are left out by the smallest and the largest value that their
//! footers state. A footer that states too little would take rows from a date, so what is read of a
//! file is held against it. One function for both: of two conditions the optimizer puts the cheaper
//! first, and the other doesn't see all rows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Datum, Scalar};
use datafusion::arrow::compute::and;
use datafusion::arrow::compute::kernels::cmp::{gt, gt_eq, lt};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WithinStated {
    signature: Signature,
}

impl WithinStated {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(6, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WithinStated {
    fn name(&self) -> &'static str {
        "within_stated"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            values,
            ColumnarValue::Scalar(start),
            ColumnarValue::Scalar(end),
            ColumnarValue::Scalar(least),
            ColumnarValue::Scalar(most),
            ColumnarValue::Scalar(place),
        ] = &args.args[..]
        else {
            return internal_err!("within_stated takes a column and five constants");
        };
        let values = values.to_array(args.number_rows)?;
        for (stated, beyond) in [(least, lt as Compare), (most, gt as Compare)] {
            let outside = compare(&values, beyond, stated)?;
            if outside.has_true() {
                let row = outside.iter().position(|outside| outside == Some(true));
                let outside = ScalarValue::try_from_array(&values, row.unwrap_or_default())?;
                let text = |value: &ScalarValue| value.cast_to(&DataType::Utf8);
                let (outside, least, most) = (text(&outside)?, text(least)?, text(most)?);
                return exec_err!(
                    "a row of {outside} lies outside of {least} to {most}, which the footers of the \
                     files in {place} state: the statistics of one of them are wrong; write its \
                     files anew"
                );
            }
        }
        let after = compare(&values, gt_eq, start)?;
        let before = compare(&values, lt, end)?;
        Ok(ColumnarValue::Array(Arc::new(and(&after, &before)?)))
    }
}

type Compare = fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>;

fn compare(values: &ArrayRef, how: Compare, with: &ScalarValue) -> Result<BooleanArray> {
    let with = with.cast_to(values.data_type())?;
    Ok(how(values, &Scalar::new(with.to_array()?))?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, TimestampMillisecondArray};
    use datafusion::arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;

    use super::*;

    /// From 1,500 up to 1,900; the footers say from 1,000 to 2,000.
    fn call(values: Vec<Option<i64>>) -> Result<Vec<Option<bool>>> {
        let number_rows = values.len();
        let values: ArrayRef = Arc::new(TimestampMillisecondArray::from(values));
        let ends = [1_500, 1_900, 1_000, 2_000];
        let ends = ends.map(|ms| ScalarValue::TimestampMillisecond(Some(ms), None));
        let constants = ends
            .into_iter()
            .chain([ScalarValue::from("s3://lake/log/")]);
        let args = std::iter::once(ColumnarValue::Array(values))
            .chain(constants.map(ColumnarValue::Scalar));
        let found = WithinStated::new().invoke_with_args(ScalarFunctionArgs {
            args: args.collect(),
            arg_fields: Vec::new(),
            number_rows,
            return_field: Arc::new(Field::new("within", DataType::Boolean, true)),
            config_options: Arc::new(ConfigOptions::default()),
        })?;
        Ok(found.to_array(number_rows)?.as_boolean().iter().collect())
    }

    #[test]
    fn rows_beyond_what_is_stated_are_named() {
        let times = [1_000, 1_499, 1_500, 1_899, 1_900, 2_000].map(Some);
        let times = times.into_iter().chain([None]).collect();
        let within = [false, false, true, true, false, false].map(Some);
        let within: Vec<_> = within.into_iter().chain([None]).collect();
        assert_eq!(call(times).unwrap(), within);
        assert_eq!(call(Vec::new()).unwrap(), []);
        for (outside, shown) in [
            (999, "1970-01-01T00:00:00.999"),
            (2_001, "1970-01-01T00:00:02.001"),
        ] {
            let error = call(vec![Some(1_500), None, Some(outside)]);
            let error = error.unwrap_err().to_string();
            for part in [shown, "s3://lake/log/"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
