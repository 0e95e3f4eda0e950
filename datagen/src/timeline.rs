//! When the rows of a log happen: the first of a date are late ones of the date before, the others follow the date's
//! traffic, both in the order of time.

use std::ops::Range;

use chrono::NaiveDate;

use crate::Config;
use crate::clock::{Clock, Curve, DAY_US, POSITION_BITS, Spike};
use crate::random::{Purpose, Stream, below, mix};

const JITTER_BITS: u32 = 20;
/// Tickets that people queue for are those of the first places.
const RUSHED_RANKS: u64 = 50;
/// Ticket offices open at full hours, KST, and the rush takes some minutes.
const OPENING_HOURS: [usize; 6] = [10, 11, 12, 14, 18, 20];
const RUSH_MINUTES: (u64, u64) = (5, 15);

/// The ticket openings of a date, at places of its charts in place of items.
pub(crate) fn openings(config: &Config, date: NaiveDate) -> Vec<Spike> {
    let stream = Stream::new(config.seed, Purpose::Spike);
    let day = date.to_epoch_days();
    let opening = |number: u32| {
        let word = stream.at(u64::from(day as u32) << 32 | u64::from(number));
        let hour = OPENING_HOURS[below(word << 32, OPENING_HOURS.len() as u64) as usize];
        let (least, most) = RUSH_MINUTES;
        Spike {
            first_minute: hour * 60,
            minutes: (least + below(mix(word), most - least + 1)) as usize,
            item: below(word, RUSHED_RANKS) as u32,
        }
    };
    (0..config.spikes).map(opening).collect()
}

/// A date's traffic.
pub(crate) fn curve(config: &Config, date: NaiveDate, spikes: &[Spike]) -> Curve {
    Curve::of(date, config.daily_curve, spikes, config.spike_share)
}

/// The times of a log's rows on a date.
#[derive(Debug)]
pub(crate) struct Timeline {
    first_row: u64,
    late_rows: u64,
    /// Length of a row's stretch of the day, in positions.
    step: u64,
}

impl Timeline {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 ≤ share < 1, and a count of rows is far below 2^53"
    )]
    pub(crate) fn new(config: &Config, rows: Range<u64>) -> Self {
        let count = rows.end - rows.start;
        let late_rows = match config.seconds_per_file {
            0 => (count as f64 * config.late_share) as u64,
            _ => 0,
        };
        Self {
            first_row: rows.start,
            late_rows,
            step: (1 << POSITION_BITS) / (count - late_rows).max(1),
        }
    }

    /// The date's first row.
    #[inline]
    pub(crate) fn first_row(&self) -> u64 {
        self.first_row
    }

    /// The rows that are of the date before.
    pub(crate) fn late_rows(&self) -> Range<u64> {
        self.first_row..self.first_row + self.late_rows
    }

    /// Microseconds since the date's start of a row with a random word; below 0 for late ones. Rises with the row.
    #[inline]
    pub(crate) fn since_start_us(&self, clock: &Clock, row: u64, word: u64) -> i64 {
        let jitter = word >> (64 - JITTER_BITS);
        let index = row - self.first_row;
        match index.checked_sub(self.late_rows) {
            Some(index) => clock.at(index * self.step + jitter * (self.step >> JITTER_BITS)),
            None => self.late(index, jitter),
        }
    }

    /// The later an event, the rarer, and none of them more than a day.
    fn late(&self, index: u64, jitter: u64) -> i64 {
        let place = u128::from(index << JITTER_BITS | jitter);
        let all = u128::from(self.late_rows << JITTER_BITS);
        let left = u64::from(u32::MAX);
        let left = left - (place * u128::from(left) / all) as u64;
        let cube = (((left * left) >> 32) * left) >> 32;
        // DAY_US divides by 1024, and the product stays within 59 bits.
        -1 - ((cube as i64 * (DAY_US / 1024)) >> 22)
    }

    /// The first of a date's rows that happens at or after a time.
    pub(crate) fn row_at(&self, clock: &Clock, what: Stream, rows: &Range<u64>, at_us: i64) -> u64 {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.since_start_us(clock, middle, what.at(middle)) < at_us {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rise_and_late_ones_are_of_the_day_before() {
        let config = Config {
            late_share: 0.1,
            ..Config::default()
        };
        let rows = 1_000..51_000;
        let timeline = Timeline::new(&config, rows.clone());
        assert_eq!(timeline.late_rows(), 1_000..6_000);
        let spikes = openings(&config, config.from);
        let clock = Clock::new(curve(&config, config.from, &spikes));
        let what = Stream::new(1, Purpose::ClickWhat);
        let times: Vec<i64> = rows
            .clone()
            .map(|row| timeline.since_start_us(&clock, row, what.at(row)))
            .collect();
        assert!(times.is_sorted());
        assert!((-DAY_US..-DAY_US / 2).contains(&times[0]));
        assert!(times[4_999] < 0 && times[5_000] >= 0);
        // Half of them are an eighth of a day late or less.
        assert!((-DAY_US / 7..-DAY_US / 9).contains(&times[2_500]));
        for at_us in [-DAY_US, -1, 0, DAY_US / 3, DAY_US] {
            let row = timeline.row_at(&clock, what, &rows, at_us);
            let expected = times.partition_point(|&time| time < at_us) as u64;
            assert_eq!(row, 1_000 + expected);
        }
    }
}
