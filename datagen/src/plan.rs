//! What there is to do: a list of parts, from integer arithmetic alone. The runner carries it out.

use std::ops::Range;

use chrono::{Days, NaiveDate};

use crate::clock::{Clock, DAY_US, blend, day_start_us, weekday_weight};
use crate::random::{Chance, Purpose, Stream, below, mix};
use crate::timeline::{Timeline, curve, openings};
use crate::{Config, Error, Table};

/// A file is encoded in memory.
const MAX_SPAN_ROWS: u64 = 1 << 26;

/// A file to be made: independent of every other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The table it belongs to.
    pub table: Table,
    /// The KST date of its rows; `None` for dimensions.
    pub date: Option<NaiveDate>,
    /// Its number within the table's folder, or the date's.
    pub index: u32,
    /// Its rows, numbered through the whole table.
    pub rows: Range<u64>,
    /// Where it goes, relative to the lake.
    pub path: String,
    /// When it is to be there, if the plan is cut by time: microseconds since 1970, UTC. For most, when the last of its
    /// events has happened.
    pub(crate) ready_at_us: Option<i64>,
    /// Index of the date in the plan; 0 for dimensions.
    pub(crate) day: usize,
}

impl Part {
    /// How many rows it has.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// The number of its date in the plan; none of a dimension.
    #[must_use]
    pub fn date_number(&self) -> Option<usize> {
        self.date.map(|_| self.day)
    }

    /// Its rows in Parquet row groups.
    pub(crate) fn row_groups(&self, config: &Config) -> Vec<Range<u64>> {
        let day = self.date.map_or(0, |date| date.to_epoch_days() as u64);
        let of = mix(day << 8 | self.table as u64).wrapping_add(self.index.into());
        let cut = Cut::new(config, Purpose::GroupSize, of);
        cut.pieces(self.rows.clone(), config.rows_per_row_group)
    }
}

/// A date's share of both logs.
#[derive(Clone, Debug)]
pub(crate) struct DayPlan {
    pub(crate) date: NaiveDate,
    pub(crate) clicks: Range<u64>,
    pub(crate) requests: Range<u64>,
}

impl DayPlan {
    /// The rows of one of the logs.
    pub(crate) fn rows(&self, table: Table) -> Range<u64> {
        match table {
            Table::WebLogs => self.requests.clone(),
            _ => self.clicks.clone(),
        }
    }
}

/// The parts of a lake, dimensions first, then date by date.
#[derive(Clone, Debug)]
pub struct Plan {
    config: Config,
    days: Vec<DayPlan>,
    parts: Vec<Part>,
}

impl Plan {
    /// Plans the lake of a config.
    ///
    /// # Errors
    /// [`Error::Config`] if the config is not valid.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        let days = plan_days(config);
        let mut parts = Vec::new();
        for (table, rows) in [
            (Table::Users, config.users),
            (Table::Performances, config.performances),
        ] {
            // One file for the performances: readers want it whole.
            let per_file = match table {
                Table::Performances => rows,
                _ => config.rows_per_file,
            };
            split(&mut parts, table, None, 0..rows, per_file, config);
        }
        for (index, day) in days.iter().enumerate() {
            let clock = (config.seconds_per_file > 0).then(|| {
                let spikes = openings(config, day.date);
                Clock::new(curve(config, day.date, &spikes))
            });
            for table in [Table::TicketClicks, Table::WebLogs] {
                let rows = day.rows(table);
                match &clock {
                    Some(clock) => split_by_time(&mut parts, table, index, day, clock, config)?,
                    None => {
                        let day = Some((index, day.date));
                        split(&mut parts, table, day, rows, config.rows_per_file, config);
                    }
                }
            }
        }
        let config = config.clone();
        Ok(Self {
            config,
            days,
            parts,
        })
    }

    /// The config this plan was made from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files to make.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Rows of both logs on the date of that number; 0 if there is none.
    #[must_use]
    pub fn date_rows(&self, index: usize) -> u64 {
        self.days.get(index).map_or(0, |day| {
            day.clicks.end - day.clicks.start + day.requests.end - day.requests.start
        })
    }

    /// How many dates there are.
    #[must_use]
    pub fn dates(&self) -> usize {
        self.days.len()
    }

    /// Rows of all tables together.
    #[must_use]
    pub fn total_rows(&self) -> u64 {
        self.parts.iter().map(Part::row_count).sum()
    }

    /// About how many bytes the lake takes; rather too many than too few.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        let part_bytes = |part: &Part| {
            // Measured with 4 M users, and some more; a file has a footer of a few kB.
            let row_bytes = match part.table {
                Table::TicketClicks => 12,
                Table::WebLogs => 24,
                Table::Users => 7,
                Table::Performances => 16,
            };
            part.row_count().saturating_mul(row_bytes) + 4_000
        };
        let bytes = self.parts.iter().map(part_bytes);
        bytes.fold(0, u64::saturating_add)
    }

    pub(crate) fn days(&self) -> &[DayPlan] {
        &self.days
    }
}

