//! SQL specs that join a log with dimensions: the same results with and without the fused lookups.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, StructArray};
use datafusion::arrow::datatypes::{DataType, Field};
use proptest::prelude::*;
use rankmill_engine::JOINS_IN_PARTS;

use crate::check::config;
use crate::job::{Job, day};
use crate::lake::{Kind, Lake, Value, dates, floats, ints, texts};

#[derive(Debug, Clone)]
struct Click {
    key: Option<i64>,
    page: Option<&'static str>,
    user: Option<i64>,
}

/// A row of a dimension: its key, and what its attributes follow from.
#[derive(Debug, Clone)]
struct Item {
    key: Option<i64>,
    kind: Option<&'static str>,
    size: Option<i64>,
}

fn of<T>(rows: &[T], value: impl Fn(&T) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}

/// A key that no log has.
const NOWHERE: i64 = 999;

/// The sides of joins; with keys that occur twice nothing is fused.
fn write(lake: &Lake, clicks: &[Click], items: &[Item], twice: bool) {
    for number in 0..2 {
        for (file, clicks) in clicks.chunks(clicks.len().div_ceil(3)).enumerate() {
            let columns = [
                ("key", ints(&of(clicks, |c| Value::int(c.key)))),
                (
                    "page",
                    texts(&of(clicks, |c| c.page.map_or(Value::Null, Value::text))),
                ),
                ("user", ints(&of(clicks, |c| Value::int(c.user)))),
            ];
            lake.write(
                &format!("t/date={}/{file}.parquet", day(number)),
                &columns,
                7,
            );
        }
    }
    let mut items = items.to_vec();
    let nowhere = Item {
        key: Some(NOWHERE),
        kind: Some("x"),
        size: Some(1),
    };
    items.extend(vec![nowhere; if twice { 2 } else { 1 }]);
    let kinds = of(&items, |i| i.kind.map_or(Value::Null, Value::text));
    let sizes = of(&items, |i| Value::int(i.size));
    let thirds = of(&items, |i| {
        Value::float(i.size.map(|size| size as f64 / 3.0))
    });
    let columns = [
        ("id", Kind::Int32.array(&of(&items, |i| Value::int(i.key)))),
        ("kind", texts(&kinds)),
        ("size", ints(&sizes)),
        ("third", floats(&thirds)),
        ("born", dates(&sizes)),
    ];
    lake.write("d.parquet", &columns, 100);
    let mut pages: Vec<&str> = vec!["a", "b", ""];
    pages.extend(vec!["nowhere"; if twice { 2 } else { 1 }]);
    let columns = [
        ("id", texts(&of(&pages, |page| Value::text(*page)))),
        (
            "part",
            texts(&of(&pages, |page| Value::text(page.len().to_string()))),
        ),
    ];
    lake.write("p.parquet", &columns, 100);
}

fn yaml(sql: &str) -> String {
    format!(
        "version: 1
name: test
sources:
  t: {{ path: '{{lake}}/t/', date: {{ partition: date }}, window_days: 2 }}
  d: {{ path: '{{lake}}/d.parquet' }}
  p: {{ path: '{{lake}}/p.parquet' }}
sql: |
  {sql}
output: {{ path: '{{lake}}/out/' }}
"
    )
}

