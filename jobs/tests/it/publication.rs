//! What makes a published date stale, and what becomes of the dates of a range.

use std::collections::BTreeMap;

use crate::job::{Job, day};
use crate::lake::{Lake, Value, ints, texts};

/// One click on each of some items.
fn put(lake: &Lake, number: i64, file: &str, items: &[i64]) {
    let items: Vec<Value> = items
        .iter()
        .map(|item| Value::Int((*item).into()))
        .collect();
    let file = format!("log/date={}/{file}.parquet", day(number));
    lake.write(
        &file,
        &[("item", ints(&items)), ("user", ints(&items))],
        100,
    );
}

fn dimension(lake: &Lake, file: &str, names: &[(i64, &str)]) {
    let ids: Vec<Value> = names
        .iter()
        .map(|(id, _)| Value::Int((*id).into()))
        .collect();
    let names: Vec<Value> = names.iter().map(|(_, name)| Value::text(*name)).collect();
    lake.write(
        file,
        &[
            ("user", ints(&ids)),
            ("item", ints(&ids)),
            ("name", texts(&names)),
        ],
        100,
    );
}

fn yaml(rank_change: bool) -> String {
    format!(
        "version: 1
name: test
source: {{ path: '{{lake}}/log/', date: {{ partition: date }} }}
ranking:
  item: item
  measures: {{ n: 'count(*)' }}
  order_by: [n]
  top: 10
  rank_change: {rank_change}
output: {{ path: '{{lake}}/out/' }}
"
    )
}

#[test]
fn only_what_decides_the_result_makes_it_stale() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 1, 2]);
    put(&lake, 1, "a", &[1]);
    let job = Job::new(&lake, &yaml(false));
    assert_eq!(job.outcomes(&[0]), ["published 1"]);
    assert_eq!(job.outcomes(&[0]), ["current 1"]);
    put(&lake, 1, "a", &[5, 5]);
    assert_eq!(job.outcomes(&[0]), ["current 1"], "another day's files");
    put(&lake, 0, "a", &[1, 2, 2]);
    assert_eq!(job.outcomes(&[0]), ["published 2"], "a file written anew");
    assert_eq!(job.rows(0)[0][2..], [Value::Int(2), Value::Int(2)]);
    put(&lake, 0, "late", &[3, 3, 3]);
    assert_eq!(job.outcomes(&[0]), ["published 3"], "a late file");
    assert_eq!(job.rows(0)[0][2..], [Value::Int(3), Value::Int(3)]);
    lake.remove("log/date=2026-01-01/late.parquet");
    assert_eq!(job.outcomes(&[0]), ["published 4"], "a file gone");
    let other = Job::new(&lake, &yaml(false).replace("top: 10", "top: 1"));
    assert_eq!(other.outcomes(&[0]), ["published 5"], "another spec");
    assert_eq!(other.rows(0).len(), 1);
    let described = "name: test\ndescription: as before\nschedule: { cron: '0 1 * * *' }";
    let same = Job::new(
        &lake,
        &yaml(false)
            .replace("top: 10", "top: 1")
            .replace("name: test", described),
    );
    assert_eq!(
        same.outcomes(&[0]),
        ["current 5"],
        "another schedule and description"
    );
    assert_eq!(same.forced().outcomes(&[0]), ["published 6"]);
    assert_eq!(other.generations(0), [6, 5, 4, 3, 2, 1]);
}

#[test]
fn values_of_placeholders_are_part_of_the_spec() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 1, 2]);
    let yaml = yaml(false).replace(" date: {", " where: 'item >= {least}', date: {");
    let job = |least: &str| {
        let set = BTreeMap::from([("least".to_owned(), least.to_owned())]);
        Job::with_params(&lake, &yaml, set)
    };
    assert_eq!(job("1").outcomes(&[0]), ["published 1"]);
    assert_eq!(job("2").outcomes(&[0]), ["published 2"]);
    assert_eq!(job("2").rows(0).len(), 1);
    assert_eq!(job("2").outcomes(&[0]), ["current 2"]);
}

#[test]
fn dimensions_are_part_of_the_input() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 2]);
    dimension(&lake, "users.parquet", &[(1, "x"), (2, "x")]);
    dimension(&lake, "titles/a.parquet", &[(1, "one")]);
    let yaml = yaml(false)
        .replace(
            "ranking:",
            "lookups: [{ path: '{lake}/users.parquet', on: user, attributes: { band: name } }]\n\
             labels: [{ path: '{lake}/titles/', on: item, columns: [name] }]\nranking:",
        )
        .replace("  measures", "  per: [date, band]\n  measures");
    let job = Job::new(&lake, &yaml);
    assert_eq!(job.outcomes(&[0]), ["published 1"]);
    assert_eq!(job.outcomes(&[0]), ["current 1"]);
    let name = |row: usize| job.rows(0)[row][4].clone();
    assert_eq!((name(0), name(1)), (Value::text("one"), Value::Null));
    dimension(&lake, "users.parquet", &[(1, "x"), (2, "y"), (3, "z")]);
    assert_eq!(job.outcomes(&[0]), ["published 2"], "a lookup");
    assert_eq!(job.rows(0)[1][1], Value::text("y"));
    dimension(&lake, "titles/b.parquet", &[(2, "two")]);
    assert_eq!(job.outcomes(&[0]), ["published 3"], "labels");
    assert_eq!((name(0), name(1)), (Value::text("one"), Value::text("two")));
    assert_eq!(job.outcomes(&[0]), ["current 3"]);
}

