//! A real log: the example spec over an Apache access log of May 2015.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use chrono::{DateTime, NaiveDate};
use chrono_tz::America::Los_Angeles;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::{Lake, Table};

const JOB: &str = "apache-pages";
const ROWS: usize = 9_999;

/// The log is public sample data that is not part of this project.
fn log() -> Option<PathBuf> {
    let folder = match std::env::var_os("RANKMILL_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let file = folder.join("apache_access_2015.parquet");
    file.is_file().then_some(file)
}

/// For each day of the zone and each page: hits and addresses.
type Days = BTreeMap<NaiveDate, HashMap<String, (u64, HashSet<String>)>>;

fn count(file: &PathBuf) -> Days {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap());
    let batches: Vec<RecordBatch> = reader
        .unwrap()
        .build()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut days = Days::new();
    for batch in &batches {
        let times = batch["timestamp"].as_primitive::<TimestampMillisecondType>();
        let (requests, addresses) = (
            batch["request"].as_string::<i32>(),
            batch["clientip"].as_string::<i32>(),
        );
        for row in 0..batch.num_rows() {
            let at = DateTime::from_timestamp_millis(times.value(row)).unwrap();
            let pages = days
                .entry(at.with_timezone(&Los_Angeles).date_naive())
                .or_default();
            let page = pages.entry(requests.value(row).to_owned()).or_default();
            page.0 += 1;
            page.1.insert(addresses.value(row).to_owned());
        }
    }
    assert_eq!(
        batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
        ROWS
    );
    days
}

fn ranking(date: NaiveDate, pages: &HashMap<String, (u64, HashSet<String>)>) -> Table {
    let mut pages: Vec<(&String, u64, usize)> = pages
        .iter()
        .map(|(page, (hits, addresses))| (page, *hits, addresses.len()))
        .collect();
    pages.sort_by_key(|(page, hits, visitors)| (Reverse(*hits), Reverse(*visitors), *page));
    let rows = pages
        .into_iter()
        .take(20)
        .zip(1..)
        .map(|((page, hits, visitors), rank)| {
            vec![
                json!(date.to_string()),
                json!(rank),
                json!(page),
                json!(hits),
                json!(visitors),
            ]
        });
    Table::new(
        &["date", "rank", "request", "hits", "visitors"],
        rows.collect(),
    )
}

#[test]
fn the_pages_of_a_real_log() {
    let Some(file) = log() else {
        println!("skipped: there is no apache_access_2015.parquet; see RANKMILL_SHARED_DATA");
        return;
    };
    let days = count(&file);
    let (first, last) = (
        days.keys().next().unwrap(),
        days.keys().next_back().unwrap(),
    );
    let spec = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../jobs/specs/examples/apache-pages.yaml"
    );
    let set = format!("logs={}", file.display());
    let lake = Lake::local();
    let job = ["run", spec, "--set", &set];
    let dates = ["--from", &first.to_string(), "--to", &last.to_string()];
    let run = lake.json(&[&job[..], &dates].concat());
    assert_eq!(run["rows"], ROWS);
    assert!(days.len() > 3, "the zone cuts the log into days");
    for (date, pages) in &days {
        let published = lake.published(JOB, &date.to_string()).unwrap();
        published
            .rows
            .assert_eq(&ranking(*date, pages), &date.to_string());
    }
    // One day alone is the same ranking, and then there is nothing to do.
    let again = lake.json(&[&job[..], &["--date", &first.to_string()]].concat());
    assert_eq!(again["dates"][0]["outcome"], "already_current");
    let forced = ["--date", &last.to_string(), "--force"];
    let alone: Value = lake.json(&[&job[..], &forced].concat());
    assert_eq!(alone["dates"][0]["generation"], 2);
    let published = lake.published(JOB, &last.to_string()).unwrap();
    published
        .rows
        .assert_eq(&ranking(*last, &days[last]), "the last day alone");
    // A day before the log began has no rows.
    let before = first.pred_opt().unwrap().to_string();
    lake.run(&[&job[..], &["--date", &before]].concat())
        .fails(1, &["gap", &before]);
}
