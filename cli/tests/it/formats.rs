//! Any data set: the same rows in every format, under odd names, with keys of any kind.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use chrono::{Days, NaiveDate};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::small::written;
use crate::support::{Lake, Table, day};

const JOB: &str = "odd";
const FIRST: &str = "2026-02-26";
const DAYS: u64 = 6;

/// A row of a log with odd names: `User ID`, `select`, `Größe`, `weight`, `kind`.
struct Row {
    date: NaiveDate,
    user: i64,
    item: String,
    size: Option<i64>,
    weight: f64,
    kind: Option<&'static str>,
}

/// Rows that cross the end of a month: negative users, items of no, of odd and of number-like text.
fn rows() -> Vec<Row> {
    let items = ["", "a b", "007", "é,\"q\"", "NULL", "{x}", "select", "7"];
    let kinds = [Some("new"), None, Some("New"), Some("unknown")];
    let mut seed = 20_260_226_u64;
    let mut draw = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut rows = Vec::new();
    for i in 0..1_200 {
        rows.push(Row {
            date: day(FIRST) + Days::new(draw(DAYS)),
            user: draw(40) as i64 - 20,
            // The lower half is drawn more often.
            item: items[draw(items.len() as u64).min(draw(8)) as usize].to_owned(),
            size: (i % 7 != 0).then(|| draw(2_000) as i64 - 1_000),
            weight: draw(1_000) as f64 / 10.0,
            kind: kinds[draw(4) as usize],
        });
    }
    rows
}

fn parquet(rows: &[&Row], as_text: bool) -> Vec<(&'static str, ArrayRef)> {
    let users = rows.iter().map(|row| row.user);
    let user: ArrayRef = match as_text {
        true => Arc::new(StringArray::from_iter_values(
            users.map(|user| format!("u{user}")),
        )),
        false => Arc::new(Int64Array::from_iter_values(users)),
    };
    vec![
        ("User ID", user),
        (
            "select",
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| &row.item),
            )),
        ),
        (
            "Größe",
            Arc::new(rows.iter().map(|row| row.size).collect::<Int64Array>()),
        ),
        (
            "weight",
            Arc::new(Float64Array::from_iter_values(
                rows.iter().map(|row| row.weight),
            )),
        ),
        (
            "kind",
            Arc::new(rows.iter().map(|row| row.kind).collect::<StringArray>()),
        ),
    ]
}

fn json_lines(rows: &[&Row]) -> Vec<u8> {
    let line = |row: &&Row| {
        let object = json!({
            "User ID": row.user, "select": row.item, "Größe": row.size, "weight": row.weight,
            "kind": row.kind,
        });
        format!("{object}\n")
    };
    rows.iter().map(line).collect::<String>().into_bytes()
}

fn csv(rows: &[&Row]) -> Vec<u8> {
    let mut text = String::from("User ID;select;Größe;weight;kind\n");
    for row in rows {
        let item = row.item.replace('"', "\"\"");
        let size = row.size.map_or(String::new(), |size| size.to_string());
        let kind = row.kind.unwrap_or_default();
        text += &format!("{};\"{item}\";{size};{};{kind}\n", row.user, row.weight);
    }
    text.into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn spec(format: &str, path: &str, window_days: u64) -> String {
    format!(
        r#"
version: 1
name: odd
source:
  path: "{{lake}}/{path}"
  {format}
  date: {{ partition: day }}
  where: '"weight" >= 0.5'
  window_days: {window_days}
lookups:
  - path: "{{lake}}/people/"
    on: {{ fact: "User ID", dimension: Id }}
    attributes: {{ Home Town: '"Town"' }}
ranking:
  item: select
  per: [kind, date, Home Town]
  measures:
    hits: "count(*)"
    Users: 'count(distinct "User ID")'
    total: 'sum("Größe")'
    least: 'min("Größe")'
    most: 'max("Größe")'
    mean: 'avg("weight")'
    heavy: 'sum("weight")'
    about: 'approx_distinct("User ID")'
    per_user: 'sum("Größe") * 1.0 / count(distinct "User ID")'
    large: 'count(*) filter (where "Größe" > 0)'
  order_by: [Users desc, total ASC]
  top: 3
output: {{ path: "{{lake}}/rankings/odd/" }}
"#
    )
}

/// Each user's town; some users have none, some of the users are not there.
fn town(user: i64) -> Option<&'static str> {
    match user {
        ..-15 => None,
        0 => None,
        _ if user % 3 == 0 => Some("Jeju"),
        _ => Some("Ulsan"),
    }
}

fn write_people(lake: &Lake, as_text: bool) {
    let known: Vec<i64> = (-15..20).collect();
    let id: ArrayRef = match as_text {
        true => Arc::new(StringArray::from_iter_values(
            known.iter().map(|id| format!("u{id}")),
        )),
        false => Arc::new(Int64Array::from(known.clone())),
    };
    let towns: ArrayRef = Arc::new(known.iter().map(|id| town(*id)).collect::<StringArray>());
    lake.put_rows("people/all.parquet", vec![("Id", id), ("Town", towns)]);
}

/// The sum of floats, exact, rounded once: in units of 2^-60 all of ours are whole.
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let unit = (1_u64 << 60) as f64;
    let sum: i128 = values.map(|value| (value * unit) as i128).sum();
    sum as f64 / unit
}

