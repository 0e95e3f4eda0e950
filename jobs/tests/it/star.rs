//! SQL specs that join a log with dimensions: the same results with and without the fused lookups.

use proptest::prelude::*;
use rankmill_engine::JOINS_SORTED;

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
    let plan = job.explain(1).unwrap();
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

const LARGE: &str = "version: 1
name: test
sources:
  t: { path: '{lake}/t/', date: { partition: date } }
  d: { path: '{lake}/d.parquet' }
sql: >
  SELECT d.v % 5 AS k, count(*) AS n, sum(t.v + d.w) AS s, max(d.x) AS x
  FROM t JOIN d ON t.key = d.key GROUP BY k
output: { path: '{lake}/out/' }
";

/// Neither side fits the memory as a hash table.
#[test]
fn joins_that_do_not_fit_are_sorted() {
    const ROWS: i64 = 400_000;
    let (lake, keys) = (Lake::new(), ROWS / 2);
    let column = |value: fn(i64) -> i64| {
        let values = (0..ROWS).map(|row| Value::int(Some(value(row))));
        ints(&values.collect::<Vec<_>>())
    };
    // Each key occurs twice in both.
    let key = |row: i64| row * 7 % (ROWS / 2) * 1_000;
    let columns = [("key", column(key)), ("v", column(|row| row % 1_000_003))];
    lake.write(&format!("t/date={}/a.parquet", day(0)), &columns, 50_000);
    let columns = [
        ("key", column(|row| row % (ROWS / 2) * 1_000)),
        ("v", column(|row| row * row)),
        ("w", column(|row| -row)),
        ("x", column(|row| row ^ 0x5555)),
    ];
    lake.write("d.parquet", &columns, 50_000);
    let mut expected = [(0i128, 0i128, 0i128); 5];
    for row in 0..ROWS {
        let at = row * 7 % keys;
        for other in [at, at + keys] {
            let (n, s, x) = &mut expected[(other * other % 5) as usize];
            *n += 1;
            *s += i128::from(row % 1_000_003 - other);
            *x = (*x).max(i128::from(other ^ 0x5555));
        }
    }
    let expected = (0..).zip(expected).filter(|(_, (n, ..))| *n > 0);
    let expected = expected.map(|(k, (n, s, x))| [k, n, s, x].map(Value::Int).to_vec());
    let expected: Vec<Vec<Value>> = expected.collect();
    for threads in [1, 2] {
        let job = Job::new(&lake, LARGE).forced();
        let job = job.limited(threads, usize::MAX, Some(LITTLE));
        let report = job.run(&[0]).unwrap();
        let said = &report.skew.decisions;
        assert!(said.iter().any(|said| said == JOINS_SORTED), "{said:?}");
        assert_eq!(job.rows(0), expected);
    }
    let report = Job::new(&lake, LARGE).forced().run(&[0]).unwrap();
    assert!(
        !report
            .skew
            .decisions
            .iter()
            .any(|said| said == JOINS_SORTED)
    );
}

/// Less than the keys and values of a side take.
const LITTLE: usize = 12 << 20;

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
        query in prop::sample::select(FUSED.to_vec()),
        (threads, memory_bytes) in prop::sample::select(vec![
            (1usize, None), (2, None), (3, None), (2, Some(128 << 20)),
        ]),
    ) {
        let lake = Lake::new();
        write(&lake, &clicks, &items, twice);
        let rows = |table_bytes| {
            let job = Job::new(&lake, &yaml(query)).forced();
            let job = job.limited(threads, table_bytes, memory_bytes);
            let ran = job.run(&[1]);
            ran.map_err(|e| TestCaseError::fail(format!("{query}: {e:?}")))?;
            Ok::<_, TestCaseError>(job.rows(1))
        };
        prop_assert_eq!(rows(0)?, rows(usize::MAX)?, "{}", query);
    }

    /// What is computed anew where a hash table took more memory than there is.
    #[test]
    fn sorted_joins_give_what_hashed_ones_give(
        clicks in clicks(),
        items in items(),
        twice: bool,
        query in prop::sample::select([&FUSED[..], &JOINED[..]].concat()),
        threads in 1..4usize,
    ) {
        let lake = Lake::new();
        write(&lake, &clicks, &items, twice);
        let published = |job: Job| match job.run(&[1]) {
            Ok(_) => Ok(job.rows(1)),
            // Some fail for some rows.
            Err(error) => Err(error.is_usage()),
        };
        let hashed = published(Job::new(&lake, &yaml(query)).forced().split(threads, 16));
        let sorted = Job::new(&lake, &yaml(query)).forced().split(threads, 16);
        let sorted = published(sorted.with_sorted_joins());
        prop_assert_eq!(hashed, sorted, "{}", query);
    }
}
