//! When schedules fire, and for which dates. Pure: no I/O, no clock.
//!
//! A cron expression speaks of the clock on the wall, which some zones set forward and back:
//!
//! - A time that is skipped fires at the first instant after the gap; several of them, or one of
//!   them and the time at the end of the gap, fire once.
//! - A time that comes twice fires the first time.
//! - Where the expression names every hour of the day, it means intervals rather than times of
//!   day: it fires at every instant at which the wall shows a time of it, so an hourly schedule
//!   fires 23 times on a day of 23 hours and 25 times on a day of 25.
//!
//! croner (4.0) matches times on the wall here, without any zone. With a zone it decides by how
//! an expression is written: `0,30 2 * * *` would not fire at all on a day without two o'clock,
//! and `0 */2 * * *` would fire twice where two o'clock comes twice.

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Days, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;
use rankmill_jobs::spec::{Schedule, ScheduleDate};

/// Firings that [`due`] gives at once.
pub const MAX_DUE: usize = 366;
/// Firings that [`due`] looks at for them.
const MAX_STEPS: usize = 10_000;

/// A time at which a schedule starts its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// When.
    pub at: DateTime<Utc>,
    /// The first date to bring up to date.
    pub from: NaiveDate,
    /// The last one: the date that the firing is for.
    pub to: NaiveDate,
    /// After this the run counts as late.
    pub deadline: Option<DateTime<Utc>>,
}

/// The first firing after an instant. `None` if there is no other, or if the schedule was never
/// validated.
pub fn next_firing(schedule: &Schedule, after: DateTime<Utc>) -> Option<Firing> {
    let calendar = Calendar::new(schedule)?;
    Some(calendar.firing(calendar.next(after)?))
}

/// The newest firing up to an instant, of the four years before it.
pub(crate) fn last_firing(schedule: &Schedule, until: DateTime<Utc>) -> Option<Firing> {
    let calendar = Calendar::new(schedule)?;
    let from = until.checked_sub_days(Days::new(4 * 366))?;
    Some(calendar.firing(calendar.newest(from, until)?))
}

/// The firings after `fired_until` and up to `now` that are to be run, oldest first.
///
/// With `catch_up` these are all of them, save that of firings for the same date only the newest
/// counts: the earlier ones would do the same work on less input. At most [`MAX_DUE`] come at
/// once, the oldest. Without `catch_up` it is the newest one alone, unless its deadline has
/// passed.
///
/// Continue from the last firing returned, or from `now` if there is none.
pub fn due(schedule: &Schedule, fired_until: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Firing> {
    let Some(calendar) = Calendar::new(schedule) else {
        return Vec::new();
    };
    if schedule.catch_up {
        return calendar.missed(fired_until, now);
    }
    calendar
        .newest(fired_until, now)
        .map(|at| calendar.firing(at))
        .filter(|firing| firing.deadline.is_none_or(|deadline| now <= deadline))
        .into_iter()
        .collect()
}

/// A schedule, parsed.
struct Calendar<'a> {
    schedule: &'a Schedule,
    pattern: Cron,
    zone: Tz,
    /// It names every hour.
    by_interval: bool,
}

impl<'a> Calendar<'a> {
    fn new(schedule: &'a Schedule) -> Option<Self> {
        let pattern = schedule.pattern()?;
        Some(Self {
            schedule,
            zone: schedule.zone(),
            by_interval: pattern.pattern.hours.values().len() == 24,
            pattern,
        })
    }

    fn firing(&self, at: DateTime<Utc>) -> Firing {
        let today = at.with_timezone(&self.zone).date_naive();
        let to = match self.schedule.date {
            ScheduleDate::Today => today,
            ScheduleDate::Yesterday => back(today, 1),
        };
        Firing {
            at,
            from: back(to, self.schedule.lookback_days),
            to,
            deadline: self
                .schedule
                .deadline()
                .and_then(|deadline| at.checked_add_signed(TimeDelta::from_std(deadline).ok()?)),
        }
    }

    fn missed(&self, fired_until: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Firing> {
        let mut missed: Vec<Firing> = Vec::new();
        let mut after = fired_until;
        for _ in 0..MAX_STEPS {
            let Some(at) = self.next(after).filter(|at| *at <= now) else {
                break;
            };
            let firing = self.firing(at);
            if missed.last().is_some_and(|last| last.to == firing.to) {
                missed.pop();
            } else if missed.len() == MAX_DUE {
                break;
            }
            missed.push(firing);
            after = at;
        }
        missed
    }

    /// The newest firing after `fired_until` and up to `now`. Looks back further and further, as
    /// cron expressions can only be asked for what comes next.
    fn newest(&self, fired_until: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut back = TimeDelta::hours(1);
        loop {
            let start = now.checked_sub_signed(back).unwrap_or(fired_until);
            let mut newest = None;
            let mut next = self.next(start.max(fired_until));
            while let Some(at) = next.filter(|at| *at <= now) {
                newest = Some(at);
                next = self.next(at);
            }
            if newest.is_some() || start <= fired_until {
                return newest;
            }
            back = back * 24;
        }
    }

    /// The first firing after an instant.
    fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone).naive_local();
        let ahead = self.first_after(local, false, after);
        if !self.by_interval {
            return ahead;
        }
        // If the wall will show this hour once more, its times come again before those after it.
        let MappedLocalTime::Ambiguous(_, again) = self.zone.from_local_datetime(&local) else {
            return ahead;
        };
        let turn = self.turn(after, again.to_utc());
        let shown = turn.with_timezone(&self.zone).naive_local();
        let repeated = self.first_after(shown, true, after.max(turn - TimeDelta::nanoseconds(1)));
        ahead.into_iter().chain(repeated).min()
    }

    /// The first firing after `after` among the times that the wall shows from `local` on.
    fn first_after(
        &self,
        mut local: NaiveDateTime,
        mut inclusive: bool,
        after: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        loop {
            // Gives up by itself in the year 5000.
            local = self.pattern.find_next_occurrence(&local, inclusive).ok()?;
            inclusive = false;
            let at = match self.zone.from_local_datetime(&local) {
                MappedLocalTime::Single(at) => Some(at),
                MappedLocalTime::Ambiguous(first, again) if self.by_interval => {
                    Some(if first.to_utc() > after { first } else { again })
                }
                MappedLocalTime::Ambiguous(first, _) => Some(first),
                MappedLocalTime::None if self.by_interval => None,
                MappedLocalTime::None => GapInfo::new(&local, &self.zone).and_then(|gap| gap.end),
            };
            if let Some(at) = at.map(|at| at.to_utc()).filter(|at| *at > after) {
                return Some(at);
            }
        }
    }

    /// The instant in `after..=until` at which the clocks are set back, if there is one: else
    /// `until`.
    fn turn(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> DateTime<Utc> {
        let offset = |at: i64| {
            let at = DateTime::from_timestamp(at, 0).unwrap_or(after);
            self.zone.offset_from_utc_datetime(&at.naive_utc())
        };
        let (mut before, mut turned) = (after.timestamp(), until.timestamp());
        let new = offset(turned);
        while turned - before > 1 {
            let middle = before + (turned - before) / 2;
            match offset(middle) == new {
                true => turned = middle,
                false => before = middle,
            }
        }
        DateTime::from_timestamp(turned, 0).unwrap_or(until)
    }
}

fn back(date: NaiveDate, days: u32) -> NaiveDate {
    date.checked_sub_days(Days::new(days.into()))
        .unwrap_or(NaiveDate::MIN)
}
