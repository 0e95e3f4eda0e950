//! What a lake is generated from: everything that decides its bytes, nothing that does not.

use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The generator keeps dense tables by item; this bounds them.
pub(crate) const MAX_PERFORMANCES: u64 = 1 << 24;
/// User ids travel as `u32` inside the generator.
pub(crate) const MAX_USERS: u64 = 1 << 28;
/// Leaves room for row numbers in 60-bit fixed-point positions.
const MAX_ROWS: u64 = 1 << 40;

/// What to generate. Equal configs give byte-identical lakes, on any number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of every random choice.
    pub seed: u64,
    /// Rows of `ticket_clicks`, over all dates.
    pub click_rows: u64,
    /// Rows of `web_logs`, over all dates.
    pub web_rows: u64,
    /// Rows of `dim/users`; ids are 1 to this.
    pub users: u64,
    /// Rows of `dim/performances`; ids are 1 to this.
    pub performances: u64,
    /// The first date (KST).
    pub from: NaiveDate,
    /// How many dates, one after the other.
    pub days: u32,
    /// Zipf exponent of the performances' popularity; 0 is uniform.
    pub zipf_items: f64,
    /// Zipf exponent of the users' activity; 0 is uniform.
    pub zipf_users: f64,
    /// How far popularity wanders from day to day, in natural logarithms of the rank; 0 is a fixed order.
    pub drift: f64,
    /// Share of sessions without a user id.
    pub anonymous_share: f64,
    /// Share, of the sessions with a user id, of those whose id is not in `dim/users`.
    pub unknown_user_share: f64,
    /// Share of events made by a handful of bots.
    pub bot_share: f64,
    /// Mean number of events, clicks and requests together, in a session.
    pub events_per_session: u32,
    /// Most rows in one file.
    pub rows_per_file: u64,
    /// Most rows in one Parquet row group.
    pub rows_per_row_group: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 42,
            click_rows: 1_000_000,
            web_rows: 200_000,
            users: 200_000,
            performances: 20_000,
            from: NaiveDate::from_ymd_opt(2026, 6, 1).unwrap_or_default(),
            days: 1,
            zipf_items: 1.1,
            zipf_users: 0.6,
            drift: 0.8,
            anonymous_share: 0.2,
            unknown_user_share: 0.005,
            bot_share: 0.02,
            events_per_session: 5,
            rows_per_file: 2_000_000,
            rows_per_row_group: 1_000_000,
        }
    }
}

impl Config {
    /// Refuses what cannot be generated, naming the field and the range.
    ///
    /// # Errors
    /// [`Error::Config`] for the first field that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let rows = "at most 1,099,511,627,776 (2^40)";
        within("click_rows", self.click_rows, 0, MAX_ROWS, rows)?;
        within("web_rows", self.web_rows, 0, MAX_ROWS, rows)?;
        let users = "1 to 268,435,456 (2^28)";
        within("users", self.users, 1, MAX_USERS, users)?;
        let performances = "1 to 16,777,216 (2^24)";
        let most = MAX_PERFORMANCES;
        within("performances", self.performances, 1, most, performances)?;
        within("days", self.days.into(), 1, 36_600, "1 to 36,600")?;
        let year = i64::from(self.from.year());
        let last = self.from.checked_add_days(Days::new(self.days.into()));
        if !(1900..=9000).contains(&year) || last.is_none() {
            return Err(wrong("from", self.from, "a date of the years 1900 to 9000"));
        }
        for (field, exponent) in [
            ("zipf_items", self.zipf_items),
            ("zipf_users", self.zipf_users),
            ("drift", self.drift),
        ] {
            if !(0.0..=10.0).contains(&exponent) {
                return Err(wrong(field, exponent, "0 to 10"));
            }
        }
        for (field, share) in [
            ("anonymous_share", self.anonymous_share),
            ("unknown_user_share", self.unknown_user_share),
            ("bot_share", self.bot_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(wrong(field, share, "a share, 0 to 1"));
            }
        }
        let session = u64::from(self.events_per_session);
        within("events_per_session", session, 1, 1_000, "1 to 1,000")?;
        let file = "1 to 67,108,864 (2^26): a file is encoded in memory";
        within("rows_per_file", self.rows_per_file, 1, 1 << 26, file)?;
        let group = self.rows_per_row_group;
        within("rows_per_row_group", group, 1, 1 << 26, file)
    }
}

fn within(
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
    expected: &'static str,
) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(wrong(field, value, expected))
    }
}

fn wrong(field: &'static str, value: impl ToString, expected: &'static str) -> Error {
    let value = value.to_string();
    Error::Config {
        field,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Config), field_expected: &str) {
        let mut config = Config::default();
        change(&mut config);
        match config.validate() {
            Err(Error::Config { field, .. }) => assert_eq!(field, field_expected),
            other => panic!("{field_expected}: {other:?}"),
        }
    }

    #[test]
    fn the_default_is_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        check(|c| c.days = 0, "days");
        check(|c| c.users = 0, "users");
        check(|c| c.performances = 0, "performances");
        check(|c| c.performances = 1 << 31, "performances");
        check(|c| c.click_rows = u64::MAX, "click_rows");
        check(|c| c.zipf_items = -0.1, "zipf_items");
        check(|c| c.zipf_users = f64::NAN, "zipf_users");
        check(|c| c.drift = f64::INFINITY, "drift");
        check(|c| c.anonymous_share = 1.01, "anonymous_share");
        check(|c| c.unknown_user_share = f64::NAN, "unknown_user_share");
        check(|c| c.bot_share = -0.5, "bot_share");
        check(|c| c.events_per_session = 0, "events_per_session");
        check(|c| c.rows_per_file = 0, "rows_per_file");
        check(|c| c.rows_per_row_group = 0, "rows_per_row_group");
        check(|c| c.from = NaiveDate::MAX, "from");
    }

    #[test]
    fn json_keeps_every_bit() {
        let config = Config {
            zipf_items: 0.1 + 0.2,
            bot_share: 1.0 / 3.0,
            ..Config::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}
