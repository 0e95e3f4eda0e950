//! Logs whose date is in a column, with footers that say too little of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use datafusion::parquet::file::statistics::Statistics;

use crate::footer::restate;
use crate::job::{Job, epoch_day};
use crate::lake::{Lake, Value};

const SPEC: &str = "
version: 1
name: test
source: { path: '{lake}/log/', date: { column: at } }
ranking:
  item: item
  measures: { clicks: count(*) }
  order_by: [clicks]
  top: 10
output: { path: '{lake}/out/' }
";

/// Milliseconds since 1970 in the middle of a day.
fn noon(day: i64) -> i64 {
    epoch_day(day) * 86_400_000 + 43_200_000
}

/// A file with an item for each of the days, one row group a day. What its footer says of their times
/// is written anew.
fn write(lake: &Lake, days: &[i64], stated: impl Fn(usize) -> Option<[i64; 2]>) {
    let items: ArrayRef = Arc::new(Int64Array::from(days.to_vec()));
    let times = days.iter().map(|day| noon(*day));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(times));
    let file = "log/a.parquet";
    lake.write(file, &[("item", items), ("at", times)], 1);
    restate(&Path::new(lake.path()).join(file), |group, column| {
        let [min, max] = match column {
            "at" => stated(group)?,
            _ => [days[group]; 2],
        };
        let statistics = Statistics::int64(Some(min), Some(max), None, Some(0), false);
        Some(statistics)
    });
}

/// A day doesn't get the rows that a file doesn't own to; where the file is read, that is seen.
#[test]
fn a_time_that_the_footer_denies_is_an_error() {
    for denied in [0, 2] {
        let lake = Lake::new();
        write(&lake, &[1, 1, denied], |_| Some([noon(1); 2]));
        let job = Job::new(&lake, SPEC);
        let error = job.error(&[1]);
        for part in ["log", "2026-01-0", "T12:00:00", "statistics"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(job.batch(1).is_none());
    }
}

/// The same where the footers promise so much that the scan checks the day itself: the message isn't
/// taken for that of a file that can't be decoded.
#[test]
fn a_denied_time_is_told_by_scans_too() {
    let lake = Lake::new();
    write(&lake, &[0, 2, 1, 0, 3], |group| {
        Some([noon([0, 2, 1, 0, 0][group]); 2])
    });
    let job = Job::new(&lake, SPEC);
    let error = job.error(&[1]);
    for part in ["log", "statistics"] {
        assert!(error.contains(part), "{error}");
    }
}

/// What a condition makes of rows of other days doesn't matter.
#[test]
fn conditions_are_for_the_rows_of_the_day() {
    let lake = Lake::new();
    let days = [0, 1, 1, 2];
    let codes = ["garbage", "200", "404", "garbage"];
    let items: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let times = days.iter().map(|day| noon(*day));
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(times));
    let codes: ArrayRef = Arc::new(StringArray::from(codes.to_vec()));
    let columns = [("item", items), ("at", times), ("code", codes)];
    // In one row group, and in one for each row: then the scan checks.
    for rows_per_group in [10, 1] {
        lake.write("log/a.parquet", &columns, rows_per_group);
        let with_condition = SPEC.replace(
            "column: at }",
            "column: at }, where: 'CAST(code AS INT) = 200'",
        );
        let job = Job::new(&lake, &with_condition);
        job.run(&[1]).unwrap();
        let rows = job.rows(1);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0][2], Value::Int(2));
    }
}

/// Files without rows state nothing, and hide nothing.
#[test]
fn an_empty_file_does_not_keep_others_from_being_checked() {
    let lake = Lake::new();
    write(&lake, &[1, 1, 2], |_| Some([noon(1); 2]));
    let none = TimestampMillisecondArray::from(Vec::<i64>::new());
    let columns: [(&str, ArrayRef); 2] = [
        ("item", Arc::new(Int64Array::from(Vec::<i64>::new()))),
        ("at", Arc::new(none)),
    ];
    lake.write("log/empty.parquet", &columns, 1);
    let error = Job::new(&lake, SPEC).error(&[1]);
    assert!(error.contains("statistics"), "{error}");
}

/// A row group that says nothing is no lie: its rows may have any time.
#[test]
fn a_row_group_without_statistics_is_read() {
    let lake = Lake::new();
    let days = [0, 1, 2];
    write(&lake, &days, |group| {
        (group != 1).then_some([noon(days[group]); 2])
    });
    let job = Job::new(&lake, SPEC);
    let lake_of_two = Lake::new();
    write(&lake_of_two, &[0, 2], |group| {
        (group == 1).then_some([noon(2); 2])
    });
    let of_two = Job::new(&lake_of_two, SPEC);
    for (job, days) in [(job, &days[..]), (of_two, &[0, 2])] {
        job.run(days).unwrap();
        for day in days {
            let [rank, item, clicks] = [1, *day, 1].map(|number| Value::Int(number.into()));
            let date = Value::text(crate::job::day(*day).to_string());
            assert_eq!(job.rows(*day), [[date, rank, item, clicks]], "day {day}");
        }
    }
}

