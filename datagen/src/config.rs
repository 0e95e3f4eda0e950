//! What a lake is generated from: everything that decides its bytes, nothing that does not.

use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The generator keeps dense tables by item; this bounds them.
pub(crate) const MAX_PERFORMANCES: u64 = 1 << 22;
/// User ids travel as `u32` inside the generator.
pub(crate) const MAX_USERS: u64 = 1 << 28;
/// Leaves room for row numbers in 60-bit fixed-point positions.
const MAX_ROWS: u64 = 1 << 40;
/// A plan holds each part in memory, at some 200 bytes.
const MAX_FILES: f64 = 4e6;
/// Row groups are numbered in 15 bits.
const MAX_ROW_GROUPS: f64 = 32_767.0;

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
    /// Share of the performances that nobody hears of before some date of the lake, evenly spread over its dates.
    pub new_item_share: f64,
    /// How much ages differ in the genres they prefer: the power of the preferences; 0 is not at all.
    pub taste: f64,
    /// How far traffic follows the hours of the day: 0 is even, 1 a shop's curve.
    pub daily_curve: f64,
    /// How far traffic follows the days of the week: 0 is even, 1 a shop's curve.
    pub weekly_curve: f64,
    /// Ticket openings on each date: minutes in which one performance is rushed. Without any, `spike_share` means nothing.
    pub spikes: u32,
    /// Share of a date's events that the openings bring, all together.
    pub spike_share: f64,
    /// Share of sessions without a user id.
    pub anonymous_share: f64,
    /// Share, of the sessions with a user id, of those whose id is not in `dim/users`.
    pub unknown_user_share: f64,
    /// How many users are bots.
    pub bots: u32,
    /// Share of events made by the bots.
    pub bot_share: f64,
    /// Mean number of events, clicks and requests together, in a session.
    pub events_per_session: u32,
    /// Share of a date's rows that are of the date before: late events, the first of the date's rows. Where the logs
    /// are cut by time, rows are never late, but this share of the files comes up to half a day later, when the lake
    /// is made as time goes by.
    pub late_share: f64,
    /// Share of rows delivered twice: the same again, its id included, behind it.
    pub duplicate_share: f64,
    /// Share of clicks whose performance is null.
    pub null_item_share: f64,
    /// Share of clicks on a performance that is not in `dim/performances`.
    pub unknown_item_share: f64,
    /// Share of users without a date of birth.
    pub null_birth_share: f64,
    /// Share of users born in the future or more than 120 years ago.
    pub wrong_birth_share: f64,
    /// How uneven files and row groups are: the smallest have 1 less this of the rows of the largest.
    pub uneven: f64,
    /// Most rows in one file.
    pub rows_per_file: u64,
    /// Cuts the logs by time in place of rows: a file for each span of so many seconds in which there are rows. 0
    /// cuts by rows.
    pub seconds_per_file: u32,
    /// On the first date, logs that are cut by time are cut from this second of the day on; what is before lies in as
    /// few files as by rows.
    pub cut_from_second: u32,
    /// Most rows in one Parquet row group.
    pub rows_per_row_group: u64,
}

/// A named set of a [`Config`]'s shapes; its sizes, dates and seed are those of the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// No skew and no defects: every performance, user, hour and file alike.
    Uniform,
    /// A ticket shop on usual days: the default.
    #[default]
    Realistic,
    /// What breaks engines: a few performances with most of the clicks, a handful of bots with a sixth of them, rushes,
    /// many late, doubled and broken rows, files from a crumb to the full size.
    Brutal,
}

