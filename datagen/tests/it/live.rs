//! Traffic is appended as time goes by, and ends as the lake that is made at once.

use std::sync::Arc;

use chrono::{Days, NaiveTime};
use object_store::path::Path;
use rankmill_datagen::{Appended, Config, Error, Pace, Part, Plan, Progress, append};

use crate::lake::{Lake, small};

/// A clock that stands still for what is overdue, and then goes as fast as it can to a time at which it stops.
struct Until {
    start_us: i64,
    end_us: i64,
}

impl Progress for Until {
    fn part_done(&self, _: &Part, _: u64, _: u64) {}
}

impl Pace for Until {
    fn now_us(&self) -> i64 {
        self.start_us
    }

    fn wait_until(&self, at_us: i64) -> bool {
        at_us <= self.end_us
    }
}

fn by_time() -> Config {
    Config {
        seconds_per_file: 3_600,
        days: 2,
        late_share: 0.1,
        ..small()
    }
}

/// Appends until `hours` after the first date's start (KST).
fn append_until(lake: &Lake, hours: i64) -> Result<Appended, Error> {
    let start = by_time().from.and_time(NaiveTime::MIN).and_utc();
    let start_us = start.timestamp_micros() - 9 * 3_600_000_000;
    let pace = Until {
        start_us: start_us + hours / 2 * 3_600_000_000,
        end_us: start_us + hours * 3_600_000_000,
    };
    let plan = Plan::new(&by_time())?;
    let (store, handle) = (Arc::clone(&lake.store), lake.handle());
    append(
        &plan,
        store,
        &Path::from("a/lake"),
        2,
        &handle,
        false,
        &pace,
    )
}

#[test]
fn what_was_appended_bit_by_bit_is_what_is_made_at_once() {
    let lake = Lake::empty();
    let first = append_until(&lake, 10).unwrap();
    assert!(!first.is_whole && first.rows > 0);
    assert!(lake.truth().is_none());
    let clicks = lake.clicks();
    let end = by_time().from.and_hms_opt(10, 0, 0).unwrap();
    let kst = |at_us: i64| {
        let at = chrono::DateTime::from_timestamp_micros(at_us).unwrap();
        (at + chrono::TimeDelta::hours(9)).naive_utc()
    };
    assert!(clicks.len() > 100 && clicks.iter().all(|click| kst(click.at_us) < end));
    // Nothing new is due, then some more, then everything.
    assert_eq!(append_until(&lake, 10).unwrap().files, 0);
    let second = append_until(&lake, 30).unwrap();
    assert!(!second.is_whole && second.rows > first.rows / 2);
    let tomorrow = by_time().from + Days::new(1);
    assert!(lake.clicks().iter().any(|click| click.date == tomorrow));
    // Some files are later than the last day's end, by half a day at most.
    assert!(!append_until(&lake, 48).unwrap().is_whole);
    assert!(append_until(&lake, 60).unwrap().is_whole);
    assert!(lake.objects() == Lake::of(&by_time(), 2).objects());
    assert!(append_until(&lake, 60).unwrap().is_whole);
    assert_eq!(lake.verify(true).unwrap().faults, [] as [String; 0]);
}

#[test]
fn another_lake_is_not_appended_to() {
    let lake = Lake::of(&small(), 1);
    let before = lake.objects();
    let error = append_until(&lake, 10).unwrap_err();
    assert!(matches!(error, Error::LakeExists { .. }), "{error:?}");
    assert!(lake.objects() == before);
}