/// Joins of which all become lookups.
const FUSED: [&str; 20] = [
    "SELECT d.kind, t.page, count(*) AS n, count(distinct t.user) AS u FROM t JOIN d ON t.key = d.id GROUP BY d.kind, t.page",
    "SELECT d.kind, t.page, count(*) AS n, count(distinct t.user) AS u FROM t LEFT JOIN d ON t.key = d.id GROUP BY d.kind, t.page",
    "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind",
    "SELECT d.size, sum(t.user) AS s, max(t.user) AS m, avg(t.user) AS a, min(t.page) AS p FROM t LEFT JOIN d ON t.key = d.id GROUP BY d.size",
    "SELECT d.kind, t.date, count(*) AS n FROM d RIGHT JOIN t ON d.id = t.key GROUP BY d.kind, t.date",
    "SELECT d.kind, count(*) AS n FROM d JOIN t ON d.id = t.key WHERE d.size > 1 AND t.page <> 'a' GROUP BY d.kind",
    "SELECT d.kind, count(*) AS n FROM t LEFT JOIN d ON t.key = d.id AND d.size > 1 GROUP BY d.kind",
    "SELECT d.kind, count(distinct t.page) AS n FROM t LEFT JOIN d ON t.key = d.id WHERE d.size IN (1, 2) GROUP BY d.kind",
    "SELECT d.third, d.born, d.size + 1 AS more, CAST(d.size > 1 AS VARCHAR) AS big, count(*) AS n FROM t JOIN d ON t.key = d.id
     GROUP BY d.third, d.born, d.size + 1, d.size > 1",
    "SELECT d.id, d.id * 2 AS twice, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.id, d.id * 2",
    "SELECT coalesce(d.kind, 'none') AS k, upper(t.page) AS p, count(t.user) AS n FROM t JOIN d ON t.key = d.id GROUP BY k, p",
    "SELECT t.page, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY t.page",
    "SELECT t.page, count(*) AS n FROM t LEFT JOIN d ON t.key = d.id GROUP BY t.page",
    "SELECT t.page, count(*) AS n FROM t, d WHERE t.key = d.id AND d.kind = 'k' GROUP BY t.page HAVING count(*) > 1",
    "SELECT x, y, count(distinct u) AS n FROM (SELECT t.user + 1 AS u, upper(d.kind) AS x, t.page AS y FROM t JOIN d ON t.key = d.id) AS s
     WHERE y <> 'b' GROUP BY x, y",
    "WITH c AS (SELECT id AS i, kind AS k FROM d WHERE size > 0), l AS (SELECT key AS f, user FROM t WHERE user IS NOT NULL)
     SELECT k, count(*) AS n, count(distinct user) AS u FROM l LEFT JOIN c ON f = i GROUP BY k",
    "SELECT d.kind, p.part, count(*) AS n, count(distinct t.user) AS u FROM t JOIN d ON t.key = d.id LEFT JOIN p ON t.page = p.id
     GROUP BY d.kind, p.part",
    "SELECT p.part, t.user, d.size, max(t.key) AS s FROM t LEFT JOIN d ON t.key = d.id JOIN p ON p.id = t.page GROUP BY p.part, t.user, d.size",
    "SELECT a.kind AS a, b.kind AS b, count(*) AS n FROM t JOIN d AS a ON t.key = a.id LEFT JOIN d AS b ON t.user = b.id GROUP BY a.kind, b.kind",
    "SELECT kind, max(n) AS most, sum(n) AS n FROM (SELECT d.kind, t.user, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind, t.user) AS s
     GROUP BY kind",
];

/// Joins that stay.
const JOINED: [&str; 16] = [
    "SELECT t.page, count(d.kind) AS n FROM t LEFT JOIN d ON t.key = d.id GROUP BY t.page",
    "SELECT concat(d.kind, t.page) AS k, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY k",
    "SELECT d.kind, count(t.user) AS n FROM d LEFT JOIN t ON t.key = d.id GROUP BY d.kind",
    "SELECT d.kind, count(*) AS n FROM t FULL JOIN d ON t.key = d.id GROUP BY d.kind",
    "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key = d.id AND t.user = d.size GROUP BY d.kind",
    "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key = d.id AND t.user > d.size GROUP BY d.kind",
    "SELECT t.page, count(*) AS n FROM t LEFT JOIN d ON t.key = d.id WHERE d.kind IS NULL GROUP BY t.page",
    "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key = d.size GROUP BY d.kind",
    "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key + 1 = d.id + 1 GROUP BY d.kind",
    "SELECT count(*) AS n FROM t JOIN d ON t.key = d.id",
    "SELECT DISTINCT d.kind, t.page FROM t JOIN d ON t.key = d.id",
    "SELECT d.kind, sum(12 / t.user) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind",
    "SELECT 12 / d.size AS k, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY k",
    "SELECT coalesce(d.kind, 'none') AS k, count(*) AS n FROM t LEFT JOIN d ON t.key = d.id GROUP BY k",
    "SELECT d.kind, sum(t.user) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind",
    "SELECT d.kind, max(to_date(t.page)) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind",
];

fn clicks() -> impl Strategy<Value = Vec<Click>> {
    let page = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "한", ""]));
    let number = || prop::option::weighted(0.9, -2i64..6);
    let click = (number(), page, number()).prop_map(|(key, page, user)| Click { key, page, user });
    prop::collection::vec(click, 3..80)
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let kind = || prop::option::weighted(0.8, prop::sample::select(vec!["k", "l", ""]));
    let item = (
        prop::option::weighted(0.9, -3i64..5),
        kind(),
        prop::option::of(0i64..4),
    );
    prop::collection::vec(item, 0..8).prop_map(|drawn| {
        let mut seen = std::collections::HashSet::new();
        let items = drawn.into_iter();
        let items = items.filter(|(key, ..)| key.is_none() || seen.insert(*key));
        items
            .map(|(key, kind, size)| Item { key, kind, size })
            .collect()
    })
}

