//! Which days a file may have rows of, where the date is in a column.

use chrono::{DateTime, NaiveDate, TimeDelta};
use datafusion::common::ScalarValue;
use rankmill_engine::functions::{TimeZone, day_bounds_us};

/// The smallest and the largest value of a file's date column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Microseconds since 1970-01-01T00:00Z, rounded down.
    Instants(i64, i64),
    /// Dates.
    Days(NaiveDate, NaiveDate),
    /// The file doesn't say.
    Unknown,
}

impl Span {
    pub(super) fn of(min: &ScalarValue, max: &ScalarValue) -> Self {
        match (min, max) {
            (ScalarValue::Date32(Some(min)), ScalarValue::Date32(Some(max))) => {
                match (day(*min), day(*max)) {
                    (Some(min), Some(max)) => Self::Days(min, max),
                    _ => Self::Unknown,
                }
            }
            (min, max) => match (instant_us(min), instant_us(max)) {
                (Some(min), Some(max)) => Self::Instants(min, max),
                _ => Self::Unknown,
            },
        }
    }

    /// Whether the file may have rows of the days `first..=last`.
    pub(super) fn touches(self, first: NaiveDate, last: NaiveDate, zone: TimeZone) -> bool {
        match self {
            Self::Instants(min, max) => {
                max >= day_bounds_us(first, zone).0 && min < day_bounds_us(last, zone).1
            }
            Self::Days(min, max) => max >= first && min <= last,
            Self::Unknown => true,
        }
    }

    /// Whether the file has a row of a day for certain: its first or its last.
    pub(super) fn surely_has(self, day: NaiveDate, zone: TimeZone) -> bool {
        match self {
            Self::Instants(min, max) => {
                let (start, end) = day_bounds_us(day, zone);
                let on_day = |us: i64| {
                    let at = DateTime::from_timestamp_micros(us);
                    let date = at.map(|at| at.with_timezone(&zone).date_naive());
                    (start..end).contains(&us) && date == Some(day)
                };
                on_day(min) || on_day(max)
            }
            Self::Days(min, max) => min == day || max == day,
            Self::Unknown => false,
        }
    }
}

fn day(days_since_1970: i32) -> Option<NaiveDate> {
    let days = TimeDelta::try_days(days_since_1970.into())?;
    NaiveDate::default().checked_add_signed(days)
}

/// Microseconds since 1970 of a timestamp, rounded down.
fn instant_us(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampSecond(Some(v), _) => v.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(v), _) => v.checked_mul(1_000),
        ScalarValue::TimestampMicrosecond(Some(v), _) => Some(*v),
        ScalarValue::TimestampNanosecond(Some(v), _) => Some(v.div_euclid(1_000)),
        _ => None,
    }
}