#[test]
fn a_window_makes_later_dates_stale() {
    let lake = Lake::new();
    (0..4).for_each(|number| put(&lake, number, "a", &[number]));
    let yaml = yaml(false).replace(" date: {", " window_days: 2, date: {");
    let job = Job::new(&lake, &yaml);
    assert_eq!(job.outcomes(&[0, 1, 2, 3]), ["published 1"; 4]);
    put(&lake, 1, "b", &[1, 1]);
    let expected = ["current 1", "published 2", "published 2", "current 1"];
    assert_eq!(job.outcomes(&[0, 1, 2, 3]), expected);
    assert_eq!(job.rows(2)[0][2..], [Value::Int(1), Value::Int(3)]);
}

/// Item, previous rank, rank change.
fn changes(job: &Job, number: i64) -> Vec<[Value; 3]> {
    let rows = job.rows(number);
    rows.iter()
        .map(|row| [row[2].clone(), row[4].clone(), row[5].clone()])
        .collect()
}

#[test]
fn rank_changes_follow_the_day_before_as_published() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 1, 1, 2, 2, 3]);
    put(&lake, 1, "a", &[2, 2, 2, 1, 1, 4]);
    put(&lake, 2, "a", &[4, 4, 2]);
    let job = Job::new(&lake, &yaml(true));
    let int = |v: i128| Value::Int(v);
    // Dates are taken in order and once, whatever order they are asked for in.
    assert_eq!(job.outcomes(&[2, 0, 1, 0]), ["published 1"; 3]);
    let new = |item| [int(item), Value::Null, Value::Null];
    assert_eq!(changes(&job, 0), [new(1), new(2), new(3)]);
    let first_change = [[int(2), int(2), int(1)], [int(1), int(1), int(-1)], new(4)];
    assert_eq!(changes(&job, 1), first_change);
    assert_eq!(
        changes(&job, 2),
        [[int(4), int(3), int(2)], [int(2), int(1), int(-1)]]
    );
    assert_eq!(job.outcomes(&[0, 1, 2]), ["current 1"; 3]);

    put(&lake, 0, "a", &[2, 2, 1]);
    // What is published for the day before is what counts, not what could be.
    assert_eq!(job.outcomes(&[1]), ["current 1"]);
    assert_eq!(job.outcomes(&[0]), ["published 2"]);
    assert_eq!(job.outcomes(&[1]), ["published 2"]);
    assert_eq!(changes(&job, 1)[0], [int(2), int(1), int(0)]);
    assert_eq!(job.outcomes(&[1]), ["current 2"]);

    put(&lake, 0, "a", &[1]);
    assert_eq!(
        job.outcomes(&[0, 1, 2]),
        ["published 3", "published 3", "published 2"]
    );
    assert_eq!(changes(&job, 1)[0], new(2));
    assert_eq!(
        job.outcomes(&[0, 1, 2]),
        ["current 3", "current 3", "current 2"]
    );
}

#[test]
fn gaps_do_not_keep_other_dates_from_being_published() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 1]);
    put(&lake, 2, "a", &[1]);
    let job = Job::new(&lake, &yaml(true));
    assert_eq!(
        job.outcomes(&[0, 1, 2, 3]),
        ["published 1", "gap", "published 1", "gap"]
    );
    assert_eq!(
        changes(&job, 2),
        [[Value::Int(1), Value::Null, Value::Null]]
    );
    let empty = job.clone().allowing_empty();
    let expected = ["current 1", "published 1", "published 2", "published 1"];
    assert_eq!(empty.outcomes(&[0, 1, 2, 3]), expected);
    let columns = |number| job.batch(number).unwrap().1.schema();
    assert_eq!(
        columns(1),
        columns(0),
        "an empty ranking has the same columns"
    );
    assert_eq!(job.rows(1), Vec::<Vec<Value>>::new());
    let json: serde_json::Value =
        serde_json::from_slice(&job.file(1, "ranking.json").unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "job": "test", "date": "2026-01-02", "rows": [] })
    );
    put(&lake, 1, "a", &[1]);
    assert_eq!(
        job.outcomes(&[1]),
        ["published 2"],
        "input that comes after all"
    );
}

#[test]
fn too_few_rows_leave_the_last_ranking() {
    let lake = Lake::new();
    put(&lake, 0, "a", &[1, 2]);
    let job = Job::new(&lake, &yaml(false).replace("/out/'", "/out/', min_rows: 2"));
    assert_eq!(job.outcomes(&[0]), ["published 1"]);
    put(&lake, 0, "a", &[1]);
    let error = job.error(&[0]);
    assert!(
        error.contains("it has 1 rows; output.min_rows asks for 2"),
        "{error}"
    );
    assert_eq!(job.rows(0).len(), 2);
    assert_eq!(job.generations(0), [1]);
}
