//! The calendar against a walk over every minute, and what people ask of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::oracle::{Fields, Year};
use super::*;

const ZONES: [&str; 7] = [
    "Asia/Seoul",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    // Half an hour, at two o'clock.
    "Australia/Lord_Howe",
    // At midnight: the date goes back, or the day begins at one.
    "Asia/Beirut",
    // Around Ramadan, the other way round.
    "Africa/Casablanca",
];
static YEARS: LazyLock<Vec<Year>> = LazyLock::new(|| {
    let zones = ZONES.iter().map(|zone| zone.parse().unwrap());
    zones.map(|zone| Year::new(zone, 2026)).collect()
});

fn schedule(cron: &str, zone: &str) -> Schedule {
    let json = serde_json::json!({ "cron": cron, "timezone": zone });
    serde_json::from_value(json).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse::<DateTime<chrono::FixedOffset>>()
        .unwrap()
        .to_utc()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// Firings between two instants, the first excluded, as local times.
fn shown(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let (schedule, tz) = (schedule(cron, zone), zone.parse::<Tz>().unwrap());
    let mut after = at(from);
    let mut shown = Vec::new();
    while let Some(firing) = next_firing(&schedule, after).filter(|f| f.at <= at(to)) {
        shown.push(
            firing
                .at
                .with_timezone(&tz)
                .format("%d %H:%M %z")
                .to_string(),
        );
        after = firing.at;
    }
    shown
}

fn some_of(range: std::ops::Range<u32>, most: usize) -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(range, 1..=most)
}

