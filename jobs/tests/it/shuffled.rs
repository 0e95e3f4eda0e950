//! A dimension too large for a table is joined: the same bytes as with its table.

use datafusion::arrow::array::ArrayRef;
use proptest::prelude::*;
use rankmill_jobs::RunReport;

use crate::check::config;
use crate::job::{Job, epoch_day};
use crate::lake::{Kind, Lake, Value, dates, ints, texts};
use crate::layout::layout;
use crate::scenario::scenario;

/// Enough for all tables; for none.
const TABLES: [usize; 2] = [usize::MAX, 0];

const SPEC: &str = r#"
version: 1
name: test
source: { path: "{lake}/log/", date: { partition: date } }
lookups:
  - path: "{lake}/people/"
    on: { fact: key, dimension: person }
    attributes: { region: region, age_band: "age_band(born, date)" }
ranking:
  item: item
  per: [date, region, age_band]
  measures: { rows: "count(*)", people: "count(distinct key)", most: "max(item)" }
  order_by: [people desc, rows desc]
  top: 20
output: { path: "{lake}/out/" }
"#;

const DAYS: [i64; 3] = [0, 1, 2];
const PEOPLE: u16 = 600;

fn born(person: u16) -> Value {
    // Birthdays lie between the days.
    let day = epoch_day(0) - 365 * 30 - i64::from(person % 4_000);
    match person % 13 {
        0 => Value::Null,
        _ => Value::int(Some(day)),
    }
}

/// Half of the rows have one key, some have none, some have one that the dimension lacks.
fn write(lake: &Lake, fact: Kind, dimension: Kind) {
    for number in DAYS {
        for file in 0..3u16 {
            let rows = 0..1_500u16;
            let key = |row: u16| match row % 20 {
                0..10 => fact.nth(9),
                10 | 11 => Value::Null,
                12 => fact.nth(PEOPLE + row % 50),
                _ => fact.nth(row.wrapping_mul(7919).wrapping_add(file) % PEOPLE),
            };
            let keys: Vec<Value> = rows.clone().map(key).collect();
            let items: Vec<Value> = rows
                .map(|row| Value::int(Some(i64::from(row).pow(2) % 41)))
                .collect();
            let columns: [(&str, ArrayRef); 2] =
                [("key", fact.array(&keys)), ("item", ints(&items))];
            let date = crate::job::day(number);
            lake.write(&format!("log/date={date}/{file}.parquet"), &columns, 500);
        }
    }
    for file in 0..3u16 {
        let of_file = (0..PEOPLE).filter(|person| person % 3 == file);
        let people: Vec<u16> = of_file.collect();
        let mut keys: Vec<Value> = people.iter().map(|p| dimension.nth(*p)).collect();
        let mut regions: Vec<Value> = people.iter().map(|p| region(*p)).collect();
        let mut births: Vec<Value> = people.iter().map(|p| born(*p)).collect();
        // A person without a key is nobody's, however often it is there.
        keys.extend([Value::Null, Value::Null]);
        regions.extend([Value::text("nowhere"), Value::text("nowhere")]);
        births.extend([Value::Null, Value::Null]);
        let columns = [
            ("person", dimension.array(&keys)),
            ("region", texts(&regions)),
            ("born", dates(&births)),
        ];
        lake.write(&format!("people/{file}.parquet"), &columns, 1 << 20);
    }
}

fn region(person: u16) -> Value {
    match person % 5 {
        0 => Value::Null,
        n => Value::text(format!("region {n}")),
    }
}

struct Ran {
    report: RunReport,
    files: Vec<Vec<u8>>,
}

fn ran(lake: &Lake, threads: usize, table_bytes: usize, memory_bytes: Option<usize>) -> Ran {
    let job = Job::new(lake, SPEC).limited(threads, table_bytes, memory_bytes);
    let job = job.forced();
    let report = job.run(&DAYS).unwrap();
    let file = |day: &i64| job.file(*day, "part-0.parquet").unwrap();
    let files = DAYS.iter().map(file).collect();
    Ran { report, files }
}

fn says(report: &RunReport, words: &str) -> bool {
    let mut decisions = report.skew.decisions.iter();
    decisions.any(|said| said.contains(words))
}

fn check(fact: Kind, dimension: Kind) {
    let lake = Lake::new();
    write(&lake, fact, dimension);
    let [tables, none] = TABLES;
    let expected = ran(&lake, 2, tables, None);
    assert!(says(&expected.report, "looked up in a table"));
    for threads in [1, 2, 5] {
        for memory_bytes in [None, Some(64 << 20)] {
            let found = ran(&lake, threads, none, memory_bytes);
            let context = format!("{fact:?} {dimension:?} {threads} {memory_bytes:?}");
            assert!(found.files == expected.files, "{context}");
            let (found, expected) = (&found.report, &expected.report);
            assert_eq!(found.unmatched, expected.unmatched, "{context}");
            let joined = "key: the dimension's table would take";
            assert!(says(found, joined), "{context}: {:?}", found.skew);
            assert!(says(found, "hot key"), "{context}: {:?}", found.skew);
            assert!(!says(found, "all go to one task"), "{:?}", found.skew);
            let columns = found.skew.columns.iter();
            let columns: Vec<&str> = columns.map(|column| column.column.as_str()).collect();
            assert_eq!(columns[..4], ["age_band", "date", "item", "region"]);
            let mut hottest = found.skew.columns.iter().filter(|column| column.nulls > 0);
            let hottest = hottest.next().map(|column| column.keys[0].rows);
            assert_eq!(hottest, Some(6_750), "{context}: {:?}", found.skew);
        }
    }
}