fn is_joined(job: &Job) -> bool {
    job.explain(1).unwrap().contains("JoinExec")
}

/// Of an explanation: whether the fused aggregation has lookups.
fn looks_up(job: &Job) -> bool {
    looked_up(&job.explain(1).unwrap())
}

fn looked_up(plan: &str) -> bool {
    plan.lines()
        .any(|line| line.contains("FusedExec") && !line.contains("lookups=0"))
}

fn few() -> (Vec<Click>, Vec<Item>) {
    let clicks = (0..60).map(|i| Click {
        key: (i % 7 != 0).then_some(i % 5),
        page: Some(["a", "b", "c"][i as usize % 3]),
        user: Some(i % 4),
    });
    let item = |key, kind, size| Item {
        key: Some(key),
        kind,
        size: Some(size),
    };
    let items = vec![
        item(1, Some("k"), 1),
        item(2, None, 2),
        item(3, Some("k"), 3),
        item(8, Some("z"), 4),
    ];
    (clicks.collect(), items)
}

#[test]
fn dimensions_become_lookups() {
    let (clicks, items) = few();
    let lake = Lake::new();
    write(&lake, &clicks, &items, false);
    for sql in FUSED {
        let job = Job::new(&lake, &yaml(sql)).split(2, 16);
        assert!(
            looks_up(&job) && !is_joined(&job),
            "{sql}\n{}",
            job.explain(1).unwrap()
        );
    }
}

#[test]
fn other_joins_stay() {
    let (clicks, items) = few();
    let lake = Lake::new();
    write(&lake, &clicks, &items, false);
    for sql in JOINED {
        let job = Job::new(&lake, &yaml(sql)).split(2, 16);
        assert!(
            !looks_up(&job) && is_joined(&job),
            "{sql}\n{}",
            job.explain(1).unwrap()
        );
    }
}

/// Where no table is small enough, both sides go to tasks by key and salt.
#[test]
fn dimensions_too_large_for_tables_are_salted() {
    let (clicks, items) = few();
    let lake = Lake::new();
    write(&lake, &clicks, &items, false);
    for sql in FUSED {
        let job = Job::new(&lake, &yaml(sql)).limited(2, 0, None);
        let plan = job.explain(1).unwrap();
        assert!(
            !looks_up(&job) && plan.contains("SaltExec"),
            "{sql}\n{plan}"
        );
    }
    let job = Job::new(&lake, &yaml(FUSED[0])).limited(2, 0, None);
    let report = job.run(&[1]).unwrap();
    let said = report.skew.decisions.join("\n");
    assert!(said.contains("the dimension's table would take"), "{said}");
}

/// Rows of the log count once for each match.
#[test]
fn keys_that_occur_twice_are_joined() {
    let (clicks, mut items) = few();
    items.push(Item {
        key: Some(1),
        kind: Some("other"),
        size: None,
    });
    let lake = Lake::new();
    write(&lake, &clicks, &items, false);
    let sql = "SELECT d.kind, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY d.kind";
    let job = Job::new(&lake, &yaml(sql));
    assert!(!looks_up(&job) && is_joined(&job));
    job.run(&[1]).unwrap();
    let with = |key: i64| 2 * clicks.iter().filter(|c| c.key == Some(key)).count() as i128;
    let expected = [
        vec![Value::text("k"), Value::Int(with(1) + with(3))],
        vec![Value::text("other"), Value::Int(with(1))],
        vec![Value::Null, Value::Int(with(2))],
    ];
    assert_eq!(job.rows(1), expected);
    // The dimension is written anew: the plan follows.
    write(&lake, &clicks, &items[..4], false);
    let job = Job::new(&lake, &yaml(sql));
    assert!(looks_up(&job) && !is_joined(&job));
}

/// The rows of a job; none if it failed, as some do for some rows.
fn published(job: &Job) -> Option<Vec<Vec<Value>>> {
    job.run(&[1]).ok().map(|_| job.rows(1))
}

const OF_LARGE: &str = "version: 1
name: test
sources:
  t: { path: '{lake}/t/', date: { partition: date } }
  d: { path: '{lake}/d/' }
  p: { path: '{lake}/p.parquet' }
sql: >
  {sql}
output: { path: '{lake}/out/' }
";

