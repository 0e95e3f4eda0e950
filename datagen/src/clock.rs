//! When events happen: the days of Asia/Seoul and the curve of traffic within one.

use chrono::{Datelike, NaiveDate, Weekday};

use crate::random::mix;

/// Korea has been at UTC+9, without summer time, since 1988.
const KST_OFFSET_US: i64 = 9 * 3_600_000_000;
pub(crate) const DAY_US: i64 = 86_400_000_000;
const MINUTE_US: u64 = 60_000_000;
const MINUTES: usize = 1440;

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
const WEEK_MEAN: u64 = 104;

/// Fixed-point bits of a position within a day: 0 is its start, 2^60 its end.
pub(crate) const POSITION_BITS: u32 = 60;
const QUANTILE_BITS: u32 = 13;
const FRACTION_BITS: u32 = POSITION_BITS - QUANTILE_BITS;

/// The UTC microsecond at which a KST date starts.
pub(crate) fn day_start_us(date: NaiveDate) -> i64 {
    i64::from(date.to_epoch_days()) * DAY_US - KST_OFFSET_US
}

/// The weekly shape, so much of it: relative rows of a date.
pub(crate) fn weekday_weight(date: NaiveDate, curve: f64) -> u64 {
    let weight = WEEK[date.weekday().num_days_from_monday() as usize];
    blend(WEEK_MEAN, weight, curve)
}

/// Between `even` (a share of 0) and `shaped` (1), in whole numbers a thousand times finer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 ≤ share ≤ 1"
)]
pub(crate) fn blend(even: u64, shaped: u64, share: f64) -> u64 {
    let share = (share * 1000.0) as u64;
    even * (1000 - share) + shaped * share
}

/// The half-hour of the day for microseconds since its start.
#[inline]
pub(crate) fn window(since_start_us: i64) -> usize {
    (since_start_us / WINDOW_US) as usize
}

/// A rush of a date: more traffic in some minutes, all of it to one performance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spike {
    pub(crate) first_minute: usize,
    /// The rush falls evenly from the first minute to the last.
    pub(crate) minutes: usize,
    /// The performance, from 0.
    pub(crate) item: u32,
}

/// What a rush brings in a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rush {
    /// So many of 2^32 events of the minute are its.
    below: u64,
    item: u32,
}

/// A date's traffic, minute by minute.
#[derive(Debug)]
pub(crate) struct Curve {
    /// Cumulative traffic at the start of each minute, and the total.
    sums: Vec<u64>,
    rushes: Vec<Rush>,
}

impl Curve {
    /// The traffic of a date with so much of a day's shape. The rushes have `spike_share` of the events together; of
    /// rushes at the same minute, the last has it alone.
    pub(crate) fn of(
        date: NaiveDate,
        daily_curve: f64,
        spikes: &[Spike],
        spike_share: f64,
    ) -> Self {
        let hours = match date.weekday() {
            Weekday::Sat | Weekday::Sun => &WEEKEND,
            _ => &WORKDAY,
        };
        Self::new(hours, daily_curve, spikes, spike_share)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "weights far below 2^53"
    )]
    fn new(hours: &[u32; 24], daily_curve: f64, spikes: &[Spike], spike_share: f64) -> Self {
        let mean: u32 = hours.iter().sum::<u32>() / 24;
        // Sixtieths of an hour's weight, a thousand times finer for the blend and again for the rush to be round.
        let usual: Vec<u64> = (0..MINUTES)
            .map(|m| {
                let (hour, past) = (m / 60, m as u64 % 60);
                let shaped =
                    u64::from(hours[hour]) * (60 - past) + u64::from(hours[(hour + 1) % 24]) * past;
                blend(u64::from(mean) * 60, shaped, daily_curve) * 1000
            })
            .collect();
        let mut rush = vec![(0_u64, 0_u32); MINUTES];
        for spike in spikes {
            for past in 0..spike.minutes {
                if let Some(minute) = rush.get_mut(spike.first_minute + past) {
                    *minute = ((spike.minutes - past) as u64, spike.item);
                }
            }
        }
        let all_usual: u64 = usual.iter().sum();
        let all_rush: u64 = rush.iter().map(|minute| minute.0).sum();
        let brought = all_usual as f64 * spike_share / (1.0 - spike_share);
        let mut sums = vec![0];
        let mut rushes = Vec::new();
        for ((usual, (weight, item)), at) in usual.into_iter().zip(rush).zip(0..) {
            let more = (brought * weight as f64 / all_rush.max(1) as f64) as u64;
            sums.push(sums[at] + usual + more);
            let below = ((u128::from(more) << 32) / u128::from(usual + more)) as u64;
            rushes.push(Rush { below, item });
        }
        Self { sums, rushes }
    }

    /// How many of a day's `rows` fall into a half-hour, rounded up.
    pub(crate) fn window_rows(&self, window: usize, rows: u64) -> u64 {
        let sum = |window: usize| self.sums[window * MINUTES / WINDOWS];
        let share = u128::from(sum(window + 1) - sum(window));
        let total = u128::from(self.sums[MINUTES]);
        (share * u128::from(rows)).div_ceil(total) as u64
    }
}