/// Shares both logs out over the dates, by the day of the week and ±6 % of chance.
fn plan_days(config: &Config) -> Vec<DayPlan> {
    let stream = Stream::new(config.seed, Purpose::DayWeight);
    let dates: Vec<NaiveDate> = (0..u64::from(config.days))
        .filter_map(|day| config.from.checked_add_days(Days::new(day)))
        .collect();
    let mut sums = vec![0];
    for date in &dates {
        let chance = 940 + below(stream.at(date.to_epoch_days() as u64), 121);
        // Nothing of a week's shape is nothing of chance either.
        let chance = blend(1000, chance, config.weekly_curve);
        let weight = weekday_weight(*date, config.weekly_curve);
        sums.push(sums[sums.len() - 1] + weight * chance);
    }
    let total = u128::from(sums[dates.len()]);
    // Cumulative floors: the dates' rows add up to the table's.
    let before = |rows: u64, day: usize| (u128::from(rows) * u128::from(sums[day]) / total) as u64;
    let share = |rows: u64, day: usize| before(rows, day)..before(rows, day + 1);
    dates
        .iter()
        .enumerate()
        .map(|(day, &date)| DayPlan {
            date,
            clicks: share(config.click_rows, day),
            requests: share(config.web_rows, day),
        })
        .collect()
}

/// Splits rows into files; no rows make one empty file, so that the schema can be read.
fn split(
    parts: &mut Vec<Part>,
    table: Table,
    day: Option<(usize, NaiveDate)>,
    rows: Range<u64>,
    rows_per_file: u64,
    config: &Config,
) {
    let day_number = day.map_or(0, |(_, date)| date.to_epoch_days() as u64);
    let cut = Cut::new(config, Purpose::FileSize, day_number << 8 | table as u64);
    let mut files = cut.pieces(rows.clone(), rows_per_file);
    if files.is_empty() {
        files.push(rows);
    }
    for (file, rows) in (0_u32..).zip(files) {
        let folder = match day {
            Some((_, date)) => format!("{}/date={date}", table.folder()),
            None => table.folder().to_owned(),
        };
        parts.push(Part {
            table,
            date: day.map(|(_, date)| date),
            index: file,
            rows,
            path: format!("{folder}/part-{file:05}.parquet"),
            ready_at_us: None,
            day: day.map_or(0, |(index, _)| index),
        });
    }
}

/// Splits a log's rows of a date by time: a file for each span in which there are rows, numbered by the span. A date
/// without rows has an empty file.
fn split_by_time(
    parts: &mut Vec<Part>,
    table: Table,
    index: usize,
    day: &DayPlan,
    clock: &Clock,
    config: &Config,
) -> Result<(), Error> {
    let rows = day.rows(table);
    let timeline = Timeline::new(config, rows.clone());
    let purpose = match table {
        Table::WebLogs => Purpose::WebWhat,
        _ => Purpose::ClickWhat,
    };
    let what = Stream::new(config.seed, purpose);
    let delays = Stream::new(config.seed, Purpose::FileDelay);
    let late = Chance::new(config.late_share);
    let start_us = day_start_us(day.date);
    let span_us = i64::from(config.seconds_per_file) * 1_000_000;
    let mut from = rows.start;
    let spans = DAY_US.div_euclid(span_us) + i64::from(DAY_US % span_us > 0);
    for span in 0..spans {
        let end_us = ((span + 1) * span_us).min(DAY_US);
        let to = timeline.row_at(clock, what, &rows, end_us);
        let is_before = index == 0 && end_us < i64::from(config.cut_from_second) * 1_000_000;
        if is_before && to - from < config.rows_per_file {
            continue;
        }
        if to - from > MAX_SPAN_ROWS {
            return Err(Error::Config {
                field: "seconds_per_file",
                value: format!(
                    "{} with {} rows at once",
                    config.seconds_per_file,
                    to - from
                ),
                expected: "so little that a file has at most 67,108,864 rows (2^26)",
            });
        }
        // Up to half a day, mostly less: its square.
        let word = delays.at(mix(start_us as u64 ^ table as u64).wrapping_add(span as u64));
        let square = below(mix(word), 1 << 16).pow(2) as i64;
        let delay = (square * ((DAY_US / 2) >> 16)) >> 16;
        let delay_us = if late.hit(word) { delay } else { 0 };
        if from < to || (rows.is_empty() && span == 0) {
            parts.push(Part {
                table,
                date: Some(day.date),
                index: span as u32,
                rows: from..to,
                path: format!(
                    "{}/date={}/part-{span:05}.parquet",
                    table.folder(),
                    day.date
                ),
                ready_at_us: Some(start_us + end_us + delay_us),
                day: index,
            });
        }
        from = to;
    }
    Ok(())
}

