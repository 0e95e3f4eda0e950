//! What to generate, as typed or as the JSON of a load-generation run.

use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use rankmill_datagen::{self as datagen, Config};
use serde::{Deserialize, Serialize};

use crate::human::parse_count;

/// Clicks over all days, where nothing is said.
pub(crate) const CLICK_ROWS: u64 = 5_000_000;
/// Web requests over all days, where nothing is said.
pub(crate) const WEB_ROWS: u64 = 1_000_000;

/// A named set of shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// No skew and no defects.
    Uniform,
    /// A ticket shop on usual days.
    #[default]
    Realistic,
    /// A few performances with most of the clicks, busy bots, rushes, many broken rows, crumbs of
    /// files.
    Brutal,
}

impl From<Profile> for datagen::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Uniform => Self::Uniform,
            Profile::Realistic => Self::Realistic,
            Profile::Brutal => Self::Brutal,
        }
    }
}

/// Options of a generation; what is left out has its default. As JSON, the names are those of the
/// command line with `_` in place of `-`, and counts are numbers.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LoadOptions {
    /// The first day; an argument of its own on the command line.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<NaiveDate>,
    /// What the options below are by default: the figures given are those of realistic
    /// [default: realistic].
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<Profile>,
    /// Clicks to make over all days, such as 400M [default: 5M].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<u64>,
    /// Web requests to make over all days [default: 1M; with --rate, a fifth of the clicks].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) web_rows: Option<u64>,
    /// Users of the dimension [default: 200k].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<u64>,
    /// Performances of the dimension [default: 20k].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) performances: Option<u64>,
    /// Number of days [default: 3; with --rate, 30].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) days: Option<u32>,
    /// The same seed and options give the same bytes [default: 1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Zipf exponent of the performances' popularity; 0 is uniform [default: 1.1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipf_items: Option<f64>,
    /// Zipf exponent of the users' activity; 0 is uniform [default: 0.6].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipf_users: Option<f64>,
    /// How much the popularity of performances changes from day to day; 0 is not at all
    /// [default: 0.8].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drift: Option<f64>,
    /// Share of performances that appear on some day of the lake, not before [default: 0.05].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new_item_share: Option<f64>,
    /// How much ages differ in the genres they prefer; 0 is not at all [default: 1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) taste: Option<f64>,
    /// How far traffic follows the hours of the day; 0 is even [default: 1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) daily_curve: Option<f64>,
    /// How far traffic follows the days of the week; 0 is even [default: 1].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weekly_curve: Option<f64>,
    /// Ticket openings on each day: minutes in which one performance is rushed [default: 2].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spikes: Option<u32>,
    /// Share of a day's events that the openings bring [default: 0.02].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spike_share: Option<f64>,
    /// Share of sessions without a user [default: 0.2].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous_share: Option<f64>,
    /// Share of sessions whose user is not in the dimension [default: 0.005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unknown_user_share: Option<f64>,
    /// Number of bots [default: 8].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bots: Option<u32>,
    /// Share of clicks by the bots [default: 0.02].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bot_share: Option<f64>,
    /// Mean number of events in a session [default: 5].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) events_per_session: Option<u32>,
    /// Share of a day's rows that happened on the day before; where files are cut by time, none, but
    /// with --rate this share of the files comes up to half a day late [default: 0.005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late_share: Option<f64>,
    /// Share of rows that are there twice [default: 0.001].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate_share: Option<f64>,
    /// Share of clicks without a performance [default: 0.0005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) null_item_share: Option<f64>,
    /// Share of clicks on a performance that is not in the dimension [default: 0.0005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unknown_item_share: Option<f64>,
    /// Share of users without a date of birth [default: 0.05].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) null_birth_share: Option<f64>,
    /// Share of users with an impossible date of birth [default: 0.005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrong_birth_share: Option<f64>,
    /// How uneven files and row groups are; 0 is all alike, 0.9 a tenth of the largest
    /// [default: 0.4].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uneven: Option<f64>,
    /// Rows of the largest files [default: 2M].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_per_file: Option<u64>,
    /// Rows of the largest row groups [default: 1M].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_per_row_group: Option<u64>,
    /// Cuts the logs by time in place of rows: a file for so many seconds [default: by rows].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_per_file: Option<u32>,
    /// Removes what is there in the tables' folders and isn't this lake, whatever it is; of this one,
    /// makes again what is missing or cut off.
    #[arg(long)]
    pub(crate) replace: bool,
}

