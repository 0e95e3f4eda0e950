//! Dates whose windows share days: each gets what it gets alone.

use proptest::prelude::*;
use rankmill_jobs::RunReport;

use crate::check::config;
use crate::job::{Job, day};
use crate::lake::{Lake, Value, ints, texts};

/// A day, a text, a key, and a value.
type Row = (i64, Option<&'static str>, Option<i64>, Option<i64>);

const DAYS: i64 = 7;

/// Days are aggregated once for all dates.
const SHARED: [&str; 9] = [
    "SELECT x, count(distinct y) AS d, count(*) AS n FROM t GROUP BY x",
    "SELECT x, count(distinct date) AS d, count(distinct y) AS e, max(date) AS l FROM t GROUP BY x",
    "SELECT g, count(distinct y) AS d, max(y) AS h, min(y) AS l, count(y) AS n FROM t GROUP BY g",
    "SELECT g, x, count(distinct y) FILTER (WHERE x > 1) AS d, max(x) FILTER (WHERE y > 2) AS h \
     FROM t WHERE y <> 3 GROUP BY g, x",
    "SELECT y, count(distinct x) AS d FROM t WHERE g IS NOT NULL GROUP BY y \
     HAVING count(distinct date) > 1 ORDER BY d DESC LIMIT 3",
    "SELECT count(*) AS n, sum(d) AS s FROM (SELECT x, count(distinct y) AS d FROM t GROUP BY x) AS s",
    "SELECT date, x, count(distinct y) AS d FROM t GROUP BY date, x",
    "SELECT x + 1 AS z, count(distinct y) * 2 AS d, count(*) FILTER (WHERE g = 'a') AS n FROM t \
     GROUP BY x + 1",
    "SELECT x, d FROM (SELECT x, d, row_number() OVER (ORDER BY d DESC) AS place FROM \
     (SELECT x, count(distinct y) AS d FROM t GROUP BY x) AS s) AS p WHERE place <= 2",
];

/// Each date reads its days by itself.
const ALONE: [&str; 6] = [
    "SELECT x, count(distinct g) AS d FROM t GROUP BY x",
    "SELECT x, count(distinct y) AS d, avg(y) AS a FROM t GROUP BY x",
    "SELECT x, count(*) AS n FROM t GROUP BY x",
    "SELECT count(distinct y) AS d FROM t",
    "SELECT x, count(distinct date) AS d FROM (SELECT x, max(date) AS date FROM t GROUP BY x) AS s \
     GROUP BY x",
    "SELECT a.x, count(distinct b.y) AS d FROM t AS a JOIN t AS b ON a.x = b.x GROUP BY a.x",
];

fn write(lake: &Lake, rows: &[Row], files: usize) {
    for number in 0..DAYS {
        let of_day = rows.iter().filter(|row| row.0 == number).copied();
        // A day without a row would be a gap.
        let of_day: Vec<Row> = of_day.chain([(number, None, Some(0), None)]).collect();
        for (i, part) in of_day.chunks(of_day.len().div_ceil(files)).enumerate() {
            let of = |value: &dyn Fn(&Row) -> Value| part.iter().map(value).collect::<Vec<_>>();
            let columns = [
                (
                    "g",
                    texts(&of(&|row| row.1.map_or(Value::Null, Value::text))),
                ),
                ("x", ints(&of(&|row| Value::int(row.2)))),
                ("y", ints(&of(&|row| Value::int(row.3)))),
            ];
            let file = format!("t/date={}/{i}.parquet", day(number));
            lake.write(&file, &columns, 5);
        }
    }
}

fn yaml(sql: &str, window: u32) -> String {
    format!(
        "version: 1
name: test
sources:
  t: {{ path: '{{lake}}/t/', date: {{ partition: date }}, window_days: {window} }}
sql: |
  {sql}
output: {{ path: '{{lake}}/out/' }}
"
    )
}

fn is_shared(report: &RunReport) -> bool {
    let mut decisions = report.skew.decisions.iter();
    decisions.any(|decision| decision.starts_with("each day is aggregated once"))
}

struct Published {
    /// For each date.
    rows: Vec<Vec<Vec<Value>>>,
    files: Vec<Option<Vec<u8>>>,
    shared: bool,
}

fn published(job: &Job) -> Published {
    let dates: Vec<i64> = (0..DAYS).collect();
    let report = job.run(&dates).unwrap();
    let rows = dates.iter().map(|date| job.rows(*date));
    let files = dates.iter().map(|date| job.file(*date, "part-0.parquet"));
    Published {
        rows: rows.collect(),
        files: files.collect(),
        shared: is_shared(&report),
    }
}

fn same_as_alone(
    sql: &str,
    rows: &[Row],
    window: u32,
    (files, threads, batch_rows): (usize, usize, usize),
    shared: bool,
) -> Result<(), TestCaseError> {
    let lake = Lake::new();
    write(&lake, rows, files);
    let yaml = yaml(sql, window);
    let alone = published(&Job::new(&lake, &yaml).in_passes_of(Some(1)));
    let lake = Lake::new();
    write(&lake, rows, files);
    let together = published(&Job::new(&lake, &yaml).split(threads, batch_rows));
    prop_assert!(!alone.shared);
    prop_assert_eq!(together.shared, shared, "{}", sql);
    prop_assert_eq!(alone.rows, together.rows, "{}", sql);
    prop_assert!(alone.files == together.files, "{}", sql);
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "한", ""]));
    let few = prop::option::weighted(0.9, 0i64..5);
    let value = prop_oneof![
        6 => 0i64..6,
        2 => -300i64..300,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 1 << 32]),
    ];
    let value = prop::option::weighted(0.9, value);
    prop::collection::vec((0..DAYS, text, few, value), 0..120)
}