#[test]
fn keys_of_all_kinds_are_joined() {
    check(Kind::Int64, Kind::Int64);
    check(Kind::Utf8, Kind::LargeUtf8);
    check(Kind::Dictionary, Kind::Utf8View);
    check(Kind::UInt64, Kind::UInt64);
}

#[test]
fn a_key_that_occurs_twice_is_refused() {
    for kind in [Kind::Int32, Kind::UInt64, Kind::Utf8] {
        let lake = Lake::new();
        write(&lake, kind, kind);
        let again = [
            ("person", kind.array(&[kind.nth(70), kind.nth(71)])),
            ("region", texts(&[Value::Null, Value::Null])),
        ];
        lake.write("people/again.parquet", &again, 10);
        let errors = TABLES.map(|bytes| {
            let job = Job::new(&lake, SPEC).limited(2, bytes, None);
            job.error(&DAYS)
        });
        assert_eq!(errors[0], errors[1]);
        assert!(errors[0].contains("person"), "{}", errors[0]);
    }
}

/// A log of some thousand rows, and so many people with keys of `kind`, in so many regions.
fn write_many(lake: &Lake, kind: Kind, nth: impl Fn(u32) -> Value, people: u32, regions: u32) {
    for number in DAYS {
        let rows = 0..3_000u32;
        let key = |row: u32| match row % 4 {
            0 => nth(9),
            _ => nth(row * 7919 % (people + people / 8)),
        };
        let keys: Vec<Value> = rows.clone().map(key).collect();
        let items: Vec<Value> = rows
            .map(|row| Value::int(Some(i64::from(row) % 7)))
            .collect();
        let columns: [(&str, ArrayRef); 2] = [("key", kind.array(&keys)), ("item", ints(&items))];
        let date = crate::job::day(number);
        lake.write(&format!("log/date={date}/0.parquet"), &columns, 500);
    }
    let keys: Vec<Value> = (0..people).map(&nth).collect();
    let region = |person: u32| Value::text(format!("region {}", person % regions));
    let regions: Vec<Value> = (0..people).map(region).collect();
    let births: Vec<Value> = (0..people)
        .map(|person| born((person % 4_000) as u16))
        .collect();
    let columns = [
        ("person", kind.array(&keys)),
        ("region", texts(&regions)),
        ("born", dates(&births)),
    ];
    lake.write("people/0.parquet", &columns, 10_000);
}

#[test]
fn a_dimension_that_fits_no_task_is_joined_from_disk() {
    for kind in [Kind::Int64, Kind::Utf8View] {
        let lake = Lake::new();
        write_many(&lake, kind, |n| kind.nth(n as u16), 50_000, 5);
        let [tables, none] = TABLES;
        let expected = ran(&lake, 2, tables, None);
        for threads in [1, 2] {
            let found = ran(&lake, threads, none, Some(8 << 20));
            assert!(found.files == expected.files, "{kind:?} {threads}");
            let decisions = &found.report.skew.decisions;
            assert!(says(&found.report, "written to disk"), "{decisions:?}");
        }
    }
}

/// Numbers of a byte suffice where attributes repeat, which nobody knows before; else they take four.
#[test]
fn a_table_that_may_fit_is_tried() {
    const PEOPLE: u32 = 200_000;
    let of = |regions| {
        let lake = Lake::new();
        let spec = SPEC.replace(", age_band: \"age_band(born, date)\"", "");
        let spec = spec.replace(", age_band]", "]");
        let close = |n: u32| Value::int(Some(n));
        write_many(&lake, Kind::Int64, close, PEOPLE, regions);
        let run = |table_bytes| {
            let job = Job::new(&lake, &spec)
                .limited(2, table_bytes, None)
                .forced();
            let report = job.run(&DAYS).unwrap();
            let files = DAYS.iter();
            let files: Vec<_> = files.map(|day| job.file(*day, "part-0.parquet")).collect();
            (report, files)
        };
        let (expected, tried) = (run(usize::MAX), run(500_000));
        assert!(tried.1 == expected.1, "{regions}");
        assert!(says(&expected.0, "looked up in a table"));
        (
            says(&tried.0, "looked up in a table"),
            says(&tried.0, "are shuffled by key"),
        )
    };
    assert_eq!(of(40), (true, false));
    assert_eq!(of(PEOPLE), (false, true));
}

proptest! {
    #![proptest_config(config(16, 5))]

    #[test]
    fn any_ranking_gives_the_same_bytes(scenario in scenario(), layout in layout()) {
        let published = |(threads, table_bytes, memory_bytes)| {
            let lake = Lake::new();
            scenario.write(&lake, &layout);
            let job = Job::new(&lake, &scenario.yaml());
            let job = job.limited(threads, table_bytes, memory_bytes);
            let report = job.run(&scenario.days).unwrap();
            let files = scenario.days.iter();
            let files: Vec<_> = files.map(|day| job.file(*day, "part-0.parquet")).collect();
            let unmatched = report.unmatched.iter().map(|lookup| lookup.rows);
            (files, unmatched.collect::<Vec<_>>())
        };
        let [tables, none] = TABLES;
        let expected = published((3, tables, None));
        for (threads, memory_bytes) in [(1, None), (2, Some(256 << 20)), (5, None)] {
            let found = published((threads, none, memory_bytes));
            prop_assert_eq!(&found.1, &expected.1, "{}", scenario.yaml());
            prop_assert!(found.0 == expected.0, "{threads} {memory_bytes:?}\n{}", scenario.yaml());
        }
    }
}
