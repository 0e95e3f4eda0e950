//! Mistakes in specs and in data: each is named, with what would be right, and the ranking
//! published before stays.

use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array};
use serde_json::{Value, json};

use crate::small::{
    DATE, FILE, JOB, SPEC, assert_sound, fill, log, longs, published, run, texts, written,
};
use crate::support::Lake;

const USAGE: i32 = 2;
const FAILED: i32 = 1;

/// Each case: what is replaced in the sound spec, by what, and what the error says, between bars.
fn check_spec_cases(code: i32, cases: &[(&str, &str, &str)]) {
    let lake = published();
    for (right, wrong, words) in cases {
        assert!(SPEC.contains(right), "{right}");
        let spec = SPEC.replacen(right, wrong, 1);
        let words: Vec<&str> = words.split('|').collect();
        run(&lake, &spec, &["--force"]).fails(code, &words);
        assert_sound(&lake);
    }
}

#[test]
fn mistakes_in_the_spec_are_named_with_their_line() {
    check_spec_cases(
        USAGE,
        &[
            (
                "measures:",
                "mesures:",
                "spec.yaml:13|mesures|did you mean 'measures'?",
            ),
            (
                "source:",
                "sourec:",
                "spec.yaml:3|sourec|did you mean 'source'?",
            ),
            ("top: 2", "top: 2\n  topp: 3", "spec.yaml:16|'top'"),
            (
                "on: user_id",
                "on: { facts: user_id, dimension: user_id }",
                "spec.yaml:8|'fact'",
            ),
            ("version: 1", "version: 2", "spec.yaml:1|version 2|reads 1"),
            ("top: 2", "top: many", "spec.yaml:15"),
            ("top: 2", "top: 0", "spec.yaml:15|ranking.top|1 to"),
            ("  item: item\n", "", "item|missing"),
            (
                "hits desc",
                "hist desc",
                "spec.yaml:14|hist|did you mean 'hits'?",
            ),
            ("hits desc", "hits down", "down|'asc' or 'desc'"),
            (
                "partition: date",
                "column: at, timezone: Asia/Soul",
                "Asia/Soul|Asia/Seoul",
            ),
            (
                "{lake}/users/",
                "{lake}/{usres}/",
                "spec.yaml:7|{usres}|--set",
            ),
            ("name: shop", "name: [", "spec.yaml:"),
            ("{lake}/rankings", "gs://rankings", "gs|s3://"),
        ],
    );
}

#[test]
fn mistakes_about_the_data_name_what_there_is() {
    check_spec_cases(
        USAGE,
        &[
            (
                "[date, city]",
                "[date, city, devise]",
                "ranking.per[2]|'devise'|'device'|user_id",
            ),
            (
                "on: user_id",
                "on: usr_id",
                "lookups[0].on|'usr_id'|'user_id'",
            ),
            (
                "\"town\"",
                "\"twon\"",
                "lookups[0].attributes.city|twon|town",
            ),
            (
                "columns: [title]",
                "columns: [titel]",
                "labels[0].columns[0]|'titel'|'title'",
            ),
            (
                "count(distinct user_id)",
                "count(distinct usr)",
                "ranking.measures.visitors|usr|user_id",
            ),
            (
                "count(distinct user_id)",
                "sum(device)",
                "ranking.measures.visitors|sum(device)|sum takes a number",
            ),
            (
                "count(distinct user_id)",
                "avg(device)",
                "ranking.measures.visitors|avg takes a number",
            ),
            (
                "count(distinct user_id)",
                "approx_percentile_cont(device, 0.5)",
                "ranking.measures.visitors|takes a number",
            ),
            (
                "count(distinct user_id)",
                "user_id",
                "ranking.measures.visitors|max(user_id)",
            ),
            (
                "count(distinct user_id)",
                "count(",
                "ranking.measures.visitors|count(",
            ),
            (
                "count(distinct user_id)",
                "median(user_id)",
                "median|measures use count",
            ),
            (
                "{ partition: date }",
                "{ partition: date }\n  where: \"device = \"",
                "source.where|device =",
            ),
            (
                "{ partition: date }",
                "{ partition: date }\n  where: \"devise = 'tv'\"",
                "source.where|devise|device",
            ),
            (
                "on: user_id",
                "on: { fact: device, dimension: user_id }",
                "keys don't fit|device|user_id",
            ),
            (
                "{ partition: date }",
                "{ column: device }",
                "source.date.column|'device' doesn't hold dates|'phone'",
            ),
        ],
    );
    check_spec_cases(
        FAILED,
        &[("{lake}/users/", "{lake}/user/", "no files|/user")],
    );
}

#[test]
fn a_misspelt_item_is_named() {
    let lake = published();
    let spec = SPEC.replace("item: item\n", "item: itme\n");
    let spec = spec.replace("on: item,", "on: { fact: itme, dimension: item },");
    let words = [
        "ranking.item",
        "'itme'",
        "did you mean 'item'?",
        "columns: user_id, item, device",
    ];
    run(&lake, &spec, &["--force"]).fails(USAGE, &words);
    assert_sound(&lake);
}

