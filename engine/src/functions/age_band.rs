//! `age_band(birth_date, date)`: the decade of life somebody is in on a date.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Date32Type};
use datafusion::common::Result;
use datafusion::common::cast::as_date32_array;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

const DAYS_FROM_CE_TO_EPOCH: i32 = 719_163;

/// The band of an age in full years: `under-10`, `10s` … `60s`, `70+`. `None` for a birth after
/// the date or more than 120 years before it. Days count from 1970-01-01, as Arrow's Date32;
/// born on February 29, one is a year older on March 1 of other years.
pub fn age_band_of(birth_days: i32, date_days: i32) -> Option<&'static str> {
    let (birth, date) = (civil(birth_days)?, civil(date_days)?);
    band(birth, date)
}

fn civil(days: i32) -> Option<(i32, u32)> {
    let date = NaiveDate::from_num_days_from_ce_opt(days.checked_add(DAYS_FROM_CE_TO_EPOCH)?)?;
    Some((date.year(), date.month() * 100 + date.day()))
}

fn band(birth: (i32, u32), date: (i32, u32)) -> Option<&'static str> {
    const BANDS: [&str; 8] = ["under-10", "10s", "20s", "30s", "40s", "50s", "60s", "70+"];
    let age = date.0 - birth.0 - i32::from(date.1 < birth.1);
    (0..=120)
        .contains(&age)
        .then(|| BANDS[(age as usize / 10).min(7)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AgeBand {
    signature: Signature,
}

impl AgeBand {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::exact(
                vec![DataType::Date32, DataType::Date32],
                Volatility::Immutable,
            ),
        }
    }
}

impl ScalarUDFImpl for AgeBand {
    fn name(&self) -> &str {
        "age_band"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let births = as_date32_array(&arrays[0])?;
        let dates = arrays[1].as_primitive::<Date32Type>();
        // The dates of a batch are nearly always one date.
        let mut last_date = (i32::MIN, None);
        let mut bands = StringViewBuilder::with_capacity(births.len());
        for i in 0..births.len() {
            if births.is_null(i) || dates.is_null(i) {
                bands.append_null();
                continue;
            }
            if last_date.0 != dates.value(i) {
                last_date = (dates.value(i), civil(dates.value(i)));
            }
            let birth = civil(births.value(i));
            bands.append_option(birth.zip(last_date.1).and_then(|(b, d)| band(b, d)));
        }
        Ok(ColumnarValue::Array(Arc::new(bands.finish()) as ArrayRef))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(date: &str) -> i32 {
        let date: NaiveDate = date.parse().unwrap();
        date.num_days_from_ce() - DAYS_FROM_CE_TO_EPOCH
    }

    #[test]
    fn bands() {
        let check = |birth: &str, date: &str, expected: Option<&str>| {
            assert_eq!(
                age_band_of(days(birth), days(date)),
                expected,
                "{birth} on {date}"
            );
        };
        check("2000-06-15", "2026-06-14", Some("20s"));
        check("1996-06-15", "2026-06-14", Some("20s"));
        check("1996-06-15", "2026-06-15", Some("30s"));
        check("2016-02-29", "2026-02-28", Some("under-10"));
        check("2016-02-29", "2026-03-01", Some("10s"));
        check("2026-01-01", "2026-01-01", Some("under-10"));
        check("2026-01-02", "2026-01-01", None);
        check("1956-01-01", "2026-01-01", Some("70+"));
        check("1906-01-01", "2026-12-31", Some("70+"));
        check("1905-12-31", "2026-12-31", None);
        assert_eq!(age_band_of(i32::MAX, 0), None);
        assert_eq!(age_band_of(i32::MIN, 0), None);
    }
}
