//! `local_date(timestamp, zone)`: the calendar date of an instant in a time zone.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone as _, Utc};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// A time zone of the IANA database, by name: `Asia/Seoul`.
pub type TimeZone = chrono_tz::Tz;

/// Why a name is no time zone.
pub type TimeZoneError = chrono_tz::ParseError;

const DAY_US: i64 = 86_400_000_000;

/// The first microsecond of a date in a zone and of the next date, since 1970-01-01T00:00Z. A
/// day that the zone skips is empty; days of 23 and 25 hours come out as such.
pub fn day_bounds_us(date: NaiveDate, zone: TimeZone) -> (i64, i64) {
    let next = date.succ_opt().unwrap_or(NaiveDate::MAX);
    (day_start_us(date, zone), day_start_us(next, zone))
}

fn day_start_us(date: NaiveDate, zone: TimeZone) -> i64 {
    let midnight = date.and_time(NaiveTime::MIN);
    if let Some(start) = zone.from_local_datetime(&midnight).earliest() {
        return start.timestamp_micros();
    }
    // Midnight itself is skipped (clocks go forward at 0:00): the day starts at the jump, which
    // is where the offset in force before it puts midnight.
    let before = midnight - TimeDelta::hours(24);
    let offset = zone
        .offset_from_local_datetime(&before)
        .earliest()
        .map_or(0, |offset| offset.fix().local_minus_utc());
    (midnight - TimeDelta::seconds(i64::from(offset)))
        .and_utc()
        .timestamp_micros()
}

/// Days since 1970-01-01 of the local date, and the span of instants around it for which the
/// answer is the same.
fn local_day(instant_us: i64, zone: TimeZone) -> Option<(i32, i64, i64)> {
    let instant: DateTime<Utc> = DateTime::from_timestamp_micros(instant_us)?;
    let date = instant.with_timezone(&zone).date_naive();
    let epoch = NaiveDate::default();
    let days = i32::try_from(date.signed_duration_since(epoch).num_days()).ok()?;
    let (start, end) = day_bounds_us(date, zone);
    // Where a zone repeats or skips days the span may not hold the instant: then it is no help.
    if (start..end).contains(&instant_us) {
        Some((days, start, end))
    } else {
        Some((days, instant_us, instant_us + 1))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalDate {
    signature: Signature,
}

impl LocalDate {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for LocalDate {
    fn name(&self) -> &str {
        "local_date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        match arg_types {
            [DataType::Date32 | DataType::Date64, zone] if zone.is_string() => {
                Ok(vec![DataType::Date32, DataType::Utf8])
            }
            // A timestamp without a zone is UTC.
            [DataType::Timestamp(_, _), zone] if zone.is_string() => Ok(vec![utc, DataType::Utf8]),
            [text, zone] if text.is_string() && zone.is_string() => Ok(vec![utc, DataType::Utf8]),
            [t, _] => plan_err!("local_date takes a timestamp, a date or a text of one, not {t}"),
            _ => plan_err!("local_date takes a timestamp and the name of a time zone"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) = &args.args[1] else {
            return plan_err!("the time zone of local_date must be a constant");
        };
        let zone: TimeZone = zone
            .parse()
            .map_err(|_| exec_datafusion_err!("'{zone}' is not a time zone"))?;
        let instants = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(local_dates(&instants, zone)?))
    }
}

fn local_dates(instants: &ArrayRef, zone: TimeZone) -> Result<ArrayRef> {
    if instants.data_type() == &DataType::Date32 {
        return Ok(Arc::clone(instants));
    }
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let instants = cast(instants, &utc)?;
    let instants = instants.as_primitive::<TimestampMicrosecondType>();
    // Log rows lie close together in time: most have the date of the row before.
    let (mut days, mut start, mut end) = (0, 0, 0);
    let mut dates = Vec::with_capacity(instants.len());
    for instant in instants {
        let Some(instant) = instant else {
            dates.push(None);
            continue;
        };
        if !(start..end).contains(&instant) {
            (days, start, end) = local_day(instant, zone).ok_or_else(|| {
                exec_datafusion_err!(
                    "a timestamp of {} days since 1970 has no calendar date",
                    instant / DAY_US
                )
            })?;
        }
        dates.push(Some(days));
    }
    Ok(Arc::new(Date32Array::from(dates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(date: &str, zone: &str) -> (String, String) {
        let (start, end) = day_bounds_us(date.parse().unwrap(), zone.parse().unwrap());
        let text = |us| {
            DateTime::from_timestamp_micros(us)
                .unwrap()
                .format("%dT%H:%M")
                .to_string()
        };
        (text(start), text(end))
    }

    #[test]
    fn days_of_23_24_and_25_hours() {
        let check = |date, zone, start: &str, end: &str| {
            assert_eq!(
                bounds(date, zone),
                (start.into(), end.into()),
                "{date} {zone}"
            );
        };
        check("2026-11-21", "Asia/Seoul", "20T15:00", "21T15:00");
        check("2026-03-29", "Europe/Berlin", "28T23:00", "29T22:00");
        check("2026-10-25", "Europe/Berlin", "24T22:00", "25T23:00");
        // Midnight does not exist: clocks in Cairo go from 0:00 to 1:00.
        check("2026-04-24", "Africa/Cairo", "23T22:00", "24T21:00");
        // Midnight comes twice: the day begins with the first.
        check("2026-11-01", "America/Havana", "01T04:00", "02T05:00");
    }

    #[test]
    fn every_hour_agrees_with_chrono() {
        for zone in [
            "Asia/Seoul",
            "Europe/Berlin",
            "Africa/Cairo",
            "Pacific/Apia",
            "America/Havana",
        ] {
            let zone: TimeZone = zone.parse().unwrap();
            for start in ["2011-12-28", "2026-03-01", "2026-10-20"] {
                let date: NaiveDate = start.parse().unwrap();
                let first = date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
                let instants: Vec<i64> = (0..60 * 24).map(|h| first + h * 3_600_000_000).collect();
                let array: ArrayRef = Arc::new(
                    datafusion::arrow::array::TimestampMicrosecondArray::from(instants.clone()),
                );
                let dates = local_dates(&array, zone).unwrap();
                let dates = dates.as_primitive::<datafusion::arrow::datatypes::Date32Type>();
                for (instant, got) in instants.iter().zip(dates.values()) {
                    let expected = DateTime::from_timestamp_micros(*instant)
                        .unwrap()
                        .with_timezone(&zone)
                        .date_naive();
                    assert_eq!(
                        NaiveDate::default() + TimeDelta::days(i64::from(*got)),
                        expected
                    );
                }
            }
        }
    }
}