/// Files of a day, threads, and rows in a batch.
fn split() -> impl Strategy<Value = (usize, usize, usize)> {
    prop::sample::select(vec![(1, 1, 8_192), (1, 3, 4), (3, 2, 8_192), (2, 5, 3)])
}

proptest! {
    #![proptest_config(config(20, 6))]

    #[test]
    fn dates_that_share_days_get_what_they_get_alone(
        rows in rows(),
        sql in prop::sample::select(SHARED.to_vec()),
        window in prop::sample::select(vec![4u32, 30]),
        split in split(),
    ) {
        same_as_alone(sql, &rows, window, split, true)?;
    }
}

proptest! {
    #![proptest_config(config(8, 7))]

    #[test]
    fn other_queries_read_their_days_alone(
        rows in rows(), sql in prop::sample::select(ALONE.to_vec()), split in split(),
    ) {
        same_as_alone(sql, &rows, 3, split, false)?;
    }
}

#[test]
fn shared_days_are_read_once() {
    let lake = Lake::new();
    let rows: Vec<Row> = (0..DAYS)
        .flat_map(|day| (0..50).map(move |i| (day, Some("a"), Some(i % 7), Some(i * day))))
        .collect();
    write(&lake, &rows, 1);
    let yaml = yaml(SHARED[0], 30);
    let job = Job::new(&lake, &yaml).split(2, 8_192);
    let dates: Vec<i64> = (0..DAYS).collect();
    let report = job.run(&dates).unwrap();
    assert!(is_shared(&report));
    assert_eq!(report.scanned.rows, 51 * DAYS as u64);
    assert_eq!(job.run(&[3]).unwrap().scanned.rows, 0, "it is current");
}

/// Types of CSV are guessed: with other days' files they would be others.
#[test]
fn days_of_other_columns_are_read_alone() {
    let lake = Lake::new();
    let days = ["x,y\n01,1\n1,2\n", "x,y\n1,2\n", "x,y\na,3\n", "x,y\n2,3\n"];
    for (number, text) in (0..).zip(days) {
        let folder = format!("{}/t/date={}", lake.path(), day(number));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/0.csv"), text).unwrap();
    }
    let yaml = yaml(SHARED[0], 3).replace("date: {", "format: csv, date: {");
    let run = |passes| {
        let job = Job::new(&lake, &yaml).in_passes_of(passes);
        let report = job.run(&[0, 1, 2, 3]).unwrap();
        assert!(!is_shared(&report));
        (0..4).map(|date| job.rows(date)).collect::<Vec<_>>()
    };
    let together = run(None);
    assert_eq!(
        together[1],
        [[
            Value::int(Some(1)),
            Value::int(Some(2)),
            Value::int(Some(3))
        ]]
    );
    assert_eq!(together, run(Some(1)));
}

/// As many windows as there are dates, and more days than a word has bits.
#[test]
fn long_windows_are_cut_into_passes() {
    let lake = Lake::new();
    for number in 0..70 {
        let columns = [
            (
                "x",
                ints(&[Value::int(Some(number % 3)), Value::int(Some(1))]),
            ),
            ("y", ints(&[Value::int(Some(number)), Value::int(Some(7))])),
        ];
        lake.write(&format!("t/date={}/0.parquet", day(number)), &columns, 5);
    }
    let yaml = yaml(SHARED[0], 60);
    let dates: Vec<i64> = (0..70).collect();
    let together = Job::new(&lake, &yaml);
    assert!(is_shared(&together.run(&dates).unwrap()));
    let found: Vec<_> = dates.iter().map(|date| together.rows(*date)).collect();
    for date in dates {
        let expected = (0..3).map(|x| {
            let in_window = (date - 59).max(0)..=date;
            let of_key = in_window.clone().filter(|number| number % 3 == x);
            let mut values: Vec<i64> = of_key.clone().collect();
            let mut rows = values.len();
            if x == 1 {
                rows += in_window.count();
                values.push(7);
            }
            values.sort_unstable();
            values.dedup();
            (x, values.len() as i64, rows as i64)
        });
        let expected: Vec<Vec<Value>> = expected
            .filter(|(_, _, rows)| *rows > 0)
            .map(|(x, d, n)| {
                vec![
                    Value::int(Some(x)),
                    Value::int(Some(d)),
                    Value::int(Some(n)),
                ]
            })
            .collect();
        assert_eq!(found[date as usize], expected, "{date}");
    }
}
