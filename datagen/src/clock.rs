//! When events happen: the days of Asia/Seoul and the curve of traffic within one.

use chrono::{Datelike, NaiveDate, Weekday};

/// Korea has been at UTC+9, without summer time, since 1988.
const KST_OFFSET_US: i64 = 9 * 3_600_000_000;
const DAY_US: i64 = 86_400_000_000;
const MINUTE_US: u64 = 60_000_000;

/// Half-hours: sessions live in one.
pub(crate) const WINDOWS: usize = 48;
const WINDOW_US: i64 = DAY_US / WINDOWS as i64;

/// Relative traffic at each full hour of a Monday to Friday: lowest at 4, lunch, the evening's peak.
const WORKDAY: [u32; 24] = [
    38, 24, 15, 9, 7, 9, 17, 34, 55, 66, 72, 78, 88, 84, 76, 74, 76, 82, 92, 108, 124, 128, 104, 68,
];
/// The same for a weekend: later mornings, fuller afternoons.
const WEEKEND: [u32; 24] = [
    50, 34, 22, 13, 8, 8, 12, 20, 36, 56, 76, 90, 98, 102, 104, 104, 102, 100, 100, 106, 114, 116,
    98, 70,
];
/// Relative rows of a date, Monday first.
const WEEK: [u64; 7] = [88, 86, 90, 96, 112, 134, 124];

/// Fixed-point bits of a position within a day: 0 is its start, 2^60 its end.
pub(crate) const POSITION_BITS: u32 = 60;
const QUANTILE_BITS: u32 = 12;
const FRACTION_BITS: u32 = POSITION_BITS - QUANTILE_BITS;

/// The UTC microsecond at which a KST date starts.
pub(crate) fn day_start_us(date: NaiveDate) -> i64 {
    i64::from(date.to_epoch_days()) * DAY_US - KST_OFFSET_US
}

/// The weekly shape: relative rows of a date.
pub(crate) fn weekday_weight(date: NaiveDate) -> u64 {
    WEEK[date.weekday().num_days_from_monday() as usize]
}

/// The half-hour of the day for microseconds since its start.
#[inline]
pub(crate) fn window(since_start_us: i64) -> usize {
    (since_start_us / WINDOW_US) as usize
}

/// The inverse of a day's cumulative traffic, in integers.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Microseconds since the day's start at each of 4096 equal shares of the traffic, and the end.
    quantiles_us: Vec<u64>,
    /// Cumulative traffic at the start of each half-hour, and the total.
    windows: [u64; WINDOWS + 1],
}

impl Clock {
    pub(crate) fn of(date: NaiveDate) -> Self {
        match date.weekday() {
            Weekday::Sat | Weekday::Sun => Self::new(&WEEKEND),
            _ => Self::new(&WORKDAY),
        }
    }

    fn new(hours: &[u32; 24]) -> Self {
        let minute = |m: usize| {
            let (hour, past) = (m / 60, m as u64 % 60);
            u64::from(hours[hour]) * (60 - past) + u64::from(hours[(hour + 1) % 24]) * past
        };
        let mut sums = vec![0];
        for m in 0..1440 {
            sums.push(sums[m] + minute(m));
        }
        let total = sums[1440];
        let quantiles_us = (0..=1_u64 << QUANTILE_BITS)
            .map(|q| {
                let target = (total * q) >> QUANTILE_BITS;
                let m = sums.partition_point(|&sum| sum <= target) - 1;
                if m == 1440 {
                    return DAY_US as u64;
                }
                m as u64 * MINUTE_US + (target - sums[m]) * MINUTE_US / minute(m)
            })
            .collect();
        Self {
            quantiles_us,
            windows: std::array::from_fn(|w| sums[w * 1440 / WINDOWS]),
        }
    }

    /// Microseconds since the day's start for a position in `0..2^60`; never falls as the position rises.
    #[inline]
    pub(crate) fn at(&self, position: u64) -> i64 {
        let quantile = (position >> FRACTION_BITS) as usize;
        let fraction = (position >> (FRACTION_BITS - 32)) & 0xFFFF_FFFF;
        let (low, high) = (self.quantiles_us[quantile], self.quantiles_us[quantile + 1]);
        (low + (((high - low) * fraction) >> 32)) as i64
    }

    /// How many of a day's `rows` fall into a half-hour, rounded up.
    pub(crate) fn window_rows(&self, window: usize, rows: u64) -> u64 {
        let share = u128::from(self.windows[window + 1] - self.windows[window]);
        let total = u128::from(self.windows[WINDOWS]);
        (share * u128::from(rows)).div_ceil(total) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_starts_at_15_utc_of_the_eve() {
        let date = NaiveDate::from_ymd_opt(1970, 1, 2).unwrap();
        assert_eq!(day_start_us(date), 15 * 3_600_000_000);
    }

    #[test]
    fn time_is_monotone_and_within_the_day() {
        for date in ["2026-06-05", "2026-06-06"] {
            let clock = Clock::of(date.parse().unwrap());
            let mut last = 0;
            for step in 0..100_000_u64 {
                let at = clock.at(step * ((1 << POSITION_BITS) / 100_000));
                assert!(at >= last);
                last = at;
            }
            assert_eq!(clock.at(0), 0);
            let end = clock.at((1 << POSITION_BITS) - 1);
            assert!((DAY_US - 120_000_000..DAY_US).contains(&end), "{end}");
        }
    }

    #[test]
    fn evenings_peak_and_nights_dip() {
        let clock = Clock::new(&WORKDAY);
        let rows = |hour: usize| clock.window_rows(hour * 2, 1_000_000);
        let (night, noon, evening) = (rows(4), rows(12), rows(21));
        assert!(
            night * 5 < noon && noon < evening,
            "{night} {noon} {evening}"
        );
        // The curve and the half-hours' shares are the same thing.
        let in_evening = (0..100_000_u64)
            .filter(|i| window(clock.at(i * ((1 << POSITION_BITS) / 100_000))) == 42)
            .count() as u64;
        assert!((in_evening * 10).abs_diff(evening) < evening / 50);
    }
}