impl Profile {
    /// The profile's config.
    #[must_use]
    pub fn config(self) -> Config {
        let realistic = Config::default();
        match self {
            Self::Realistic => realistic,
            Self::Uniform => Config {
                zipf_items: 0.0,
                zipf_users: 0.0,
                drift: 0.0,
                new_item_share: 0.0,
                taste: 0.0,
                daily_curve: 0.0,
                weekly_curve: 0.0,
                spikes: 0,
                spike_share: 0.0,
                anonymous_share: 0.0,
                unknown_user_share: 0.0,
                bot_share: 0.0,
                late_share: 0.0,
                duplicate_share: 0.0,
                null_item_share: 0.0,
                unknown_item_share: 0.0,
                null_birth_share: 0.0,
                wrong_birth_share: 0.0,
                uneven: 0.0,
                ..realistic
            },
            Self::Brutal => Config {
                zipf_items: 1.5,
                zipf_users: 1.1,
                drift: 1.2,
                new_item_share: 0.2,
                spikes: 3,
                spike_share: 0.15,
                anonymous_share: 0.3,
                unknown_user_share: 0.05,
                bots: 4,
                bot_share: 0.17,
                late_share: 0.05,
                duplicate_share: 0.02,
                null_item_share: 0.01,
                unknown_item_share: 0.01,
                null_birth_share: 0.15,
                wrong_birth_share: 0.03,
                uneven: 0.98,
                ..realistic
            },
        }
    }
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
            new_item_share: 0.05,
            taste: 1.0,
            daily_curve: 1.0,
            weekly_curve: 1.0,
            spikes: 2,
            spike_share: 0.02,
            anonymous_share: 0.2,
            unknown_user_share: 0.005,
            bots: 8,
            bot_share: 0.02,
            events_per_session: 5,
            late_share: 0.005,
            duplicate_share: 0.001,
            null_item_share: 0.0005,
            unknown_item_share: 0.0005,
            null_birth_share: 0.05,
            wrong_birth_share: 0.005,
            uneven: 0.4,
            rows_per_file: 2_000_000,
            seconds_per_file: 0,
            cut_from_second: 0,
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
        within("rows", self.click_rows, 0, MAX_ROWS, rows)?;
        within("web_rows", self.web_rows, 0, MAX_ROWS, rows)?;
        let users = "1 to 268,435,456 (2^28)";
        within("users", self.users, 1, MAX_USERS, users)?;
        let performances = "1 to 4,194,304 (2^22)";
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
            ("taste", self.taste),
        ] {
            if !(0.0..=10.0).contains(&exponent) {
                return Err(wrong(field, exponent, "0 to 10"));
            }
        }
        for (field, share) in [
            ("new_item_share", self.new_item_share),
            ("daily_curve", self.daily_curve),
            ("weekly_curve", self.weekly_curve),
            ("anonymous_share", self.anonymous_share),
            ("unknown_user_share", self.unknown_user_share),
            ("bot_share", self.bot_share),
            ("null_item_share", self.null_item_share),
            ("unknown_item_share", self.unknown_item_share),
            ("null_birth_share", self.null_birth_share),
            ("wrong_birth_share", self.wrong_birth_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(wrong(field, share, "a share, 0 to 1"));
            }
        }
        // A date without events of its own is none, and a row behind none can't be its double.
        for (field, share) in [
            ("spike_share", self.spike_share),
            ("late_share", self.late_share),
            ("duplicate_share", self.duplicate_share),
        ] {
            if !(0.0..=0.9).contains(&share) {
                return Err(wrong(field, share, "a share, 0 to 0.9"));
            }
        }
        let defects = self.duplicate_share + self.null_item_share + self.unknown_item_share;
        if defects > 1.0 {
            let expected = "at most 1 together with duplicate_share and unknown_item_share";
            return Err(wrong("null_item_share", self.null_item_share, expected));
        }
        if !(0.0..=0.99).contains(&self.uneven) {
            return Err(wrong("uneven", self.uneven, "0 to 0.99"));
        }
        within("spikes", self.spikes.into(), 0, 1000, "0 to 1,000")?;
        within("bots", self.bots.into(), 1, 1_000_000, "1 to 1,000,000")?;
        let session = u64::from(self.events_per_session);
        within("events_per_session", session, 1, 1_000, "1 to 1,000")?;
        let file = "1 to 67,108,864 (2^26): a file is encoded in memory";
        within("rows_per_file", self.rows_per_file, 1, 1 << 26, file)?;
        let span = self.seconds_per_file.into();
        within("seconds_per_file", span, 0, 86_400, "0 to 86,400")?;
        let second = self.cut_from_second.into();
        within("cut_from_second", second, 0, 86_400, "0 to 86,400")?;
        let group = self.rows_per_row_group;
        within("rows_per_row_group", group, 1, 1 << 26, file)?;
        self.validate_files()
    }

    /// Refuses more files, or row groups in one, than can be.
    fn validate_files(&self) -> Result<(), Error> {
        // The smallest pieces have 1 less `uneven` of the rows of the largest.
        let pieces = |rows: u64, most: u64| rows as f64 / (most as f64 * (1.0 - self.uneven));
        let rows = self.click_rows + self.web_rows;
        let spans = match self.seconds_per_file {
            0 => 0,
            seconds => 2 * u64::from(86_400_u32.div_ceil(seconds)) * u64::from(self.days),
        };
        let users = pieces(self.users, self.rows_per_file);
        let files = match self.seconds_per_file {
            0 => pieces(rows, self.rows_per_file) + users,
            _ => spans as f64 + users,
        };
        if files > MAX_FILES {
            let (field, value) = match self.seconds_per_file {
                0 => ("rows_per_file", self.rows_per_file.to_string()),
                seconds => ("seconds_per_file", seconds.to_string()),
            };
            let expected =
                "so much, or the rows or days so few, that there are at most 4,000,000 files";
            return Err(wrong(field, value, expected));
        }
        let largest = match self.seconds_per_file {
            0 => self.rows_per_file.min(rows.max(self.users)),
            _ => rows.max(self.users).min(1 << 26),
        };
        let largest = largest.max(self.performances);
        if pieces(largest, self.rows_per_row_group) > MAX_ROW_GROUPS {
            let expected = "so much that a file has at most 32,767 row groups";
            return Err(wrong(
                "rows_per_row_group",
                self.rows_per_row_group,
                expected,
            ));
        }
        Ok(())
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
    fn profiles_are_valid_and_differ() {
        for profile in [Profile::Uniform, Profile::Realistic, Profile::Brutal] {
            profile.config().validate().unwrap();
        }
        assert_ne!(Profile::Uniform.config(), Profile::Brutal.config());
        assert_eq!(Profile::default().config(), Config::default());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        check(|c| c.days = 0, "days");
        check(|c| c.users = 0, "users");
        check(|c| c.performances = 0, "performances");
        check(|c| c.performances = 1 << 31, "performances");
        check(|c| c.click_rows = u64::MAX, "rows");
        check(|c| c.zipf_items = -0.1, "zipf_items");
        check(|c| c.zipf_users = f64::NAN, "zipf_users");
        check(|c| c.drift = f64::INFINITY, "drift");
        check(|c| c.anonymous_share = 1.01, "anonymous_share");
        check(|c| c.unknown_user_share = f64::NAN, "unknown_user_share");
        check(|c| c.bot_share = -0.5, "bot_share");
        check(|c| c.bots = 0, "bots");
        check(|c| c.taste = -1.0, "taste");
        check(|c| c.daily_curve = 1.5, "daily_curve");
        check(|c| c.late_share = 1.0, "late_share");
        check(|c| c.duplicate_share = f64::NAN, "duplicate_share");
        check(|c| c.unknown_item_share = 1.0, "null_item_share");
        check(|c| c.uneven = 1.0, "uneven");
        check(|c| c.spikes = 1001, "spikes");
        check(|c| c.events_per_session = 0, "events_per_session");
        check(|c| c.rows_per_file = 0, "rows_per_file");
        check(|c| c.rows_per_row_group = 30, "rows_per_row_group");
        check(
            |c| (c.click_rows, c.rows_per_file) = (1 << 40, 1_000),
            "rows_per_file",
        );
        check(
            |c| (c.days, c.seconds_per_file) = (36_600, 1),
            "seconds_per_file",
        );
        check(|c| c.seconds_per_file = 86_401, "seconds_per_file");
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
