//! What to generate, as typed or as the JSON of a load-generation run.

use chrono::NaiveDate;
use clap::Args;
use rankmill_datagen::Config;
use serde::{Deserialize, Serialize};

use crate::human::parse_count;

/// Options of a generation; what is left out has its default. As JSON, the names are those of the
/// command line with `_` in place of `-`, and counts are numbers.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LoadOptions {
    /// The first day; an argument of its own on the command line.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<NaiveDate>,
    /// Clicks to make over all days, such as 400M [default: 5M].
    #[arg(long, value_parser = parse_count)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<u64>,
    /// Web requests to make over all days [default: 1M].
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
    /// Number of days [default: 3].
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
    /// Share of sessions without a user [default: 0.2].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) anonymous_share: Option<f64>,
    /// Share of sessions whose user is not in the dimension [default: 0.005].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unknown_user_share: Option<f64>,
    /// Share of clicks by a few bots [default: 0.02].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bot_share: Option<f64>,
    /// Removes what was generated there before.
    #[arg(long)]
    pub(crate) replace: bool,
}

impl LoadOptions {
    /// What the generator is to make.
    pub(crate) fn config(&self) -> Config {
        let base = Config {
            seed: 1,
            click_rows: 5_000_000,
            web_rows: 1_000_000,
            users: 200_000,
            performances: 20_000,
            days: 3,
            ..Config::default()
        };
        Config {
            seed: self.seed.unwrap_or(base.seed),
            click_rows: self.rows.unwrap_or(base.click_rows),
            web_rows: self.web_rows.unwrap_or(base.web_rows),
            users: self.users.unwrap_or(base.users),
            performances: self.performances.unwrap_or(base.performances),
            from: self.from.unwrap_or(base.from),
            days: self.days.unwrap_or(base.days),
            zipf_items: self.zipf_items.unwrap_or(base.zipf_items),
            zipf_users: self.zipf_users.unwrap_or(base.zipf_users),
            drift: self.drift.unwrap_or(base.drift),
            anonymous_share: self.anonymous_share.unwrap_or(base.anonymous_share),
            unknown_user_share: self.unknown_user_share.unwrap_or(base.unknown_user_share),
            bot_share: self.bot_share.unwrap_or(base.bot_share),
            ..base
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
        assert_eq!((config.drift, config.anonymous_share), (0.8, 0.2));
        assert_eq!((config.unknown_user_share, config.bot_share), (0.005, 0.02));
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
