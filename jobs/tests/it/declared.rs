//! SQL of a spec reads what the spec declares, changes nothing, and looks at nothing else.

use crate::job::{Job, day};
use crate::lake::{Lake, Value, ints};

/// A log `t`, and beside it files that no spec declares.
fn lake() -> Lake {
    let lake = Lake::new();
    let values = [Value::Int(1), Value::Int(2)];
    for file in [&format!("t/date={}/0.parquet", day(1)), "secret.parquet"] {
        lake.write(file, &[("x", ints(&values))], 10);
    }
    std::fs::write(format!("{}/secret.csv", lake.path()), "x\n7\n").unwrap();
    lake
}

fn query(sql: &str) -> String {
    with_filter(sql, "x > 0")
}

fn with_filter(sql: &str, filter: &str) -> String {
    format!(
        "version: 1
name: test
sources:
  t:
    path: '{{lake}}/t/'
    date: {{ partition: date }}
    where: |
      {filter}
sql: |
  {sql}
output: {{ path: '{{lake}}/out/' }}
"
    )
}

fn ranking(filter: &str, measure: &str) -> String {
    format!(
        "version: 1
name: test
source:
  path: '{{lake}}/t/'
  date: {{ partition: date }}
  where: |
    {filter}
ranking:
  item: x
  measures:
    n: |
      {measure}
  order_by: [n]
  top: 3
output: {{ path: '{{lake}}/out/' }}
"
    )
}

/// Every file below the lake, with its bytes.
fn files(lake: &Lake) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(lake.path())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((
                    path.to_str().unwrap().to_owned(),
                    std::fs::read(&path).unwrap(),
                )),
            }
        }
    }
    found.retain(|(path, _)| !path.ends_with(".rankmill.lock") && !path.contains("/out/"));
    found.sort();
    found
}