impl LoadOptions {
    /// What the generator is to make.
    pub(crate) fn config(&self) -> Config {
        let Self {
            from,
            profile,
            rows,
            web_rows,
            users,
            performances,
            days,
            seed,
            zipf_items,
            zipf_users,
            drift,
            new_item_share,
            taste,
            daily_curve,
            weekly_curve,
            spikes,
            spike_share,
            anonymous_share,
            unknown_user_share,
            bots,
            bot_share,
            events_per_session,
            late_share,
            duplicate_share,
            null_item_share,
            unknown_item_share,
            null_birth_share,
            wrong_birth_share,
            uneven,
            rows_per_file,
            rows_per_row_group,
            seconds_per_file,
            replace: _,
        } = self.clone();
        let base = Config {
            seed: 1,
            click_rows: CLICK_ROWS,
            web_rows: WEB_ROWS,
            days: 3,
            ..datagen::Profile::from(profile.unwrap_or_default()).config()
        };
        Config {
            from: from.unwrap_or(base.from),
            click_rows: rows.unwrap_or(base.click_rows),
            web_rows: web_rows.unwrap_or(base.web_rows),
            users: users.unwrap_or(base.users),
            performances: performances.unwrap_or(base.performances),
            days: days.unwrap_or(base.days),
            seed: seed.unwrap_or(base.seed),
            zipf_items: zipf_items.unwrap_or(base.zipf_items),
            zipf_users: zipf_users.unwrap_or(base.zipf_users),
            drift: drift.unwrap_or(base.drift),
            new_item_share: new_item_share.unwrap_or(base.new_item_share),
            taste: taste.unwrap_or(base.taste),
            daily_curve: daily_curve.unwrap_or(base.daily_curve),
            weekly_curve: weekly_curve.unwrap_or(base.weekly_curve),
            spikes: spikes.unwrap_or(base.spikes),
            spike_share: spike_share.unwrap_or(base.spike_share),
            anonymous_share: anonymous_share.unwrap_or(base.anonymous_share),
            unknown_user_share: unknown_user_share.unwrap_or(base.unknown_user_share),
            bots: bots.unwrap_or(base.bots),
            bot_share: bot_share.unwrap_or(base.bot_share),
            events_per_session: events_per_session.unwrap_or(base.events_per_session),
            late_share: late_share.unwrap_or(base.late_share),
            duplicate_share: duplicate_share.unwrap_or(base.duplicate_share),
            null_item_share: null_item_share.unwrap_or(base.null_item_share),
            unknown_item_share: unknown_item_share.unwrap_or(base.unknown_item_share),
            null_birth_share: null_birth_share.unwrap_or(base.null_birth_share),
            wrong_birth_share: wrong_birth_share.unwrap_or(base.wrong_birth_share),
            uneven: uneven.unwrap_or(base.uneven),
            rows_per_file: rows_per_file.unwrap_or(base.rows_per_file),
            rows_per_row_group: rows_per_row_group.unwrap_or(base.rows_per_row_group),
            seconds_per_file: seconds_per_file.unwrap_or(base.seconds_per_file),
            cut_from_second: base.cut_from_second,
        }
    }

    /// Whether any option was given.
    pub(crate) fn is_given(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures in the help are those of the configuration.
    #[test]
    fn the_defaults_are_those_of_the_help() {
        let config = LoadOptions::default().config();
        assert_eq!((config.seed, config.days), (1, 3));
        assert_eq!((config.click_rows, config.web_rows), (5_000_000, 1_000_000));
        assert_eq!((config.users, config.performances), (200_000, 20_000));
        assert_eq!(config.from.to_string(), "2026-06-01");
        assert_eq!((config.zipf_items, config.zipf_users), (1.1, 0.6));
        assert_eq!((config.drift, config.new_item_share), (0.8, 0.05));
        assert_eq!((config.taste, config.daily_curve), (1.0, 1.0));
        assert_eq!((config.weekly_curve, config.spikes), (1.0, 2));
        assert_eq!((config.spike_share, config.anonymous_share), (0.02, 0.2));
        assert_eq!((config.unknown_user_share, config.bot_share), (0.005, 0.02));
        assert_eq!((config.bots, config.events_per_session), (8, 5));
        assert_eq!((config.late_share, config.duplicate_share), (0.005, 0.001));
        let items = (config.null_item_share, config.unknown_item_share);
        assert_eq!(items, (0.0005, 0.0005));
        let births = (config.null_birth_share, config.wrong_birth_share);
        assert_eq!(births, (0.05, 0.005));
        assert_eq!((config.uneven, config.seconds_per_file), (0.4, 0));
        let most = (config.rows_per_file, config.rows_per_row_group);
        assert_eq!(most, (2_000_000, 1_000_000));
    }

    #[test]
    fn an_option_goes_before_its_profile() {
        let options = LoadOptions {
            profile: Some(Profile::Brutal),
            bots: Some(99),
            ..LoadOptions::default()
        };
        let config = options.config();
        assert_eq!((config.bots, config.zipf_items), (99, 1.5));
        assert_eq!((config.seed, config.click_rows), (1, 5_000_000));
    }

    #[test]
    fn json_is_strict_and_comes_back() {
        let given = LoadOptions {
            rows: Some(4_000),
            days: Some(2),
            replace: true,
            ..LoadOptions::default()
        };
        let json = serde_json::to_value(&given).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "rows": 4000, "days": 2, "replace": true })
        );
        assert_eq!(serde_json::from_value::<LoadOptions>(json).unwrap(), given);
        let wrong = serde_json::json!({ "row": 4000 });
        let error = serde_json::from_value::<LoadOptions>(wrong).unwrap_err();
        assert!(error.to_string().contains("unknown field `row`"), "{error}");
    }
}
