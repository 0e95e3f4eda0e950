//! Measures and keys at the edges of what their types hold.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, DictionaryArray, StringArray};
use datafusion::arrow::datatypes::Int8Type;

use crate::job::{Job, day, epoch_day};
use crate::lake::{Kind, Lake, Value, floats, ints, texts, timestamps};
use datafusion::arrow::datatypes::TimeUnit;

fn all_ints(values: &[i64]) -> ArrayRef {
    ints(
        &values
            .iter()
            .map(|v| Value::Int((*v).into()))
            .collect::<Vec<_>>(),
    )
}

fn all_floats(values: &[f64]) -> ArrayRef {
    floats(&values.iter().map(|v| Value::Float(*v)).collect::<Vec<_>>())
}

fn all_texts(values: &[&str]) -> ArrayRef {
    texts(&values.iter().map(|v| Value::text(*v)).collect::<Vec<_>>())
}

fn yaml(item: &str, measure: &str) -> String {
    format!(
        "version: 1
name: test
source: {{ path: '{{lake}}/log/', date: {{ partition: date }} }}
ranking:
  item: {item}
  measures: {{ m: '{measure}' }}
  order_by: [m]
  top: 1000
output: {{ path: '{{lake}}/out/' }}
"
    )
}

/// A measure over the values of `x` of one item, the values cut into files.
fn measured(measure: &str, files: &[ArrayRef]) -> Result<Value, String> {
    let lake = Lake::new();
    for (i, values) in files.iter().enumerate() {
        let items = all_ints(&vec![7; values.len()]);
        let file = format!("log/date=2026-01-01/{i}.parquet");
        lake.write(&file, &[("item", items), ("x", Arc::clone(values))], 100);
    }
    let job = Job::new(&lake, &yaml("item", measure)).split(2, 8_192);
    match job.run(&[0]) {
        Ok(_) => Ok(job.rows(0)[0].last().unwrap().clone()),
        Err(_) => Err(job.error(&[0])),
    }
}

#[test]
fn extremes_of_infinities() {
    let of = |measure: &str, value: f64| measured(measure, &[all_floats(&[value])]).unwrap();
    for value in [f64::INFINITY, f64::NEG_INFINITY] {
        for measure in ["min(x)", "max(x)"] {
            assert_eq!(of(measure, value), Value::Float(value), "{measure}");
        }
    }
}

#[test]
fn extremes_do_not_depend_on_the_order() {
    for special in [-0.0, f64::NAN, f64::INFINITY] {
        for measure in ["min(x)", "max(x)"] {
            let mut found = Vec::new();
            for values in [
                [special, 0.0, -0.0, special],
                [0.0, special, special, -0.0],
                [0.0, special, -0.0, 0.0],
            ] {
                found.push(measured(measure, &[all_floats(&values)]).unwrap());
                let (a, b) = values.split_at(1);
                found.push(measured(measure, &[all_floats(b), all_floats(a)]).unwrap());
            }
            let same = found.iter().all(|value| *value == found[0]);
            assert!(same, "{measure} with {special}: {found:?}");
        }
    }
}

#[test]
fn integer_sums_overflow_only_in_the_end() {
    let files = [
        all_ints(&[i64::MAX, 1]),
        all_ints(&[i64::MAX, -5]),
        all_ints(&[-i64::MAX]),
    ];
    let expected = i128::from(i64::MAX) - 4;
    assert_eq!(measured("sum(x)", &files), Ok(Value::Int(expected)));
    let expected = expected as f64 / 5.0;
    assert_eq!(measured("avg(x)", &files), Ok(Value::Float(expected)));
    let error = measured("sum(x)", &[all_ints(&[i64::MAX, 1])]).unwrap_err();
    assert!(
        error.contains("9223372036854775808, which does not fit"),
        "{error}"
    );
}

#[test]
fn small_dictionaries_may_add_up() {
    let lake = Lake::new();
    for file in 0..3 {
        let names: Vec<String> = (0..100).map(|i| format!("{}", file * 90 + i)).collect();
        let names: DictionaryArray<Int8Type> = names.iter().map(String::as_str).collect();
        let path = format!("log/date=2026-01-01/{file}.parquet");
        lake.write(&path, &[("item", Arc::new(names) as ArrayRef)], 1_000);
    }
    let job = Job::new(&lake, &yaml("item", "count(*)")).split(2, 8_192);
    job.run(&[0]).unwrap();
    let rows = job.rows(0);
    assert_eq!(rows.len(), 280);
    assert_eq!(rows[0][2..], [Value::text("180"), Value::Int(2)]);
}

