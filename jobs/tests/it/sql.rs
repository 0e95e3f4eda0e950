//! SQL specs: any split gives the same bytes in the same order, and only queries pass.

use proptest::prelude::*;

use crate::check::config;
use crate::exact;
use crate::job::{Job, day};
use crate::lake::{Lake, Value, floats, ints, rows_of, texts};

type Row = (Option<&'static str>, Option<i64>, f64);

fn write(lake: &Lake, rows: &[Row], files: usize, backwards: bool) {
    for (number, rows) in [(0, &rows[..rows.len() / 2]), (1, &rows[rows.len() / 2..])] {
        let mut rows = rows.to_vec();
        if backwards {
            rows.reverse();
        }
        for (i, part) in rows.chunks(rows.len().div_ceil(files).max(1)).enumerate() {
            let of = |value: &dyn Fn(&Row) -> Value| part.iter().map(value).collect::<Vec<_>>();
            let columns = [
                (
                    "g",
                    texts(&of(&|row| row.0.map_or(Value::Null, Value::text))),
                ),
                ("x", ints(&of(&|row| Value::int(row.1)))),
                ("f", floats(&of(&|row| Value::Float(row.2)))),
            ];
            lake.write(&format!("t/date={}/{i}.parquet", day(number)), &columns, 5);
        }
    }
}

fn yaml(sql: &str) -> String {
    format!(
        "version: 1
name: test
sources:
  t: {{ path: '{{lake}}/t/', date: {{ partition: date }}, window_days: 2 }}
sql: |
  {sql}
output: {{ path: '{{lake}}/out/' }}
"
    )
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let group = prop::option::weighted(0.9, prop::sample::select(vec!["a", "b", "한", ""]));
    let float = prop_oneof![
        (-50i32..50).prop_map(|v| f64::from(v) / 10.0),
        -1e300f64..1e300
    ];
    prop::collection::vec((group, prop::option::of(0i64..4), float), 2..60)
}

/// Everything in an order that the query leaves open.
const OPEN_ORDER: [&str; 14] = [
    "SELECT g, x FROM t ORDER BY x",
    "SELECT g FROM t ORDER BY x DESC",
    "SELECT g, x FROM t LIMIT 5",
    "SELECT g, x, f FROM t ORDER BY g LIMIT 5",
    "SELECT g FROM t ORDER BY x LIMIT 5 OFFSET 2",
    "SELECT DISTINCT g FROM t",
    "SELECT g, x FROM t UNION ALL SELECT g, 9 FROM t",
    "SELECT g, sum(f) AS s, avg(f) AS a, min(x) AS l, count(distinct x) AS d FROM t GROUP BY g",
    "SELECT sum(f) AS s, mean(f) AS a, approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY f) AS p FROM t",
    "SELECT g, count(*) FILTER (WHERE x > 1) AS n FROM t GROUP BY g ORDER BY n LIMIT 2",
    "SELECT g, x, f, row_number() OVER (PARTITION BY g ORDER BY x) AS rn FROM t",
    "SELECT g, x, ntile(3) OVER w AS n, rank() OVER w AS r, row_number() OVER w AS rn FROM t WINDOW w AS (ORDER BY x DESC)",
    "SELECT g, x, f, lag(f) OVER w AS b, lead(f, 2) OVER w AS a, first_value(f) OVER w AS l FROM t WINDOW w AS (PARTITION BY g ORDER BY x)",
    "SELECT x, last_value(f) OVER w AS l, nth_value(f, 2) OVER w AS n, sum(x) OVER w AS s FROM t
   WINDOW w AS (PARTITION BY x ORDER BY g ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
];

/// Here the rows that are kept inside the query are left open.
const OPEN_INSIDE: [&str; 6] = [
    "SELECT * FROM (SELECT g, x, f FROM t LIMIT 3) AS s",
    "WITH top AS (SELECT g, x, f FROM t ORDER BY x LIMIT 3) SELECT g, f FROM top",
    "SELECT count(distinct g) AS n, sum(f) AS s FROM (SELECT g, f FROM t ORDER BY g LIMIT 3) AS s",
    "SELECT g, f FROM (SELECT *, row_number() OVER (PARTITION BY g ORDER BY x DESC) AS rn FROM t) AS s WHERE rn <= 2",
    "WITH best AS (SELECT g AS h, x, f, row_number() OVER (PARTITION BY g ORDER BY x) AS rn FROM t)
   SELECT h, sum(f) AS s, count(*) AS n FROM best WHERE rn < 4 GROUP BY h",
    "SELECT x, g FROM t QUALIFY row_number() OVER (PARTITION BY x ORDER BY 1) = 1",
];

fn same_bytes(sql: &str, rows: &[Row]) -> Result<(), TestCaseError> {
    let mut first = None;
    for (files, backwards, threads, batch_rows) in
        [(1, false, 1, 8_192), (3, true, 2, 2), (4, false, 5, 8_192)]
    {
        let lake = Lake::new();
        write(&lake, rows, files, backwards);
        let job = Job::new(&lake, &yaml(sql)).split(threads, batch_rows);
        job.run(&[1])
            .map_err(|e| TestCaseError::fail(format!("{sql}: {e:?}")))?;
        let published = (job.rows(1), job.file(1, "part-0.parquet"));
        let first = first.get_or_insert_with(|| published.clone());
        prop_assert_eq!(&first.0, &published.0, "{}", sql);
        prop_assert!(first.1 == published.1, "{}", sql);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(24, 3))]

    #[test]
    fn any_split_gives_the_same_bytes(rows in rows(), query in prop::sample::select(OPEN_ORDER.to_vec())) {
        same_bytes(query, &rows)?;
    }

    #[test]
    fn sums_and_averages_are_exact(rows in rows()) {
        let lake = Lake::new();
        write(&lake, &rows, 3, false);
        let job = Job::new(&lake, &yaml("SELECT sum(f) AS s, avg(f) AS a FROM t")).split(3, 4);
        job.run(&[1]).unwrap();
        let sum = exact::sum(&rows.iter().map(|row| row.2).collect::<Vec<_>>());
        let average = sum / rows.len() as f64;
        prop_assert_eq!(job.rows(1), vec![vec![Value::Float(sum), Value::Float(average)]]);
    }
}

proptest! {
    #![proptest_config(config(8, 4))]

    #[test]
    fn limits_inside_a_query_keep_the_same_rows(rows in rows(), query in prop::sample::select(OPEN_INSIDE.to_vec())) {
        same_bytes(query, &rows)?;
    }
}

/// Each use reads other columns of the rows.
#[test]
fn a_query_that_is_used_twice_numbers_its_rows_alike() {
    let lake = Lake::new();
    let rows: Vec<Row> = (0..20)
        .map(|i| (Some("a"), Some(i), 20.0 - i as f64))
        .collect();
    write(&lake, &rows, 3, true);
    let sql = "WITH b AS (SELECT g, x, f, row_number() OVER (PARTITION BY g ORDER BY g) AS rn FROM t) \
               SELECT a.x, c.f FROM b AS a JOIN b AS c ON a.g = c.g AND a.rn = c.rn";
    let job = Job::new(&lake, &yaml(sql)).split(2, 4);
    job.run(&[1]).unwrap();
    let expected = (0..20).map(|i| vec![Value::int(Some(i)), Value::Float(20.0 - i as f64)]);
    assert_eq!(job.rows(1), expected.collect::<Vec<_>>());
}

fn two_days() -> Lake {
    let lake = Lake::new();
    let rows = [
        (Some("a"), Some(1), 1.0),
        (Some("b"), Some(2), 2.0),
        (Some("b"), Some(3), 4.0),
    ];
    write(&lake, &rows, 1, false);
    lake
}

#[test]
fn the_order_asked_for_comes_first() {
    let lake = two_days();
    let job = Job::new(&lake, &yaml("SELECT g FROM t ORDER BY f DESC LIMIT 2"));
    job.run(&[1]).unwrap();
    assert_eq!(job.rows(1), [[Value::text("b")], [Value::text("b")]]);
    let job = Job::new(&lake, &yaml("SELECT x, count(*) AS n FROM t GROUP BY x"));
    job.run(&[1]).unwrap();
    let expected = [1, 2, 3].map(|x| vec![Value::Int(x), Value::Int(1)]);
    assert_eq!(job.rows(1), expected);
}

/// Ties are decided by what the query uses, and nothing else is read.
#[test]
fn the_first_rows_of_groups_are_cut_in_a_total_order() {
    let lake = two_days();
    let sql = "SELECT g, f FROM (SELECT *, row_number() OVER (PARTITION BY g ORDER BY x DESC) AS rn FROM t) WHERE rn <= 2";
    let plan = Job::new(&lake, &yaml(sql)).explain(1).unwrap();
    let cut = "GroupLimit: 2 per [t.g] by [t.x DESC NULLS FIRST, t.f ASC NULLS LAST]";
    assert!(plan.contains(cut), "{plan}");
    assert!(plan.contains("GroupLimitExec: 2 per"), "{plan}");
}

#[test]
fn a_key_that_occurs_twice_is_refused_and_the_last_result_stays() {
    let lake = two_days();
    let with_key = |sql: &str| yaml(sql).replace("/out/'", "/out/', key: [g]");
    let job = Job::new(&lake, &with_key("SELECT DISTINCT g FROM t"));
    assert_eq!(job.outcomes(&[1]), ["published 1"]);
    let twice = Job::new(&lake, &with_key("SELECT g, x FROM t"));
    let error = twice.error(&[1]);
    assert!(
        error.contains("is not published: row 2 has the same key (g)"),
        "{error}"
    );
    let missing = Job::new(&lake, &with_key("SELECT x FROM t"));
    let error = missing.error(&[1]);
    assert!(error.contains("'g' is not in the result"), "{error}");
    assert_eq!(job.rows(1).len(), 2);
    assert_eq!(job.generations(1), [1]);
}

#[test]
fn too_few_rows_are_refused() {
    let lake = two_days();
    let with_least =
        |rows| yaml("SELECT g FROM t").replace("/out/'", &format!("/out/', min_rows: {rows}"));
    let error = Job::new(&lake, &with_least(4)).error(&[1]);
    assert!(
        error.contains("it has 3 rows; output.min_rows asks for 4"),
        "{error}"
    );
    assert_eq!(
        Job::new(&lake, &with_least(3)).outcomes(&[1]),
        ["published 1"]
    );
}

#[test]
fn only_queries_pass() {
    let lake = two_days();
    let mut wrong = Vec::new();
    for sql in [
        "CREATE TABLE a AS SELECT 1 AS x",
        "CREATE VIEW a AS SELECT * FROM t",
        "CREATE EXTERNAL TABLE a STORED AS PARQUET LOCATION '/nowhere'",
        "DROP TABLE t",
        "INSERT INTO t VALUES ('a', 1, 1.0)",
        "DELETE FROM t",
        "COPY t TO '/nowhere/x.parquet'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "SELECT * FROM nowhere",
        "SELECT * FROM '/etc/passwd'",
        "SHOW TABLES",
        "EXPLAIN SELECT 1 AS x",
        "DESCRIBE t",
        "PREPARE p AS SELECT 1",
        "",
    ] {
        let job = Job::new(&lake, &yaml(sql));
        match job.run(&[1]) {
            Err(error) if error.is_usage() && error.to_string().contains("sql") => {}
            other => wrong.push(format!("{sql}: {:?}", other.map(|report| report.dates))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_have_windows_and_filters_of_their_own() {
    let lake = Lake::new();
    for number in 0..4 {
        let value = [
            Value::Int((10 * number).into()),
            Value::Int((10 * number + 1).into()),
        ];
        for table in ["a", "b"] {
            let file = format!("{table}/date={}/0.parquet", day(number));
            lake.write(&file, &[("V", ints(&value))], 10);
        }
    }
    lake.write(
        "dim.parquet",
        &[("V", ints(&[Value::Int(30), Value::Int(21)]))],
        10,
    );
    let yaml = "version: 1
name: test
source: { path: '{lake}/dim.parquet' }
sources:
  a: { path: '{lake}/a/', date: { partition: date }, window_days: 2 }
  b: { path: '{lake}/b/', date: { partition: date }, window_days: 3, where: 'V % 10 = 1' }
sql: |
  SELECT
    (SELECT sum(V) FROM a) AS a,
    (SELECT sum(V) FROM b) AS b,
    (SELECT count(*) FROM a JOIN source USING (V)) AS hits,
    (SELECT CAST(max(date) AS VARCHAR) FROM b) AS last,
    '{date}' AS today
output: { path: '{lake}/out/' }
";
    let job = Job::new(&lake, yaml);
    assert_eq!(
        job.outcomes(&[2, 3, 4]),
        ["published 1", "published 1", "gap"]
    );
    let (_, batch) = job.batch(3).unwrap();
    let last = Value::text("2026-01-04");
    let expected = [
        Value::Int(20 + 21 + 30 + 31),
        Value::Int(11 + 21 + 31),
        Value::Int(2),
        last.clone(),
        last,
    ];
    assert_eq!(rows_of(&batch), [expected]);
    let names: Vec<String> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, ["a", "b", "hits", "last", "today"]);
}