/// Cuts rows into pieces of uneven sizes.
struct Cut {
    stream: Stream,
    of: u64,
    /// In thousandths.
    uneven: u64,
}

impl Cut {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 ≤ uneven < 1"
    )]
    fn new(config: &Config, purpose: Purpose, of: u64) -> Self {
        Self {
            stream: Stream::new(config.seed, purpose),
            of: mix(of),
            uneven: (config.uneven * 1000.0) as u64,
        }
    }

    /// As few pieces of at most `most` rows as the drawn sizes need.
    fn pieces(&self, rows: Range<u64>, most: u64) -> Vec<Range<u64>> {
        let count = rows.end - rows.start;
        if (1..=most).contains(&count) {
            return vec![rows];
        }
        // Sums of sizes in thousandths of the most: enough of them to hold all rows.
        let mut sums = vec![0];
        while u128::from(sums[sums.len() - 1]) * u128::from(most) < u128::from(count) * 1000 {
            let word = self.stream.at(self.of.wrapping_add(sums.len() as u64));
            let size = 1000 - below(word, self.uneven + 1);
            sums.push(sums[sums.len() - 1] + size);
        }
        let total = u128::from(sums[sums.len() - 1]).max(1);
        let place = |sum: u64| rows.start + (u128::from(count) * u128::from(sum) / total) as u64;
        sums.windows(2)
            .map(|pair| place(pair[0])..place(pair[1]))
            .filter(|piece| !piece.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(plan: &Plan, table: Table) -> Vec<Range<u64>> {
        let parts = plan.parts().iter().filter(|part| part.table == table);
        parts.map(|part| part.rows.clone()).collect()
    }

    #[test]
    fn parts_cover_every_row_once_and_are_small_enough() {
        let config = Config {
            click_rows: 12_345,
            web_rows: 7,
            days: 9,
            rows_per_file: 500,
            uneven: 0.7,
            ..Config::default()
        };
        let plan = Plan::new(&config).unwrap();
        for (table, rows) in [
            (Table::TicketClicks, 12_345),
            (Table::WebLogs, 7),
            (Table::Users, config.users),
            (Table::Performances, config.performances),
        ] {
            let mut next = 0;
            for part in rows_of(&plan, table) {
                assert_eq!(part.start, next);
                assert!(table == Table::Performances || part.end - part.start <= 500);
                next = part.end;
            }
            assert_eq!(next, rows, "{table:?}");
        }
        assert_eq!(
            plan.total_rows(),
            12_345 + 7 + config.users + config.performances
        );
        let clicks = plan.parts().iter().find(|p| p.table == Table::TicketClicks);
        assert_eq!(
            clicks.unwrap().path,
            "stage/ticket_clicks/date=2026-06-01/part-00000.parquet"
        );
    }

    #[test]
    fn weekends_are_heavier() {
        let config = Config {
            click_rows: 70_000,
            days: 7,
            ..Config::default()
        };
        let rows = rows_of(&Plan::new(&config).unwrap(), Table::TicketClicks);
        let sizes: Vec<u64> = rows.iter().map(|r| r.end - r.start).collect();
        // From a Monday.
        assert!(sizes[5] > sizes[1] * 5 / 4, "{sizes:?}");
    }

    #[test]
    fn no_rows_make_an_empty_file_a_date() {
        let config = Config {
            click_rows: 0,
            days: 3,
            ..Config::default()
        };
        let rows = rows_of(&Plan::new(&config).unwrap(), Table::TicketClicks);
        assert_eq!(rows, [0..0, 0..0, 0..0]);
    }

    #[test]
    fn the_most_rows_are_planned() {
        let config = Config {
            click_rows: 1 << 40,
            days: 3,
            rows_per_file: 1 << 26,
            ..Config::default()
        };
        let plan = Plan::new(&config).unwrap();
        let rows = rows_of(&plan, Table::TicketClicks);
        assert!(rows.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(rows[rows.len() - 1].end, 1 << 40);
    }

    #[test]
    fn parts_by_time_cover_every_row_once_in_the_order_of_time() {
        let config = Config {
            click_rows: 20_000,
            web_rows: 0,
            days: 2,
            seconds_per_file: 700,
            late_share: 0.0,
            ..Config::default()
        };
        let plan = Plan::new(&config).unwrap();
        let rows = rows_of(&plan, Table::TicketClicks);
        assert!(rows.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((rows[0].start, rows[rows.len() - 1].end), (0, 20_000));
        // 124 spans a date, the last shorter; at night there may be a span without rows.
        assert!((200..=248).contains(&rows.len()), "{}", rows.len());
        let ready: Vec<i64> = plan.parts().iter().filter_map(|p| p.ready_at_us).collect();
        let first = day_start_us(config.from);
        assert_eq!(ready[0], first + 700_000_000);
        assert_eq!(*ready.iter().max().unwrap(), first + 2 * DAY_US);
        // The same files, but a tenth of them late, by half a day at most.
        let late = Plan::new(&Config {
            late_share: 0.1,
            ..config.clone()
        });
        let late = late.unwrap();
        let late_ready = late.parts().iter().filter_map(|part| part.ready_at_us);
        let delays = late_ready.zip(&ready).map(|(late, on_time)| late - on_time);
        let delays: Vec<i64> = delays.filter(|delay| *delay != 0).collect();
        assert!((10..45).contains(&delays.len()), "{delays:?}");
        assert!(delays.iter().all(|delay| (0..DAY_US / 2).contains(delay)));
        assert_eq!(rows_of(&plan, Table::WebLogs), [0..0, 0..0]);
    }

    #[test]
    fn what_is_before_the_first_cut_lies_in_few_files() {
        let config = Config {
            click_rows: 20_000,
            web_rows: 0,
            days: 2,
            seconds_per_file: 60,
            cut_from_second: 12 * 3_600,
            rows_per_file: 2_000,
            ..Config::default()
        };
        let plan = Plan::new(&config).unwrap();
        let rows = rows_of(&plan, Table::TicketClicks);
        assert!(rows.windows(2).all(|pair| pair[0].end == pair[1].start));
        let parts = plan.parts().iter();
        let early = parts.filter(|p| p.table == Table::TicketClicks && p.day == 0 && p.index < 720);
        let early: Vec<u64> = early.map(Part::row_count).collect();
        assert_eq!(early.len(), 2, "{early:?}");
        assert!((2_000..2_100).contains(&early[0]), "{early:?}");
    }

    #[test]
    fn files_and_row_groups_are_as_uneven_as_asked() {
        let sizes = |uneven| {
            let config = Config {
                uneven,
                click_rows: 1_000_000,
                rows_per_file: 10_000,
                rows_per_row_group: 1_000,
                ..Config::default()
            };
            let plan = Plan::new(&config).unwrap();
            let parts = plan
                .parts()
                .iter()
                .filter(|p| p.table == Table::TicketClicks);
            let parts: Vec<&Part> = parts.collect();
            let groups = parts.iter().flat_map(|part| {
                let groups = part.row_groups(&config);
                assert_eq!(groups[0].start, part.rows.start);
                assert_eq!(groups[groups.len() - 1].end, part.rows.end);
                groups.into_iter().map(|group| group.end - group.start)
            });
            let files: Vec<u64> = parts.iter().map(|part| part.row_count()).collect();
            (files, groups.collect::<Vec<u64>>())
        };
        let spread = |sizes: &[u64]| {
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            *least as f64 / *most as f64
        };
        let (files, groups) = sizes(0.0);
        assert!(spread(&files) > 0.99 && spread(&groups) > 0.99);
        assert_eq!(files.len(), 100);
        let (files, groups) = sizes(0.9);
        assert!((0.09..0.2).contains(&spread(&files)), "{files:?}");
        assert!((0.05..0.2).contains(&spread(&groups)), "{groups:?}");
        assert!(*files.iter().max().unwrap() <= 10_000);
        assert!(*groups.iter().max().unwrap() <= 1_000);
    }
}