#[test]
fn sql_mistakes_are_named() {
    let lake = published();
    let (head, rest) = SPEC.split_once("lookups:").unwrap();
    let (_, output) = rest.split_once("output:").unwrap();
    for (sql, words) in [
        ("SELEC item FROM source", &["sql", "SELEC"][..]),
        ("SELECT itme FROM source", &["sql", "itme", "item"]),
        ("SELECT item FROM sauce", &["sql", "sauce"]),
        ("SELECT sum(device) FROM source", &["sql", "sum"]),
        ("DROP TABLE source", &["sql", "DDL"]),
    ] {
        let spec = format!("{head}sql: \"{sql}\"\noutput:{output}");
        run(&lake, &spec, &["--force"]).fails(USAGE, words);
        assert_sound(&lake);
    }
    // A key that is none is found before anything is published.
    let spec = format!("{head}sql: \"SELECT item, device FROM source\"\noutput:{output}");
    let keyed = spec.replace("shop/\"", "shop/\", key: [item]");
    run(&lake, &keyed, &["--force"]).fails(FAILED, &["not published", "same key (item)"]);
    let least = spec.replace("shop/\"", "shop/\", min_rows: 100");
    run(&lake, &least, &["--force"]).fails(FAILED, &["not published", "min_rows", "100"]);
    assert_sound(&lake);
}

#[test]
fn mistakes_on_the_command_line() {
    let lake = published();
    let (_folder, file) = written(SPEC);
    for (arguments, words) in [
        (
            &["run", "shpo", "--date", DATE][..],
            &["shpo", "daily-popularity"][..],
        ),
        (
            &["run", &file, "--date", "2026-02-30"],
            &["2026-02-30", "not a date"],
        ),
        (
            &["run", &file, "--from", "2026-01-02", "--to", "2026-01-01"],
            &["lies before"],
        ),
        (&["run", &file], &["--date"]),
        (
            &["run", &file, "--date", DATE, "--set", "x"],
            &["key=value"],
        ),
        (
            &["run", &file, "--date", DATE, "--threads", "0"],
            &["--threads"],
        ),
        (&["rnu", &file], &["rnu"]),
    ] {
        lake.run(arguments).fails(USAGE, words);
    }
    assert_sound(&lake);
}

#[test]
fn a_date_without_input_is_a_gap() {
    let lake = published();
    let (_folder, file) = written(SPEC);
    let gap = ["run", &file, "--date", "2026-01-05"];
    lake.run(&gap)
        .fails(FAILED, &["2026-01-05", "gap", "/logs"]);
    assert!(lake.published(JOB, "2026-01-05").is_none());
    // Among other dates it keeps none of them from being published.
    let many = [
        "run",
        &file,
        "--from",
        DATE,
        "--to",
        "2026-01-03",
        "--format",
        "json",
    ];
    let outcome = lake.run(&many).fails(FAILED, &["2026-01-03", "gap"]);
    let said: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let outcomes: Vec<_> = said["dates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["outcome"])
        .collect();
    assert_eq!(outcomes, ["already_current", "gap"]);
    lake.run(&[&gap[..], &["--allow-empty"]].concat()).ok();
    let empty = lake.published(JOB, "2026-01-05").unwrap();
    assert_eq!((empty.generation, empty.rows.rows.len()), (1, 0));
    assert_eq!(empty.rows.columns, crate::small::ranking().columns);
    assert_sound(&lake);
}

#[test]
fn keys_that_occur_twice_are_refused() {
    let twice: ArrayRef = Arc::new(Int32Array::from(vec![10, 20, 20]));
    for (path, column, key, label) in [
        (
            "users/a.parquet",
            "user_id",
            longs([1, 2, 2].map(Some)),
            "town",
        ),
        ("items/a.parquet", "item", twice, "title"),
    ] {
        let lake = published();
        lake.put_rows(
            path,
            vec![(column, key), (label, texts(["a", "b", "c"].map(Some)))],
        );
        run(&lake, SPEC, &[]).fails(
            FAILED,
            &["more than once", column, path.split('/').next().unwrap()],
        );
        assert_sound(&lake);
    }
}

#[test]
fn what_does_not_count_is_counted() {
    let lake = Lake::local();
    fill(&lake);
    let outcome = run(&lake, SPEC, &["--format", "json"]).ok();
    let said: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&said["rows"], &said["null_items"]), (&json!(9), &json!(1)));
    // User 9; the anonymous row has no key to look up.
    let users = lake.folder().join("users").to_str().unwrap().to_owned();
    assert_eq!(
        said["unmatched"],
        json!([{ "path": users, "key": "user_id", "rows": 1 }])
    );
    for words in ["1 rows have a user_id", "'unknown'", "1 rows have no item"] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    assert_sound(&lake);
}

#[test]
fn an_integer_sum_that_does_not_fit_is_an_error() {
    let lake = published();
    let mut large = log();
    large.push(("bytes", longs([Some(i64::MAX); 9])));
    large.push(("share", Arc::new(Float64Array::from(vec![0.5; 9]))));
    lake.put_rows(FILE, large);
    let spec = SPEC.replace("count(distinct user_id)", "sum(bytes)");
    run(&lake, &spec, &[]).fails(FAILED, &["sum"]);
    assert_sound(&lake);
}

#[test]
fn help_is_no_error() {
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_rankmill"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success() && !output.stdout.is_empty());
    }
}