/// The inverse of a day's cumulative traffic, in integers.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Microseconds since the day's start at each of 8192 equal shares of the traffic, and the end.
    quantiles_us: Vec<u64>,
    rushes: Vec<Rush>,
}

impl Clock {
    pub(crate) fn new(curve: Curve) -> Self {
        let Curve { sums, rushes } = curve;
        let total = u128::from(sums[MINUTES]);
        let quantiles_us = (0..=1_u64 << QUANTILE_BITS)
            .map(|q| {
                let target = ((total * u128::from(q)) >> QUANTILE_BITS) as u64;
                let m = sums.partition_point(|&sum| sum <= target) - 1;
                if m == MINUTES {
                    return DAY_US as u64;
                }
                let minute = u128::from(sums[m + 1] - sums[m]);
                let past = u128::from(target - sums[m]) * u128::from(MINUTE_US) / minute;
                m as u64 * MINUTE_US + past as u64
            })
            .collect();
        Self {
            quantiles_us,
            rushes,
        }
    }

    /// The performance, from 0, that a rush takes an event to, if one does; decided by a word.
    #[inline]
    pub(crate) fn rush(&self, since_start_us: i64, word: u64) -> Option<u32> {
        let rush = self.rushes[(since_start_us as u64 / MINUTE_US) as usize];
        // The word's own bits have other uses.
        (rush.below > 0 && (mix(word) & 0xFFFF_FFFF) < rush.below).then_some(rush.item)
    }

    /// Microseconds since the day's start for a position in `0..2^60`; never falls as the position rises.
    #[inline]
    pub(crate) fn at(&self, position: u64) -> i64 {
        let quantile = (position >> FRACTION_BITS) as usize;
        let fraction = (position >> (FRACTION_BITS - 32)) & 0xFFFF_FFFF;
        let (low, high) = (self.quantiles_us[quantile], self.quantiles_us[quantile + 1]);
        (low + (((high - low) * fraction) >> 32)) as i64
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
            let clock = Clock::new(Curve::of(date.parse().unwrap(), 1.0, &[], 0.0));
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
        let curve = Curve::new(&WORKDAY, 1.0, &[], 0.0);
        let rows = |hour: usize| curve.window_rows(hour * 2, 1_000_000);
        let (night, noon, evening) = (rows(4), rows(12), rows(21));
        assert!(
            night * 5 < noon && noon < evening,
            "{night} {noon} {evening}"
        );
        // The curve and the half-hours' shares are the same thing.
        let clock = Clock::new(curve);
        let in_evening = (0..100_000_u64)
            .filter(|i| window(clock.at(i * ((1 << POSITION_BITS) / 100_000))) == 42)
            .count() as u64;
        assert!((in_evening * 10).abs_diff(evening) < evening / 50);
    }

    #[test]
    fn without_a_curve_every_hour_is_alike() {
        let curve = Curve::new(&WORKDAY, 0.0, &[], 0.0);
        for window in 0..WINDOWS {
            assert_eq!(curve.window_rows(window, 48_000), 1000);
        }
    }

    #[test]
    fn rushes_bring_their_share_in_their_minutes() {
        let spike = |first_minute, item| Spike {
            first_minute,
            minutes: 10,
            item,
        };
        let spikes = [spike(600, 7), spike(1200, 9)];
        let clock = Clock::new(Curve::new(&WORKDAY, 1.0, &spikes, 0.2));
        let mut rushed = [0; 10];
        for i in 0..100_000_u64 {
            let at = clock.at(i * ((1 << POSITION_BITS) / 100_000));
            if let Some(item) = clock.rush(at, i) {
                let minute = at as u64 / MINUTE_US;
                let first = if item == 7 { 600 } else { 1200 };
                assert!((first..first + 10).contains(&minute));
                rushed[item as usize] += 1;
            }
        }
        for item in [7, 9] {
            assert!((9_700..10_300).contains(&rushed[item]), "{rushed:?}");
        }
    }
}
