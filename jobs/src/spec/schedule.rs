//! When a job runs: the fields of a schedule, and what they mean.

use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use rankmill_engine::functions::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::did_you_mean;

/// When a job runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of month, month, day of week; or `@daily`, `@hourly`, `@weekly`,
    /// `@monthly`, `@yearly`.
    pub cron: String,
    /// IANA name of the zone in which `cron` is meant.
    #[serde(default = "super::default_zone")]
    pub timezone: String,
    /// Which date a firing is for: the day before it, or its own.
    #[serde(default)]
    pub date: ScheduleDate,
    /// Days before that date that are brought up to date with it, for input that comes late.
    #[serde(default = "super::one")]
    pub lookback_days: u32,
    /// Whether firings that were missed are made up for, once for each date; otherwise only the
    /// newest one is, and not after its deadline.
    #[serde(default = "super::yes")]
    pub catch_up: bool,
    /// How long after its firing a run counts as late: `90m`, `2h`, `1h30m`, `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Days back from the newest date in which missing and stale rankings are mended without
    /// being asked for; 0: never.
    #[serde(default)]
    pub repair_days: u32,
}

/// Which date a firing is for, in the schedule's zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleDate {
    /// The day before the firing.
    #[default]
    Yesterday,
    /// The day of the firing.
    Today,
}

impl Schedule {
    /// The zone; UTC in a schedule that was never validated.
    pub fn zone(&self) -> TimeZone {
        self.timezone.parse().unwrap_or(TimeZone::UTC)
    }

    /// The times of day and the days on which it fires, by the clock on the wall: what becomes
    /// of times that the zone skips or repeats is for the calendar to say. `None` in a schedule
    /// that was never validated.
    pub fn pattern(&self) -> Option<Cron> {
        parse_cron(&self.cron).ok()
    }

    /// How long after its firing a run counts as late.
    pub fn deadline(&self) -> Option<Duration> {
        parse_duration(self.deadline.as_deref()?).ok()
    }
}

/// The fields of a cron expression, and what may stand in them.
const CRON_FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or JAN-DEC"),
    ("day of week", "0-7 or SUN-SAT"),
];
const NICKNAMES: [&str; 6] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@hourly",
];

/// Parses a cron expression of five fields, or a nickname for one; says what is wrong with it.
pub(super) fn parse_cron(text: &str) -> Result<Cron, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if let [nickname] = fields.as_slice()
        && nickname.starts_with('@')
    {
        if !NICKNAMES.contains(&nickname.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "'{nickname}' is not known{}; known: {}",
                did_you_mean(nickname, NICKNAMES.into_iter()),
                NICKNAMES.join(", ")
            ));
        }
    } else if fields.len() != CRON_FIELDS.len() {
        return Err(format!(
            "a cron expression has 5 fields (minute hour day month weekday), not {}",
            fields.len()
        ));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = match parser.parse(text) {
        Ok(cron) => cron,
        Err(error) => return Err(wrong_field(parser, &fields, &error.to_string())),
    };
    // Lists such as `,` parse, but name nothing.
    let pattern = &cron.pattern;
    let named = [
        &pattern.minutes,
        &pattern.hours,
        &pattern.days,
        &pattern.months,
        &pattern.days_of_week,
    ]
    .map(|field| !field.values().is_empty() || field.has_modifiers());
    if let Some(empty) = named.iter().position(|named| !named) {
        return Err(wrong_value(empty, fields.get(empty).unwrap_or(&text)));
    }
    // 2000 is a leap year that begins on a Saturday: whatever fires at all does within 28 years.
    let from =
        chrono::NaiveDate::from_ymd_opt(2000, 1, 1).map(|day| day.and_time(Default::default()));
    if from.is_some_and(|from| cron.find_next_occurrence(&from, true).is_err()) {
        return Err(format!("'{text}' never comes: there is no such day"));
    }
    Ok(cron)
}

/// Which field of a cron expression is wrong.
fn wrong_field(parser: CronParser, fields: &[&str], otherwise: &str) -> String {
    let alone = |index: usize| {
        let mut only = ["*"; CRON_FIELDS.len()];
        only[index] = fields[index];
        parser.parse(&only.join(" ")).is_err()
    };
    match (0..fields.len().min(CRON_FIELDS.len())).find(|index| alone(*index)) {
        Some(index) => wrong_value(index, fields[index]),
        None => otherwise.to_owned(),
    }
}

fn wrong_value(index: usize, value: &str) -> String {
    let (name, range) = CRON_FIELDS[index];
    format!(
        "the {name} '{value}' is not right: use {range}, *, lists (1,2), ranges (1-5), steps (*/2)"
    )
}

const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

/// Parses `90m`, `2h` or `1h30m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{text}' is not a duration: write a number and a unit (s, m, h, d): 90m, 2h, 1h30m"
        )
    };
    let mut seconds: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let mut after = rest[digits..].chars();
        let unit = after
            .next()
            .and_then(|unit| UNITS.iter().find(|(name, _)| *name == unit));
        let (_, length) = unit.ok_or_else(wrong)?;
        let part = number.checked_mul(*length);
        seconds = part
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after.as_str().trim_start();
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs()).ok();
        assert_eq!(seconds("90m"), Some(5_400));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds(" 1d 2h "), Some(93_600));
        assert_eq!(seconds("45s"), Some(45));
        for wrong in [
            "",
            " ",
            "2",
            "h",
            "2 hours",
            "-2h",
            "1.5h",
            "2H",
            "99999999999999999999d",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
        assert_eq!(
            seconds("300000000000000000d"),
            None,
            "too many seconds to count"
        );
    }

    #[test]
    fn cron_expressions() {
        for right in [
            "10 0 * * *",
            "*/15 0-6,22 1 JAN-MAR mon-fri",
            "0 9 L * *",
            "0 9 * * 5#2",
            "0 9 29 2 *",
            "@daily",
            "@Hourly",
        ] {
            assert!(parse_cron(right).is_ok(), "{right}");
        }
        for (wrong, expected) in [
            ("", "5 fields (minute hour day month weekday), not 0"),
            ("0 0 10 0 * * *", "not 7"),
            ("60 0 * * *", "the minute '60' is not right: use 0-59"),
            ("0 24 * * *", "the hour '24'"),
            ("0 0 0 * *", "the day of month '0'"),
            ("0 0 * 13 *", "the month '13'"),
            ("0 0 * * 8", "the day of week '8'"),
            ("0 0 * * FRY", "the day of week 'FRY'"),
            ("5-1 0 * * *", "the minute '5-1'"),
            ("*/0 0 * * *", "the minute '*/0'"),
            (", 0 * * *", "the minute ','"),
            ("0 x * * *", "the hour 'x'"),
            ("0 0 30 2 *", "never comes"),
            ("@dayly", "did you mean '@daily'?"),
            ("@reboot", "'@reboot' is not known"),
            ("@daily @daily", "5 fields"),
        ] {
            let message = parse_cron(wrong).expect_err(wrong);
            assert!(message.contains(expected), "{wrong}: {message}");
        }
    }
}
