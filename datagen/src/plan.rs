//! What there is to do: a list of parts, from integer arithmetic alone. The runner carries it out.

use std::ops::Range;

use chrono::{Days, NaiveDate};

use crate::clock::weekday_weight;
use crate::random::{Purpose, Stream, below};
use crate::{Config, Error, Table};

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
    /// Index of the date in the plan; 0 for dimensions.
    pub(crate) day: usize,
}

/// A date's share of both logs.
#[derive(Clone, Debug)]
pub(crate) struct DayPlan {
    pub(crate) date: NaiveDate,
    pub(crate) clicks: Range<u64>,
    pub(crate) requests: Range<u64>,
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
    /// [`Error::Config`] if the config is not valid, or puts more than 2^32 − 1 rows into one date.
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
            split(&mut parts, table, None, 0..rows, per_file);
        }
        for (index, day) in days.iter().enumerate() {
            for (field, table, rows) in [
                ("click_rows", Table::TicketClicks, &day.clicks),
                ("web_rows", Table::WebLogs, &day.requests),
            ] {
                let date_rows = rows.end - rows.start;
                if date_rows > u64::from(u32::MAX) {
                    return Err(Error::Config {
                        field,
                        value: format!("{date_rows} on {}", day.date),
                        expected: "at most 4,294,967,295 on one date",
                    });
                }
                let day = Some((index, day.date));
                split(&mut parts, table, day, rows.clone(), config.rows_per_file);
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

    /// Rows of all tables together.
    #[must_use]
    pub fn total_rows(&self) -> u64 {
        let rows = |part: &Part| part.rows.end - part.rows.start;
        self.parts.iter().map(rows).sum()
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
        sums.push(sums[sums.len() - 1] + weekday_weight(*date) * chance);
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

/// Splits rows evenly into as few files as allowed; no rows make one empty file, so that the schema can be read.
fn split(
    parts: &mut Vec<Part>,
    table: Table,
    day: Option<(usize, NaiveDate)>,
    rows: Range<u64>,
    rows_per_file: u64,
) {
    let count = rows.end - rows.start;
    let files = count.div_ceil(rows_per_file).max(1);
    let start =
        |file: u64| rows.start + (u128::from(count) * u128::from(file) / u128::from(files)) as u64;
    for file in 0..files {
        let folder = match day {
            Some((_, date)) => format!("{}/date={date}", table.folder()),
            None => table.folder().to_owned(),
        };
        parts.push(Part {
            table,
            date: day.map(|(_, date)| date),
            index: file as u32,
            rows: start(file)..start(file + 1),
            path: format!("{folder}/part-{file:05}.parquet"),
            day: day.map_or(0, |(index, _)| index),
        });
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
    fn a_date_too_heavy_is_refused() {
        let config = Config {
            click_rows: 1 << 33,
            ..Config::default()
        };
        let error = Plan::new(&config).unwrap_err();
        assert!(error.to_string().contains("on 2026-06-01"), "{error}");
    }
}