#[test]
fn columns_may_be_called_anything() {
    let lake = Lake::new();
    let names = ["Item Name", "Größe \"x\"", "group"];
    lake.write(
        "log/date=2026-01-01/a.parquet",
        &[
            (names[0], all_texts(&["A", "B", "A"])),
            (names[1], all_ints(&[1, 2, 4])),
            (names[2], all_texts(&["g", "g", "g"])),
        ],
        10,
    );
    let yaml = yaml("Item Name", "sum(\"Größe \"\"x\"\"\")")
        .replace("  measures", "  per: [group, date]\n  measures");
    let job = Job::new(&lake, &yaml);
    job.run(&[0]).unwrap();
    let row = |rank, item, m| {
        let (group, date) = (Value::text("g"), Value::text("2026-01-01"));
        vec![
            group,
            date,
            Value::Int(rank),
            Value::text(item),
            Value::Int(m),
        ]
    };
    assert_eq!(job.rows(0), [row(1, "A", 5), row(2, "B", 2)]);
}

/// The two sides of a join may store their key in different ways.
#[test]
fn keys_of_different_widths_match() {
    let check = |fact: Kind, dimension: Kind| {
        let lake = Lake::new();
        let key = |n: i64| match fact.is_text() {
            true => Value::text(n.to_string()),
            false => Value::Int(n.into()),
        };
        let keys = [key(1), key(2), key(300), Value::Null];
        lake.write(
            "log/date=2026-01-01/a.parquet",
            &[
                ("item", all_ints(&[1, 1, 1, 1])),
                ("key", fact.array(&keys)),
            ],
            2,
        );
        let (keys, names) = ([key(300), key(1), key(7)], all_texts(&["c", "a", "z"]));
        lake.write(
            "dim.parquet",
            &[("id", dimension.array(&keys)), ("name", names)],
            2,
        );
        let lookup = "lookups:\n  - path: '{lake}/dim.parquet'\n    \
                      on: { fact: key, dimension: id }\n    attributes: { who: name }\nranking:";
        let yaml = yaml("item", "count(*)")
            .replace("ranking:", lookup)
            .replace("  measures", "  per: [who]\n  measures");
        let job = Job::new(&lake, &yaml);
        job.run(&[0]).unwrap();
        let found: Vec<String> = job
            .rows(0)
            .iter()
            .map(|row| format!("{:?}", row[0]))
            .collect();
        let expected = ["a", "c", "unknown"].map(|name| format!("{:?}", Value::text(name)));
        assert_eq!(found, expected, "{fact:?} = {dimension:?}");
    };
    for (fact, dimension) in [
        (Kind::Int32, Kind::Int64),
        (Kind::Int64, Kind::Int16),
        (Kind::UInt32, Kind::Int32),
        (Kind::UInt64, Kind::Int64),
        (Kind::Int64, Kind::UInt64),
        (Kind::Utf8, Kind::Dictionary),
        (Kind::Dictionary, Kind::LargeUtf8),
        (Kind::Utf8View, Kind::Utf8),
    ] {
        check(fact, dimension);
    }
}

/// Day 1 has no row. Whether rows of other days share a file must not matter, nor what `where`
/// leaves of them.
#[test]
fn a_gap_does_not_depend_on_the_files() {
    let noon =
        |number: i64| Value::Int((epoch_day(number) * 86_400_000_000 + 43_200_000_000).into());
    let check = |files: &[&[i64]], window: u32| {
        let lake = Lake::new();
        for (i, days) in files.iter().enumerate() {
            let at: Vec<Value> = days.iter().map(|number| noon(*number)).collect();
            let at = timestamps(&at, TimeUnit::Microsecond, None);
            let items = StringArray::from(vec!["a"; days.len()]);
            let columns = [("item", Arc::new(items) as ArrayRef), ("at", at)];
            lake.write(&format!("log/{i}.parquet"), &columns, 10);
        }
        let date = format!("{{ column: at }}, window_days: {window}");
        let yaml = yaml("item", "count(*)").replace("{ partition: date }", &date);
        Job::new(&lake, &yaml).outcomes(&[0, 1, 2])
    };
    assert!(day(0) < day(1));
    for window in [1, 2] {
        let expected = ["published 1", "gap", "published 1"];
        assert_eq!(
            check(&[&[0], &[2]], window),
            expected,
            "window {window}, apart"
        );
        assert_eq!(
            check(&[&[0, 2]], window),
            expected,
            "window {window}, together"
        );
    }
}

/// A day whose rows `where` leaves none of has input, wherever its date comes from.
#[test]
fn a_day_without_rows_after_where_is_empty_not_a_gap() {
    let lake = Lake::new();
    let at = timestamps(
        &[Value::Int((epoch_day(0) * 86_400_000_000).into())],
        TimeUnit::Second,
        None,
    );
    let columns = [("item", all_ints(&[1])), ("at", at)];
    lake.write("log/date=2026-01-01/a.parquet", &columns, 10);
    for date in ["{ partition: date }", "{ column: at }"] {
        let date = format!("{date}, where: 'item > 1'");
        let yaml = yaml("item", "count(*)").replace("{ partition: date }", &date);
        assert_eq!(
            Job::new(&lake, &yaml).forced().outcomes(&[0])[0]
                .split(' ')
                .next(),
            Some("published"),
            "{date}"
        );
    }
}