const OF_PEOPLE: &str = "
version: 1
name: test
source: { path: '{lake}/log/', date: { partition: date } }
lookups:
  - path: '{lake}/people.parquet'
    on: { fact: key, dimension: person }
    attributes: { region: region }
ranking:
  item: item
  per: [date, region]
  measures: { rows: count(*), people: count(distinct key), known: count(key) }
  order_by: [rows]
  top: 10
output: { path: '{lake}/out/' }
";

/// What a footer says of a column of keys: the least, the largest, and how many have none.
type Claim = Option<(i64, i64, u64)>;

/// Too few, too many, no values, none without a key, and nothing.
const CLAIMS: [Claim; 5] = [
    Some((5, 7, 0)),
    Some((i64::MIN, i64::MAX, 1)),
    Some((0, 0, 1 << 40)),
    Some((-40, 1 << 40, 0)),
    None,
];

/// Footers of a log and of a dimension, neither of which is true: tables are built, groups numbered and
/// dimensions joined by what is in the files.
#[test]
fn keys_that_footers_deny_are_found() {
    let person = |n: i64| match n % 3 {
        0 => n - 40,
        1 => (1 << 33) + n,
        _ => n * 1_000,
    };
    let keys: Vec<Option<i64>> = (0..900i64)
        .map(|row| (row % 11 != 0).then(|| person(row * row % 130)))
        .collect();
    let people: Vec<Option<i64>> = (0..100).map(|n| (n != 50).then(|| person(n))).collect();
    let region = |n: usize| format!("region {}", n % 7);
    let mut expected: Vec<(String, i64, i64, i64)> = Vec::new();
    let of = |key: &Option<i64>| {
        let at = people
            .iter()
            .position(|person| person.is_some() && person == key);
        at.map_or_else(|| "unknown".to_owned(), region)
    };
    for name in keys.iter().map(of).collect::<BTreeSet<_>>() {
        let rows: Vec<_> = keys.iter().filter(|key| of(key) == name).collect();
        let known: Vec<i64> = rows.iter().copied().copied().flatten().collect();
        let people = known.iter().collect::<BTreeSet<_>>().len();
        let counts = [rows.len(), people, known.len()].map(|count| count as i64);
        expected.push((name, counts[0], counts[1], counts[2]));
    }
    let regions: Vec<String> = (0..people.len()).map(region).collect();
    for (log_claim, claim) in CLAIMS.into_iter().zip(CLAIMS.into_iter().cycle().skip(3)) {
        let lake = Lake::new();
        let date = crate::job::day(0);
        let file = format!("log/date={date}/a.parquet");
        let columns: [(&str, ArrayRef); 2] = [
            ("key", Arc::new(Int64Array::from(keys.clone()))),
            ("item", Arc::new(Int64Array::from(vec![3; keys.len()]))),
        ];
        lake.write(&file, &columns, 100);
        claimed(&lake, &file, "key", log_claim);
        let columns: [(&str, ArrayRef); 2] = [
            ("person", Arc::new(Int64Array::from(people.clone()))),
            ("region", Arc::new(StringArray::from(regions.clone()))),
        ];
        lake.write("people.parquet", &columns, 30);
        claimed(&lake, "people.parquet", "person", claim);
        for (threads, table_bytes, memory_bytes) in [
            (1, usize::MAX, None),
            (2, usize::MAX, Some(64 << 20)),
            (2, 0, None),
            (3, 0, Some(64 << 20)),
        ] {
            let job = Job::new(&lake, OF_PEOPLE).limited(threads, table_bytes, memory_bytes);
            job.forced().run(&[0]).unwrap();
            let found = Job::new(&lake, OF_PEOPLE).rows(0);
            let expected = expected.iter().map(|(name, rows, people, known)| {
                let mut row = vec![Value::text(date.to_string()), Value::text(name)];
                let numbers = [1, 3, *rows, *people, *known];
                row.extend(numbers.map(|number| Value::Int(number.into())));
                row
            });
            let context = format!("{log_claim:?} {claim:?} {threads} {table_bytes}");
            assert_eq!(found, expected.collect::<Vec<_>>(), "{context}");
        }
    }
}

/// Lets a footer say something of one column, and nothing of the others.
fn claimed(lake: &Lake, file: &str, of: &str, claim: Claim) {
    restate(&Path::new(lake.path()).join(file), |_, column| {
        let (min, max, nulls) = claim.filter(|_| column == of)?;
        let statistics = Statistics::int64(Some(min), Some(max), None, Some(nulls), false);
        Some(statistics)
    });
}
