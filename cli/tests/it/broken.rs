//! Files that are damaged or don't fit together: named, whatever their format.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::s3;
use crate::small::{DATE, FILE, JOB, SPEC, assert_sound, fill, log, published, run, texts};
use crate::support::Lake;

const FAILED: i32 = 1;

/// Replaces a file, runs, and expects a failure that names it.
fn check_broken(lake: &Lake, path: &str, bytes: impl Into<Vec<u8>>, words: &[&str]) {
    let whole = lake.get(path).unwrap();
    lake.put(path, bytes.into());
    run(lake, SPEC, &["--force"]).fails(FAILED, &[&[path], words].concat());
    assert_sound(lake);
    lake.put(path, whole);
}

/// Damage in the middle of the data, of which the footer says nothing.
fn flipped(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    file[4..60].iter_mut().for_each(|byte| *byte = !*byte);
    file
}

#[test]
fn broken_parquet_is_named() {
    let on_s3 = s3::bucket();
    fill(&on_s3);
    run(&on_s3, SPEC, &[]).ok();
    for lake in [published(), on_s3] {
        let name = format!("{}/", lake.address);
        for path in [FILE, "users/a.parquet", "items/a.parquet"] {
            let whole = lake.get(path).unwrap();
            let words = ["not a whole parquet file", &name];
            check_broken(&lake, path, &whole[..whole.len() / 2], &words);
            check_broken(&lake, path, "clientip,timestamp\n", &words);
            check_broken(&lake, path, flipped(&whole), &words);
        }
        check_broken(&lake, FILE, "", &[]);
    }
}

/// The first of two files is sound, the second is not; both are there when the job runs.
fn check_text(format: &str, ending: &str, sound: &[u8], broken: &[u8], words: &[&str]) {
    let lake = published();
    let spec = SPEC.replace(
        "{ partition: date }",
        &format!("{{ partition: date }}\n  format: {format}"),
    );
    let path = |name: &str| format!("logs/date={DATE}/{name}.{ending}");
    lake.put(&path("a"), sound.to_vec());
    lake.put(&path("b"), broken.to_vec());
    let second = path("b");
    run(&lake, &spec, &[]).fails(FAILED, &[&[second.as_str()], words].concat());
    assert_sound(&lake);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn broken_text_is_named() {
    let json = br#"{"user_id": 1, "item": 10}"#;
    check_text(
        "json",
        "jsonl",
        json,
        br#"{"user_id": 1, "item": "#,
        &["not a whole json file"],
    );
    check_text(
        "json",
        "jsonl",
        json,
        br#"{"user_id": 1, "item": "x"}"#,
        &["/a.jsonl", "'item'"],
    );
    let late = [
        br#"{"user_id": 1, "item": 10}"#.repeat(3_000),
        b"{\"user_id\"".to_vec(),
    ]
    .concat();
    check_text("json", "jsonl", json, &late, &["not a whole json file"]);
    let csv = b"user_id,item\n1,10\n";
    check_text(
        "csv",
        "csv",
        csv,
        b"user_id,item\n1,10\n1,2,3\n",
        &["not a whole csv file"],
    );
    check_text(
        "csv",
        "csv",
        csv,
        b"item,user_id\n10,1\n",
        &["/a.csv", "item,user_id"],
    );
    let packed = gzip(&csv.repeat(500));
    let cut = &packed[..packed.len() - 12];
    check_text("csv", "csv.gz", &gzip(csv), cut, &["not a whole csv file"]);
    // Types are guessed from the first rows; a later one may not fit.
    let mut late = b"user_id,item\n".to_vec();
    late.extend(b"1,10\n".repeat(3_000));
    late.extend(b"1,ten\n");
    check_text("csv", "csv", csv, &late, &["not a whole csv file"]);
}

#[test]
fn files_may_lack_a_nullable_column() {
    let lake = published();
    let without_user = vec![log().remove(1), log().remove(2)];
    lake.put_rows("logs/date=2026-01-02/b.parquet", without_user);
    run(&lake, SPEC, &[]).ok();
    let rows = lake.published(JOB, DATE).unwrap().rows.rows;
    // Eight rows more with an item, all of them anonymous: 4 + 3 + 1.
    let unknown: Vec<_> = rows.iter().filter(|row| row[1] == "unknown").collect();
    let expected = [(10, 1 + 4, 1), (20, 2 + 3, 1)];
    assert_eq!(unknown.len(), 2);
    for (row, (item, hits, visitors)) in unknown.iter().zip(expected) {
        assert_eq!(
            row[3..],
            [json!(item), row[4].clone(), json!(hits), json!(visitors)]
        );
    }
}

#[test]
fn files_that_disagree_about_a_type_are_named() {
    let lake = published();
    let mut other = log();
    other[1].1 = texts(["10"; 9].map(Some));
    let second = "logs/date=2026-01-02/b.parquet";
    lake.put_rows(second, other);
    run(&lake, SPEC, &[]).fails(FAILED, &[FILE, second, "'item'", "Int32", "Utf8"]);
    assert_sound(&lake);
}