/// Each is refused as the spec's mistake, and leaves the files as they are.
fn refused(specs: impl IntoIterator<Item = (String, String)>) {
    let lake = lake();
    let before = files(&lake);
    let mut wrong = Vec::new();
    for (sql, yaml) in specs {
        match Job::new(&lake, &yaml).run(&[1]) {
            Err(error) if error.is_usage() => {}
            other => wrong.push(format!("{sql}: {:?}", other.map(|report| report.dates))),
        }
        if files(&lake) != before {
            wrong.push(format!("{sql}: changed a file"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn queries(sql: &[&str]) {
    refused(sql.iter().map(|sql| ((*sql).to_owned(), query(sql))));
}

#[test]
fn the_specs_themselves_are_right() {
    let lake = lake();
    for yaml in [query("SELECT x FROM t"), ranking("x > 0", "count(*)")] {
        let outcomes = Job::new(&lake, &yaml).outcomes(&[1]);
        assert!(outcomes[0].starts_with("published "), "{outcomes:?}");
    }
}

#[test]
fn undeclared_files_are_not_read() {
    queries(&[
        "SELECT * FROM '{lake}/secret.csv'",
        "SELECT * FROM \"{lake}/secret.csv\"",
        "SELECT * FROM `{lake}/secret.csv`",
        "SELECT * FROM '{lake}/secret.parquet'",
        "SELECT * FROM 'file://{lake}/secret.parquet'",
        "SELECT * FROM 's3://bucket/secret.parquet'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '{lake}/t/'",
        "SELECT * FROM read_csv('{lake}/secret.csv')",
        "SELECT * FROM read_parquet('{lake}/secret.parquet')",
        "SELECT * FROM parquet_metadata('{lake}/secret.parquet')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM external_table('{lake}/secret.csv')",
        "SELECT * FROM TABLE('{lake}/secret.csv')",
        "SELECT x FROM t WHERE x IN (SELECT x FROM '{lake}/secret.parquet')",
        "SELECT (SELECT max(x) FROM '{lake}/secret.parquet') AS m FROM t",
        "WITH s AS (SELECT * FROM '{lake}/secret.parquet') SELECT x FROM t UNION SELECT x FROM s",
        "SELECT pg_read_file('/etc/passwd') AS x FROM t",
        "SELECT read_file('/etc/passwd') AS x FROM t",
    ]);
}

#[test]
fn catalogs_and_settings_are_not_told() {
    queries(&[
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM information_schema.routines",
        "SELECT * FROM datafusion.information_schema.tables",
        "SELECT * FROM pg_catalog.pg_tables",
        "SELECT * FROM sqlite_master",
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
        "SHOW TABLES",
        "SHOW COLUMNS FROM t",
        "SHOW CREATE TABLE t",
        "SHOW FUNCTIONS",
        "DESCRIBE t",
        "DESC SELECT * FROM t",
        "SELECT current_setting('datafusion.execution.batch_size') AS x",
        "SELECT getenv('PATH') AS x",
    ]);
}

#[test]
fn statements_are_refused_and_do_nothing() {
    let lake_file = "{lake}/new.parquet";
    let made: Vec<String> = [
        "CREATE TABLE a AS SELECT x FROM t",
        "CREATE TABLE IF NOT EXISTS a (x INT)",
        "CREATE OR REPLACE VIEW t AS SELECT 1 AS x",
        "CREATE EXTERNAL TABLE a STORED AS CSV LOCATION '{lake}/secret.csv'",
        "CREATE SCHEMA a",
        "CREATE DATABASE a",
        "CREATE INDEX a ON t (x)",
        "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
        "SELECT x INTO a FROM t",
        "DROP TABLE t",
        "DROP VIEW t",
        "DROP SCHEMA public CASCADE",
        "ALTER TABLE t RENAME TO u",
        "TRUNCATE TABLE t",
        "INSERT INTO t VALUES (1, '2026-01-01')",
        "INSERT OVERWRITE t SELECT * FROM t",
        "UPDATE t SET x = 1",
        "DELETE FROM t",
        "MERGE INTO t USING t AS s ON t.x = s.x WHEN MATCHED THEN DELETE",
        "WITH s AS (INSERT INTO t VALUES (1, '2026-01-01') RETURNING x) SELECT x FROM s",
        "COPY t TO 'FILE'",
        "COPY (SELECT x FROM t) TO 'FILE' STORED AS PARQUET",
        "COPY t FROM '/etc/passwd'",
        "EXPLAIN SELECT x FROM t",
        "EXPLAIN VERBOSE SELECT x FROM t",
        "EXPLAIN ANALYZE SELECT x FROM t",
        "EXPLAIN ANALYZE COPY t TO 'FILE'",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1, '2026-01-01')",
        "EXPLAIN COPY t TO 'FILE'",
        "ANALYZE TABLE t COMPUTE STATISTICS",
        "SET datafusion.execution.batch_size = 1",
        "SET datafusion.catalog.information_schema = true",
        "RESET datafusion.execution.batch_size",
        "SET TIME ZONE 'Asia/Seoul'",
        "USE other",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT x FROM t",
        "EXECUTE p",
        "DEALLOCATE p",
        "CALL f()",
        "LOAD DATA INPATH '/etc/passwd' INTO TABLE t",
        "ATTACH DATABASE '{lake}/x' AS y",
        "DETACH y",
        "INSTALL httpfs",
        "KILL 1",
        "SELECT x FROM t; COPY t TO 'FILE'",
        "COPY t TO 'FILE'; SELECT x FROM t",
    ]
    .iter()
    .map(|sql| sql.replace("FILE", lake_file))
    .collect();
    refused(made.into_iter().map(|sql| (sql.clone(), query(&sql))));
}

#[test]
fn conditions_and_measures_read_their_rows_only() {
    let conditions = [
        "x IN (SELECT x FROM '{lake}/secret.parquet')",
        "x < (SELECT max(x) FROM '{lake}/secret.csv')",
        "EXISTS (SELECT 1 FROM information_schema.tables)",
        "x IN (SELECT x FROM u)",
        "x > (SELECT random())",
        "x > (SELECT 0)",
        "x = ANY (SELECT 1)",
        "x > 0; DROP TABLE t",
        "x > 0) UNION SELECT (x FROM t",
    ];
    let specs = conditions.iter().flat_map(|condition| {
        let in_query = with_filter("SELECT x FROM t", condition);
        let in_ranking = ranking(condition, "count(*)");
        [in_query, in_ranking].map(|yaml| ((*condition).to_owned(), yaml))
    });
    refused(specs);
    let measures = [
        "max((SELECT max(x) FROM '{lake}/secret.parquet'))",
        "(SELECT max(x) FROM '{lake}/secret.parquet')",
        "count(*) FILTER (WHERE x IN (SELECT x FROM '{lake}/secret.parquet'))",
        "count(*) FROM t",
    ];
    refused(measures.map(|measure| (measure.to_owned(), ranking("x > 0", measure))));
}

/// A name that is a path, or a part of the catalog, names the declared table and nothing else.
#[test]
fn tables_named_like_places_are_the_declared_ones() {
    let lake = lake();
    for name in ["secret.csv", "/etc/passwd", "information_schema.tables"] {
        let yaml = query(&format!("SELECT count(*) AS n FROM \"{name}\""));
        let yaml = yaml.replace("  t:", &format!("  '{name}':"));
        let job = Job::new(&lake, &yaml);
        assert_eq!(job.outcomes(&[1]).len(), 1);
        assert_eq!(job.rows(1), [[Value::Int(2)]], "{name}");
    }
}
