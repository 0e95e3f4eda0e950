//! What fires when, found by looking at the clock on the wall every minute of a year.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The values of each field of a cron expression.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) minutes: BTreeSet<u32>,
    pub(super) hours: BTreeSet<u32>,
    /// `None` for `*`.
    pub(super) days: Option<BTreeSet<u32>>,
    pub(super) months: Option<BTreeSet<u32>>,
    /// 0 is Sunday.
    pub(super) weekdays: Option<BTreeSet<u32>>,
}

impl Fields {
    pub(super) fn text(&self) -> String {
        let list = |values: &BTreeSet<u32>| {
            let values: Vec<String> = values.iter().map(u32::to_string).collect();
            values.join(",")
        };
        let or_star = |values: &Option<BTreeSet<u32>>| values.as_ref().map_or("*".into(), list);
        format!(
            "{} {} {} {} {}",
            list(&self.minutes),
            list(&self.hours),
            or_star(&self.days),
            or_star(&self.months),
            or_star(&self.weekdays)
        )
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let has = |values: &Option<BTreeSet<u32>>, value| {
            values.as_ref().is_none_or(|values| values.contains(&value))
        };
        let day = has(&self.days, wall.day());
        let weekday = has(&self.weekdays, wall.weekday().num_days_from_sunday());
        // As in every cron: of two fields that name days, one is enough.
        let on_day = match (&self.days, &self.weekdays) {
            (Some(_), Some(_)) => day || weekday,
            _ => day && weekday,
        };
        self.minutes.contains(&wall.minute())
            && self.hours.contains(&wall.hour())
            && has(&self.months, wall.month())
            && on_day
    }
}

/// A year of a zone: every minute, and what the wall shows then.
pub(super) struct Year {
    minutes: Vec<(DateTime<Utc>, NaiveDateTime)>,
}

impl Year {
    pub(super) fn new(zone: Tz, year: i32) -> Self {
        let first = Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap();
        let minutes = (0..366 * 1_440).map(|minute| {
            let at = first + TimeDelta::minutes(minute);
            (at, at.with_timezone(&zone).naive_local())
        });
        Self {
            minutes: minutes.collect(),
        }
    }

    pub(super) fn start(&self) -> DateTime<Utc> {
        self.minutes[0].0
    }

    /// The first minute of each new offset.
    pub(super) fn turns(&self) -> Vec<DateTime<Utc>> {
        self.minutes
            .windows(2)
            .filter(|pair| pair[1].1 - pair[0].1 != TimeDelta::minutes(1))
            .map(|pair| pair[1].0)
            .collect()
    }

    /// All firings after the first minute.
    pub(super) fn firings(&self, fields: &Fields) -> Vec<DateTime<Utc>> {
        let every_hour = fields.hours.len() == 24;
        let mut latest_shown = self.minutes[0].1;
        let mut firings = Vec::new();
        for pair in self.minutes.windows(2) {
            let ((_, before), (at, shown)) = (pair[0], pair[1]);
            let fires = if every_hour {
                fields.matches(shown)
            } else {
                // Skipped times count with the one that comes after them; those that were shown
                // before do not count again.
                let minute = TimeDelta::minutes(1);
                let mut skipped = before + minute;
                let mut fires = fields.matches(shown);
                while skipped < shown {
                    fires |= fields.matches(skipped);
                    skipped += minute;
                }
                fires && shown > latest_shown
            };
            latest_shown = latest_shown.max(shown);
            if fires {
                firings.push(at);
            }
        }
        firings
    }
}