/// An outer dimension too large for a table, over an aggregation with a small one of many files; one
/// dimension by two keys; attributes that are fields of structs, which rules pull out of scans.
#[test]
fn keys_are_found_however_the_log_and_the_dimension_are_made() {
    let lake = Lake::new();
    let column = |rows: std::ops::Range<i64>, value: fn(i64) -> Option<i64>| {
        let values = rows.map(|row| Value::int(value(row)));
        values.collect::<Vec<_>>()
    };
    let rows = 0..6_000;
    let columns = [
        ("key", ints(&column(rows.clone(), |row| Some(row % 36)))),
        (
            "user",
            ints(&column(rows.clone(), |row| {
                (row % 7 > 0).then_some(row % 300)
            })),
        ),
        ("other", ints(&column(rows, |row| Some(row * row % 400)))),
    ];
    lake.write(&format!("t/date={}/a.parquet", day(0)), &columns, 1_000);
    for file in 0..12 {
        let keys = file * 3..(file + 1) * 3;
        let columns = [
            ("id", ints(&column(keys.clone(), Some))),
            ("kind", ints(&column(keys, |key| Some(key % 5)))),
        ];
        lake.write(&format!("d/{file}.parquet"), &columns, 10);
    }
    let users = 0..300;
    let bands = ints(&column(users.clone(), |user| Some(user % 4)));
    let names = texts(&of(&users.clone().collect::<Vec<_>>(), |user| {
        Value::text(format!("name {}", user % 6))
    }));
    let fields = vec![
        (
            Arc::new(Field::new("band", DataType::Int64, true)),
            Arc::clone(&bands),
        ),
        (Arc::new(Field::new("name", DataType::Utf8, true)), names),
    ];
    let info: ArrayRef = Arc::new(StructArray::from(fields));
    let columns = [
        ("id", ints(&column(users, Some))),
        ("band", bands),
        ("info", info),
    ];
    lake.write("p.parquet", &columns, 100);
    // Of the three dimensions only the one of few keys fits.
    let some = 1_000;
    for (sql, salted, looked) in [
        (
            "SELECT p.band, s.kind, count(*) AS n, max(s.n) AS m FROM
               (SELECT t.user, d.kind, count(*) AS n FROM t JOIN d ON t.key = d.id GROUP BY t.user, d.kind) s
             JOIN p ON s.user = p.id GROUP BY p.band, s.kind",
            true,
            true,
        ),
        (
            "SELECT a.band AS a, b.band AS b, count(*) AS n FROM t JOIN p a ON t.user = a.id
             LEFT JOIN p b ON t.other = b.id GROUP BY a.band, b.band",
            true,
            false,
        ),
        // Stays as it is: what is pulled out isn't a column.
        (
            "SELECT p.info['name'] AS name, count(*) AS n FROM t JOIN p ON t.user = p.id GROUP BY name
             UNION ALL SELECT CAST(p.band AS VARCHAR) AS name, count(*) AS n FROM t JOIN p ON t.user = p.id
             GROUP BY p.band",
            false,
            false,
        ),
    ] {
        let yaml = OF_LARGE.replace("{sql}", sql);
        let job = |table_bytes| {
            let job = Job::new(&lake, &yaml).forced();
            job.limited(2, table_bytes, None)
        };
        let rows = |table_bytes| {
            let job = job(table_bytes);
            job.run(&[0]).unwrap();
            job.rows(0)
        };
        for table_bytes in [some, 0] {
            let plan = job(table_bytes).explain(0).unwrap();
            assert_eq!(plan.contains("SaltExec"), salted, "{sql}\n{plan}");
            assert_eq!(looked_up(&plan), looked && table_bytes > 0, "{plan}");
            // Before any table is built from all files.
            let found = rows(table_bytes);
            assert!(found == rows(usize::MAX), "{sql} {table_bytes}: {found:?}\n{plan}");
        }
    }
}

const LARGE: &str = "version: 1
name: test
sources:
  t: { path: '{lake}/t/', date: { partition: date } }
  d: { path: '{lake}/d.parquet' }
sql: >
  SELECT d.v % 5 AS k, count(*) AS n, sum(t.v + d.w) AS s, max(d.x) AS x, min(t.w - t.x) AS y
  FROM t JOIN d ON t.key = d.key GROUP BY k
output: { path: '{lake}/out/' }
";

/// Less than either side takes by itself.
const LITTLE: usize = 10 << 20;

