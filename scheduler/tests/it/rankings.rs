//! Random rankings on executors, under both of Ballista's planners, against the naive oracle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::test_runner::TestRunner;
use rankmill_engine::{Session, SessionOptions};
use rankmill_scheduler::cluster::Planner;

use crate::check::{check, config};
use crate::cluster::{cluster_of_two, cluster_with_memory};
use crate::job::{Job, block_on};
use crate::lake::{Kind, Lake, Value, texts};
use crate::layout::layout;
use crate::scenario::scenario;

#[test]
fn equal_the_oracle_under_both_planners() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = [Planner::Static, Planner::Adaptive].map(|planner| {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let work = folder.path().join(format!("{planner:?}"));
        let cluster = block_on(cluster_of_two(&session, &work, planner));
        session.with_compute(cluster)
    });
    let mut runner = TestRunner::new(config(12, 3));
    let checked = runner.run(&(scenario(), layout()), |(scenario, layout)| {
        let scenario = scenario.without_order_by_percentiles();
        for session in &sessions {
            check(&scenario, &layout, |job| job.on(session.clone()))?;
        }
        Ok(())
    });
    checked.unwrap();
}

/// No dimension may have a table: all are joined.
fn without_tables() -> Session {
    let options = SessionOptions {
        table_bytes: Some(0),
        ..SessionOptions::default()
    };
    Session::new(&options).unwrap()
}

const VISITORS: &str = "
version: 1
name: test
source: { path: '{lake}/log/', date: { partition: date } }
lookups:
  - path: '{lake}/users.parquet'
    on: user
    attributes: { band: band }
ranking:
  item: item
  per: [date, band]
  measures: { visitors: count(distinct user), clicks: count(*), first: min(note) }
  order_by: [visitors, clicks]
  top: 10
output: { path: '{lake}/out/' }
";

/// A click's user and item.
type Click = (i64, i64);

/// Half of all clicks are of one item, every thirteenth of a user whom nobody knows.
fn clicks(day: i64) -> Vec<Click> {
    let click = |n: i64| {
        let user = (n * 7_919 + day * 31) % 50_021;
        let item = match n % 2 {
            0 => 1 << 33,
            _ => n * n % 29_989 - 5_000,
        };
        (if n % 13 == 0 { -user } else { user }, item)
    };
    (0..30_000).map(click).collect()
}

/// A text that is long, so that groups take much memory, and comes in the order of users.
fn note(user: i64) -> Value {
    Value::text(format!("{:03000}", user + 100_000))
}

/// What the users' bands are, in one generation of the dimension.
fn band(user: i64, generation: i64) -> String {
    format!("band {}", (user + generation) % 4)
}

fn write_users(lake: &Lake, generation: i64) {
    let users: Vec<i64> = (0..50_021).collect();
    let bands = users
        .iter()
        .map(|user| Value::text(band(*user, generation)));
    let columns = [
        ("user", Kind::Int64.array(&ints(users.iter().copied()))),
        ("band", Kind::Utf8.array(&bands.collect::<Vec<_>>())),
    ];
    lake.write("users.parquet", &columns, 10_000);
}

fn ints(values: impl Iterator<Item = i64>) -> Vec<Value> {
    values.map(|value| Value::int(Some(value))).collect()
}

/// By sets of users.
fn expected(day: i64, generation: i64) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<(String, i64), (BTreeSet<i64>, i128)> = BTreeMap::new();
    for (user, item) in clicks(day) {
        let band = match user {
            0.. => band(user, generation),
            _ => "unknown".to_owned(),
        };
        let (users, clicks) = groups.entry((band, item)).or_default();
        users.insert(user);
        *clicks += 1;
    }
    let mut rows: Vec<_> = groups
        .into_iter()
        .map(|((band, item), (users, clicks))| {
            let first = users.first().copied().unwrap_or_default();
            (band, Reverse(users.len()), Reverse(clicks), item, first)
        })
        .collect();
    rows.sort();
    let (mut rank, mut of) = (0, String::new());
    let rows = rows.into_iter();
    let rows = rows.filter_map(|(band, Reverse(visitors), Reverse(clicks), item, first)| {
        rank = if band == of { rank + 1 } else { 1 };
        of.clone_from(&band);
        let numbers = [rank, item.into(), visitors as i128, clicks].map(Value::Int);
        let mut row = vec![
            Value::text(crate::job::day(day).to_string()),
            Value::text(band),
        ];
        row.extend(numbers);
        row.push(note(first));
        (rank <= 10).then_some(row)
    });
    rows.collect()
}

/// Executors whose memory doesn't hold the groups, under both planners; and a dimension that is
/// written anew between two runs, while executors keep the table of the old one.
#[test]
fn short_memory_and_new_dimensions_give_the_same_rankings() {
    const MEMORY: u64 = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    for planner in [Planner::Static, Planner::Adaptive] {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let work = folder.path().join(format!("{planner:?}"));
        let cluster = block_on(cluster_with_memory(&session, &work, planner, MEMORY));
        let joining = without_tables().with_compute(cluster.clone());
        let session = session.with_compute(cluster);
        let lake = Lake::new();
        for day in [0, 1] {
            for (file, clicks) in clicks(day).chunks(10_000).enumerate() {
                let notes = clicks.iter().map(|c| note(c.0));
                let columns = [
                    ("note", texts(&notes.collect::<Vec<_>>())),
                    ("user", Kind::Int64.array(&ints(clicks.iter().map(|c| c.0)))),
                    ("item", Kind::Int64.array(&ints(clicks.iter().map(|c| c.1)))),
                ];
                let date = crate::job::day(day);
                lake.write(&format!("log/date={date}/{file}.parquet"), &columns, 5_000);
            }
        }
        for generation in 0..3 {
            write_users(&lake, generation);
            let job = Job::new(&lake, VISITORS).on(session.clone());
            // One date cannot be left to one task.
            let days: &[i64] = if generation == 2 { &[0] } else { &[0, 1] };
            let report = job.run(days).unwrap();
            let short = report.skew.decisions.iter();
            let short = short.filter(|said| said.contains("memory was short"));
            assert!(
                short.count() > 0,
                "{planner:?}: {:?}",
                report.skew.decisions
            );
            for day in days {
                assert!(
                    job.rows(*day) == expected(*day, generation),
                    "{planner:?} {generation}"
                );
            }
        }
        let job = Job::new(&lake, VISITORS).on(joining).forced();
        let report = job.run(&[0, 1]).unwrap();
        let mut said = report.skew.decisions.iter();
        let joined = said.any(|said| said.contains("shuffled by key"));
        assert!(joined || planner == Planner::Adaptive, "{:?}", report.skew);
        for day in [0, 1] {
            assert!(job.rows(day) == expected(day, 2), "{planner:?} joined");
        }
    }
}
