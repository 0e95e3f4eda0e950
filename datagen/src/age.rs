//! Age bands: the definition that the engine's `age_band(birth_date, date)` follows too.

use std::fmt;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

/// The age, in full years, above which a birth date is not believed.
const MAX_AGE: i32 = 120;

/// A band of ages on a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AgeBand {
    /// 0 to 9.
    #[serde(rename = "under-10")]
    Under10,
    /// 10 to 19.
    #[serde(rename = "10s")]
    Teens,
    /// 20 to 29.
    #[serde(rename = "20s")]
    Twenties,
    /// 30 to 39.
    #[serde(rename = "30s")]
    Thirties,
    /// 40 to 49.
    #[serde(rename = "40s")]
    Forties,
    /// 50 to 59.
    #[serde(rename = "50s")]
    Fifties,
    /// 60 to 69.
    #[serde(rename = "60s")]
    Sixties,
    /// 70 to 120.
    #[serde(rename = "70+")]
    SeventyUp,
    /// No birth date, one in the future, or one more than 120 years ago.
    #[serde(rename = "unknown")]
    Unknown,
}

impl AgeBand {
    /// All bands, youngest first, `Unknown` last.
    pub const ALL: [Self; 9] = [
        Self::Under10,
        Self::Teens,
        Self::Twenties,
        Self::Thirties,
        Self::Forties,
        Self::Fifties,
        Self::Sixties,
        Self::SeventyUp,
        Self::Unknown,
    ];

    /// The band's name, as the engine prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Under10 => "under-10",
            Self::Teens => "10s",
            Self::Twenties => "20s",
            Self::Thirties => "30s",
            Self::Forties => "40s",
            Self::Fifties => "50s",
            Self::Sixties => "60s",
            Self::SeventyUp => "70+",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for AgeBand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The band of someone's age on a date, in full years of the proleptic Gregorian calendar. Who was born on
/// February 29 turns a year older on March 1 in common years.
///
/// ```
/// use chrono::NaiveDate;
/// use rankmill_datagen::{AgeBand, age_band};
///
/// let born = NaiveDate::from_ymd_opt(2004, 2, 29);
/// let eve = NaiveDate::from_ymd_opt(2034, 2, 28).unwrap();
/// assert_eq!(age_band(born, eve), AgeBand::Twenties);
/// assert_eq!(age_band(born, eve.succ_opt().unwrap()), AgeBand::Thirties);
/// assert_eq!(age_band(None, eve), AgeBand::Unknown);
/// ```
#[must_use]
pub fn age_band(birth_date: Option<NaiveDate>, date: NaiveDate) -> AgeBand {
    let Some(born) = birth_date else {
        return AgeBand::Unknown;
    };
    let reached = (date.month(), date.day()) >= (born.month(), born.day());
    let age = date.year() - born.year() - i32::from(!reached);
    match age {
        0..=9 => AgeBand::Under10,
        10..=19 => AgeBand::Teens,
        20..=29 => AgeBand::Twenties,
        30..=39 => AgeBand::Thirties,
        40..=49 => AgeBand::Forties,
        50..=59 => AgeBand::Fifties,
        60..=69 => AgeBand::Sixties,
        70..=MAX_AGE => AgeBand::SeventyUp,
        _ => AgeBand::Unknown,
    }
}

/// The bands of one date as day numbers, for millions of users: no calendar arithmetic per user.
#[derive(Debug)]
pub(crate) struct Bands {
    /// For 0, 10, …, 70 and 121 years: the last day of birth (days since 1970) of someone that old.
    last_births: [i32; 9],
}

impl Bands {
    pub(crate) fn on(date: NaiveDate) -> Self {
        let ages = [0, 10, 20, 30, 40, 50, 60, 70, MAX_AGE + 1];
        let last_births = ages.map(|age| {
            let year = date.year() - age;
            // Only February 29 may be missing in that year: its eve is then the last day.
            NaiveDate::from_ymd_opt(year, date.month(), date.day())
                .or_else(|| NaiveDate::from_ymd_opt(year, 2, 28))
                .map_or(i32::MIN, |day| day.to_epoch_days())
        });
        Self { last_births }
    }

    /// Index into [`AgeBand::ALL`] for a day of birth (days since 1970).
    #[inline]
    pub(crate) fn index(&self, birth_day: Option<i32>) -> u8 {
        let unknown = AgeBand::Unknown as u8;
        let Some(born) = birth_day else {
            return unknown;
        };
        // 0 = not born yet, 9 = too old to be true.
        let reached = self
            .last_births
            .iter()
            .filter(|&&last| born <= last)
            .count() as u8;
        if (1..=8).contains(&reached) {
            reached - 1
        } else {
            unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn check(born: &str, date: &str, expected: &str) {
        let (born, date) = (day(born), day(date));
        assert_eq!(age_band(Some(born), date).as_str(), expected);
        let index = Bands::on(date).index(Some(born.to_epoch_days()));
        assert_eq!(AgeBand::ALL[usize::from(index)].as_str(), expected);
    }

    #[test]
    fn birthdays_and_leap_days() {
        check("2016-06-02", "2026-06-01", "under-10");
        check("2016-06-01", "2026-06-01", "10s");
        check("2026-06-01", "2026-06-01", "under-10");
        check("2026-06-02", "2026-06-01", "unknown");
        check("2050-01-01", "2026-06-01", "unknown");
        check("1956-06-01", "2026-06-01", "70+");
        check("1956-06-02", "2026-06-01", "60s");
        check("1905-06-02", "2026-06-01", "70+");
        check("1905-06-01", "2026-06-01", "unknown");
        check("1890-01-01", "2026-06-01", "unknown");
        check("2004-02-29", "2034-02-28", "20s");
        check("2004-02-29", "2034-03-01", "30s");
        check("2004-02-29", "2024-02-28", "10s");
        check("2004-02-29", "2024-02-29", "20s");
        check("2014-03-01", "2024-02-29", "under-10");
        check("2014-02-28", "2024-02-29", "10s");
        check("1903-03-01", "2024-02-29", "70+");
        check("1903-02-28", "2024-02-29", "unknown");
    }

    #[test]
    fn the_table_agrees_with_the_definition() {
        for date in ["2023-02-28", "2024-02-29", "2025-03-01", "2026-12-31"].map(day) {
            let bands = Bands::on(date);
            assert_eq!(bands.index(None), AgeBand::Unknown as u8);
            for back in -400..50_000 {
                let born =
                    date - chrono::Days::new(50_000) + chrono::Days::new((50_000 - back) as u64);
                let expected = age_band(Some(born), date) as u8;
                assert_eq!(
                    bands.index(Some(born.to_epoch_days())),
                    expected,
                    "{born} {date}"
                );
            }
        }
    }

    #[test]
    fn names_are_the_json_names() {
        for band in AgeBand::ALL {
            assert_eq!(serde_json::to_string(&band).unwrap(), format!("\"{band}\""));
        }
    }
}