#[test]
fn joins_that_do_not_fit_go_to_disk() {
    const ROWS: i64 = 800_000;
    let (lake, keys) = (Lake::new(), ROWS / 2);
    let column = |value: fn(i64) -> i64| {
        let values = (0..ROWS).map(value);
        Arc::new(Int64Array::from_iter_values(values)) as ArrayRef
    };
    let v = |row: i64| row * row % 1_000_003;
    let w = |row: i64| -row;
    let x = |row: i64| row ^ 0x5555;
    let others = [("v", column(v)), ("w", column(w)), ("x", column(x))];
    // Each key occurs twice in both.
    let key = [("key", column(|row| row * 7 % (ROWS / 2) * 1_000))];
    let of_log = [&key[..], &others].concat();
    lake.write(&format!("t/date={}/a.parquet", day(0)), &of_log, 50_000);
    let key = [("key", column(|row| row % (ROWS / 2) * 1_000))];
    lake.write("d.parquet", &[&key[..], &others].concat(), 50_000);
    let mut expected = vec![(0, 0, i64::MIN, i64::MAX); 5];
    for row in 0..ROWS {
        let at = row * 7 % keys;
        for other in [at, at + keys] {
            let (n, s, most, least) = &mut expected[(v(other) % 5) as usize];
            *n += 1;
            *s += v(row) + w(other);
            *most = x(other).max(*most);
            *least = (w(row) - x(row)).min(*least);
        }
    }
    let expected = (0..).zip(expected);
    let expected = expected.map(|(k, (n, s, most, least))| {
        let row = [k, n, s, most, least];
        row.map(|number| Value::Int(number.into())).to_vec()
    });
    let expected: Vec<Vec<Value>> = expected.collect();
    for memory_bytes in [Some(LITTLE), None] {
        let job = Job::new(&lake, LARGE).forced();
        let job = job.limited(2, usize::MAX, memory_bytes);
        let report = job.run(&[0]).unwrap();
        let mut said = report.skew.decisions.iter();
        let are_in_parts = said.any(|said| said == JOINS_IN_PARTS);
        assert_eq!(are_in_parts, memory_bytes.is_some(), "{:?}", report.skew);
        assert_eq!(job.rows(0), expected, "{memory_bytes:?}");
    }
}

proptest! {
    #![proptest_config(config(40, 5))]

    #[test]
    fn lookups_give_what_joins_give(
        clicks in clicks(),
        items in items(),
        query in prop::sample::select(FUSED.to_vec()),
        threads in 1..4usize,
    ) {
        let lake = Lake::new();
        write(&lake, &clicks, &items, false);
        let fused = Job::new(&lake, &yaml(query)).split(threads, 16);
        fused.run(&[1]).map_err(|e| TestCaseError::fail(format!("{query}: {e:?}")))?;
        prop_assert!(looks_up(&fused) && !is_joined(&fused), "{}", query);
        let lake = Lake::new();
        write(&lake, &clicks, &items, true);
        let joined = Job::new(&lake, &yaml(query)).split(threads, 16);
        joined.run(&[1]).map_err(|e| TestCaseError::fail(format!("{query}: {e:?}")))?;
        prop_assert!(!looks_up(&joined) && is_joined(&joined), "{}", query);
        prop_assert_eq!(fused.rows(1), joined.rows(1), "{}", query);
    }

    #[test]
    fn salted_joins_give_what_others_give(
        clicks in clicks(),
        items in items(),
        twice: bool,
        query in prop::sample::select([&FUSED[..], &JOINED[..]].concat()),
        (threads, memory_bytes) in prop::sample::select(vec![
            (1usize, None), (2, None), (3, None), (2, Some(128 << 20)),
        ]),
    ) {
        let lake = Lake::new();
        write(&lake, &clicks, &items, twice);
        let job = |table_bytes| {
            let job = Job::new(&lake, &yaml(query)).forced();
            job.limited(threads, table_bytes, memory_bytes)
        };
        let salted = job(0).explain(1).unwrap().contains("SaltExec");
        prop_assert_eq!(salted, FUSED.contains(&query), "{}", query);
        prop_assert_eq!(published(&job(0)), published(&job(usize::MAX)), "{}", query);
    }

    /// What is computed anew where a hash table took more memory than there is.
    #[test]
    fn joins_in_parts_give_what_others_give(
        clicks in clicks(),
        items in items(),
        query in prop::sample::select([&FUSED[..], &JOINED[..]].concat()),
        threads in 1..4usize,
    ) {
        let lake = Lake::new();
        // So that no join becomes a lookup.
        write(&lake, &clicks, &items, true);
        let job = || Job::new(&lake, &yaml(query)).forced().split(threads, 16);
        let (hashed, in_parts) = (job(), job().with_joins_in_parts());
        let plan = in_parts.explain(1).unwrap();
        let mut operators = plan.lines().map(str::trim_start);
        prop_assert!(plan.contains("GraceJoinExec"), "{}", plan);
        prop_assert!(!operators.any(|line| line.starts_with("HashJoinExec")), "{}", plan);
        prop_assert_eq!(published(&hashed), published(&in_parts), "{}", query);
    }
}