prop_compose! {
    fn fields()(
        minutes in prop_oneof![
            4 => some_of(0..60, 3),
            1 => Just((0..60).collect()),
            1 => Just([0, 15, 30, 45].into()),
        ],
        hours in prop_oneof![
            3 => some_of(0..24, 3),
            2 => some_of(0..4, 3),
            2 => Just((0..24).collect()),
            1 => Just((0..24).step_by(2).collect()),
        ],
        days in prop_oneof![3 => Just(None), 1 => some_of(1..32, 4).prop_map(Some)],
        months in prop_oneof![4 => Just(None), 1 => some_of(1..13, 6).prop_map(Some)],
        weekdays in prop_oneof![3 => Just(None), 1 => some_of(0..7, 3).prop_map(Some)],
    ) -> Fields {
        Fields { minutes, hours, days, months, weekdays }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_fires_as_one_who_watches_the_wall_says(fields in fields(), zone in 0..ZONES.len()) {
        let year = &YEARS[zone];
        let expected = year.firings(&fields);
        let schedule = schedule(&fields.text(), ZONES[zone]);
        prop_assume!(schedule.pattern().is_some());
        // All of a year if they are few, else the days about each change of the clocks.
        let spans = if expected.len() < 3_000 {
            vec![(year.start(), TimeDelta::days(366))]
        } else {
            let about = |turn: DateTime<Utc>| (turn - TimeDelta::hours(5), TimeDelta::hours(10));
            year.turns().into_iter().map(about).collect()
        };
        for (start, length) in spans {
            let last = (start + length).min(year.start() + TimeDelta::days(366) - TimeDelta::minutes(1));
            let mut after = start;
            for firing in expected.iter().filter(|at| **at > start && **at <= last) {
                let found = next_firing(&schedule, after).map(|firing| firing.at);
                prop_assert_eq!(found, Some(*firing), "after {} ({})", after, fields.text());
                after = *firing;
            }
            let beyond = next_firing(&schedule, after).map(|firing| firing.at);
            prop_assert!(beyond.is_none_or(|at| at > last), "{:?} after {}", beyond, after);
        }
    }

    #[test]
    fn what_comes_next_does_not_depend_on_where_one_looks_from(
        fields in fields(), zone in 0..ZONES.len(), seconds in 0..31_536_000i64, nanos in 0..1_000i64,
    ) {
        let schedule = schedule(&fields.text(), ZONES[zone]);
        prop_assume!(schedule.pattern().is_some());
        let year = &YEARS[zone];
        let after = year.start() + TimeDelta::seconds(seconds) + TimeDelta::nanoseconds(nanos);
        let expected = year.firings(&fields).into_iter().find(|at| *at > after);
        let found = next_firing(&schedule, after).map(|firing| firing.at);
        match expected {
            Some(_) => prop_assert_eq!(found, expected),
            None => prop_assert!(found.is_none_or(|at| at >= year.start() + TimeDelta::days(366))),
        }
    }

    #[test]
    fn what_is_due_is_what_came_since(
        fields in fields(), zone in 0..ZONES.len(), start in 0..8_000i64, hours in 0..700i64,
        catch_up: bool, deadline_hours in prop::option::of(1..48i64),
    ) {
        let mut schedule = schedule(&fields.text(), ZONES[zone]);
        prop_assume!(schedule.pattern().is_some());
        schedule.catch_up = catch_up;
        schedule.deadline = deadline_hours.map(|hours| format!("{hours}h"));
        let year = &YEARS[zone];
        let fired_until = year.start() + TimeDelta::hours(start);
        let now = fired_until + TimeDelta::hours(hours);
        prop_assume!(now < year.start() + TimeDelta::days(365));
        let calendar = Calendar::new(&schedule).unwrap();
        let came = year.firings(&fields).into_iter().filter(|at| *at > fired_until && *at <= now);
        let came: Vec<Firing> = came.map(|at| calendar.firing(at)).collect();
        let found = due(&schedule, fired_until, now);
        if catch_up {
            if came.len() <= MAX_STEPS {
                let mut newest_of_date = came.clone();
                newest_of_date.reverse();
                newest_of_date.dedup_by_key(|firing| firing.to);
                newest_of_date.reverse();
                prop_assert_eq!(found, newest_of_date);
            }
        } else {
            let alive = |firing: &&Firing| firing.deadline.is_none_or(|deadline| now <= deadline);
            prop_assert_eq!(found.first(), came.last().filter(alive));
            prop_assert!(found.len() <= 1);
        }
    }
}

#[test]
fn a_skipped_time_fires_once_after_the_gap() {
    // 2026-03-29 has 23 hours in Berlin: two o'clock is three o'clock.
    let day = |cron| {
        shown(
            cron,
            "Europe/Berlin",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        )
    };
    assert_eq!(day("30 2 * * *"), ["29 03:00 +0200"]);
    assert_eq!(day("0,30 2,3 * * *"), ["29 03:00 +0200", "29 03:30 +0200"]);
    assert_eq!(
        day("0 */2 * * *")[..3],
        ["29 03:00 +0200", "29 04:00 +0200", "29 06:00 +0200"]
    );
    assert_eq!(day("30 * * * *").len(), 23);
    // Half an hour in Lord Howe.
    let day = |cron| {
        shown(
            cron,
            "Australia/Lord_Howe",
            "2026-10-04T00:00:00+10:30",
            "2026-10-05T00:00:00+11:00",
        )
    };
    assert_eq!(day("15 2 * * *"), ["04 02:30 +1100"]);
    // Midnight itself in Beirut.
    let day = |cron| {
        shown(
            cron,
            "Asia/Beirut",
            "2026-03-28T12:00:00+02:00",
            "2026-03-29T12:00:00+03:00",
        )
    };
    assert_eq!(day("10 0 * * *"), ["29 01:00 +0300"]);
}

#[test]
fn a_repeated_time_fires_once_but_an_interval_goes_on() {
    // 2026-10-25 has 25 hours in Berlin: two o'clock comes twice.
    let day = |cron| {
        shown(
            cron,
            "Europe/Berlin",
            "2026-10-24T23:59:00+02:00",
            "2026-10-25T23:59:00+01:00",
        )
    };
    assert_eq!(day("30 2 * * *"), ["25 02:30 +0200"]);
    assert_eq!(
        day("*/20 2 * * *"),
        ["25 02:00 +0200", "25 02:20 +0200", "25 02:40 +0200"]
    );
    assert_eq!(day("0 * * * *").len(), 25);
    assert_eq!(
        day("@hourly")[1..5],
        [
            "25 01:00 +0200",
            "25 02:00 +0200",
            "25 02:00 +0100",
            "25 03:00 +0100"
        ]
    );
    assert_eq!(day("*/30 0-23 * * *").len(), 50);
    let day = |cron| {
        shown(
            cron,
            "Australia/Lord_Howe",
            "2026-04-05T00:00:00+11:00",
            "2026-04-05T23:59:00+10:30",
        )
    };
    assert_eq!(day("45 1 * * *"), ["05 01:45 +1100"]);
    assert_eq!(day("45 * * * *").len(), 25);
}

#[test]
fn the_dates_follow_the_local_date() {
    let mut schedule = schedule("10 0 * * *", "Asia/Seoul");
    let next =
        |schedule: &Schedule| next_firing(schedule, at("2026-01-31T20:00:00+09:00")).unwrap();
    // Still January in UTC.
    let firing = next(&schedule);
    assert_eq!(firing.at, at("2026-02-01T00:10:00+09:00"));
    assert_eq!(
        (firing.from, firing.to),
        (date("2026-01-30"), date("2026-01-31"))
    );
    assert_eq!(firing.deadline, None);
    schedule.date = ScheduleDate::Today;
    schedule.lookback_days = 0;
    schedule.deadline = Some("1h30m".into());
    let firing = next(&schedule);
    assert_eq!(
        (firing.from, firing.to),
        (date("2026-02-01"), date("2026-02-01"))
    );
    assert_eq!(firing.deadline, Some(at("2026-02-01T01:40:00+09:00")));
}

#[test]
fn missed_firings() {
    let mut hourly = schedule("0 * * * *", "Asia/Seoul");
    let now = at("2026-03-10T12:30:00+09:00");
    let ats = |schedule: &Schedule, since: &str| -> Vec<DateTime<Utc>> {
        due(schedule, at(since), now)
            .iter()
            .map(|firing| firing.at)
            .collect()
    };
    let expected = [
        "2026-03-08T23:00:00+09:00",
        "2026-03-09T23:00:00+09:00",
        "2026-03-10T12:00:00+09:00",
    ];
    assert_eq!(ats(&hourly, "2026-03-08T20:30:00+09:00"), expected.map(at));
    // Two years of days, a part at a time.
    let first = due(&hourly, at("2024-03-10T00:30:00+09:00"), now);
    assert_eq!((first.len(), first[0].to), (MAX_DUE, date("2024-03-09")));
    let second = due(&hourly, first[MAX_DUE - 1].at, now);
    assert_eq!(second[0].to, first[MAX_DUE - 1].to.succ_opt().unwrap());
    assert_eq!(second.last().unwrap().at, at("2026-03-10T12:00:00+09:00"));
    hourly.catch_up = false;
    assert_eq!(
        ats(&hourly, "2020-01-01T00:00:00Z"),
        [at("2026-03-10T12:00:00+09:00")]
    );
    assert!(
        ats(&hourly, "2026-03-10T12:00:00+09:00").is_empty(),
        "it has been run"
    );
    let mut yearly = schedule("@yearly", "Asia/Seoul");
    yearly.catch_up = false;
    assert_eq!(
        ats(&yearly, "1990-01-01T00:00:00Z"),
        [at("2026-01-01T00:00:00+09:00")]
    );
    yearly.deadline = Some("2d".into());
    assert!(ats(&yearly, "1990-01-01T00:00:00Z").is_empty(), "too late");
}