/// The ranking of a date over so many days; an empty `kind` is no value where the format has no
/// other way to write one.
fn oracle(rows: &[Row], date: NaiveDate, window_days: u64) -> Table {
    let first = date - Days::new(window_days - 1);
    let mut groups: BTreeMap<(&str, &str), HashMap<&str, Vec<&Row>>> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| (first..=date).contains(&row.date) && row.weight >= 0.5)
    {
        let key = (
            row.kind.unwrap_or("unknown"),
            town(row.user).unwrap_or("unknown"),
        );
        groups
            .entry(key)
            .or_default()
            .entry(&row.item)
            .or_default()
            .push(row);
    }
    let mut table = Vec::new();
    for ((kind, town), items) in groups {
        let mut ranked: Vec<(usize, Option<i64>, &str, Vec<&Row>)> = items
            .into_iter()
            .map(|(item, rows)| {
                let users: HashSet<i64> = rows.iter().map(|row| row.user).collect();
                let sizes: Vec<i64> = rows.iter().filter_map(|row| row.size).collect();
                let total = (!sizes.is_empty()).then(|| sizes.iter().sum());
                (users.len(), total, item, rows)
            })
            .collect();
        // Without a value comes last.
        ranked.sort_by_key(|(users, total, item, _)| {
            (Reverse(*users), total.is_none(), *total, *item)
        });
        for (rank, (users, total, item, rows)) in (1..).zip(ranked.into_iter().take(3)) {
            let sizes = || rows.iter().filter_map(|row| row.size);
            let heavy = exact_sum(rows.iter().map(|row| row.weight));
            table.push(vec![
                json!(kind),
                json!(date.to_string()),
                json!(town),
                json!(rank),
                json!(item),
                json!(rows.len()),
                json!(users),
                json!(total),
                json!(sizes().min()),
                json!(sizes().max()),
                json!(heavy / rows.len() as f64),
                json!(heavy),
                // So few distinct values are counted exactly.
                json!(users),
                total.map_or(Value::Null, |total| json!(total as f64 / users as f64)),
                json!(sizes().filter(|size| *size > 0).count()),
            ]);
        }
    }
    let columns = [
        "kind",
        "date",
        "Home Town",
        "rank",
        "select",
        "hits",
        "Users",
        "total",
        "least",
        "most",
        "mean",
        "heavy",
        "about",
        "per_user",
        "large",
    ];
    Table::new(&columns, table)
}

/// Writes each day's rows in two files, runs the spec for all days at once and for each alone.
fn check(
    rows: &[Row],
    spec: &str,
    ending: &str,
    window_days: u64,
    as_text: bool,
    encode: impl Fn(&[&Row]) -> Vec<u8>,
) {
    let [all, single] = [Lake::local(), Lake::local()];
    let dates: Vec<NaiveDate> = day(FIRST).iter_days().take(DAYS as usize).collect();
    for lake in [&all, &single] {
        write_people(lake, as_text);
        for date in &dates {
            let of_day: Vec<&Row> = rows.iter().filter(|row| row.date == *date).collect();
            for (name, half) in ["a b", "ü"].iter().zip(of_day.chunks(of_day.len() / 2 + 1)) {
                let path = format!("logs/day={date}/{name}.{ending}");
                let file = lake.folder().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, encode(half)).unwrap();
            }
        }
    }
    let (_folder, file) = written(spec);
    let last = dates[dates.len() - 1].to_string();
    all.run(&["run", &file, "--from", FIRST, "--to", &last])
        .ok();
    for date in dates {
        let text = date.to_string();
        single.run(&["run", &file, "--date", &text]).ok();
        let found = all.published(JOB, &text).unwrap();
        found.rows.assert_eq(
            &oracle(rows, date, window_days),
            &format!("{ending} {date}"),
        );
        assert!(
            found.parquet == single.published(JOB, &text).unwrap().parquet,
            "{ending} {date}"
        );
    }
}

#[test]
fn parquet_with_odd_names() {
    for window_days in [1, 3] {
        let spec = spec("format: parquet", "logs/", window_days);
        let encode = |rows: &[&Row]| crate::support::parquet_of(parquet(rows, false));
        check(&rows(), &spec, "parquet", window_days, false, encode);
    }
}

#[test]
fn keys_that_are_texts() {
    let spec = spec("format: parquet", "logs/", 1);
    let encode = |rows: &[&Row]| crate::support::parquet_of(parquet(rows, true));
    check(&rows(), &spec, "parquet", 1, true, encode);
}

#[test]
fn json_lines_plain_and_compressed() {
    let spec = spec("format: json", "logs/", 1);
    check(&rows(), &spec, "jsonl", 1, false, json_lines);
    check(&rows(), &spec, "json.gz", 1, false, |rows| {
        gzip(&json_lines(rows))
    });
}

#[test]
fn csv_plain_and_compressed() {
    // A CSV file can't tell an empty item from none.
    let mut rows = rows();
    rows.retain(|row| !row.item.is_empty());
    let spec = spec("format: csv\n  csv: { delimiter: ';' }", "logs/", 3);
    check(&rows, &spec, "csv", 3, false, csv);
    check(&rows, &spec, "csv.gz", 3, false, |rows| gzip(&csv(rows)));
}

#[test]
fn patterns_choose_files() {
    let spec = spec("format: parquet", "l*/day=2026-0[23]-??/*.parquet", 1);
    let encode = |rows: &[&Row]| crate::support::parquet_of(parquet(rows, false));
    check(&rows(), &spec, "parquet", 1, false, encode);
}
