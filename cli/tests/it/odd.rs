//! Places and columns of unusual shapes.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, TimestampNanosecondArray};
use serde_json::{Value, json};

use crate::s3;
use crate::small::{self, DATE, JOB, SPEC, fill, longs, run, texts};
use crate::support::{Lake, parquet_of};

const HARD_NAMES: [&str; 4] = ["a b", "ü+ß", "100%", "a=b&c#d"];

#[test]
fn lakes_and_files_with_hard_names() {
    for name in HARD_NAMES {
        let around = Lake::local();
        let folder = around.folder().join(name);
        std::fs::create_dir_all(folder.join("logs/date=2026-01-02")).unwrap();
        let lake = Lake::at(&folder);
        fill(&lake);
        let file = format!("logs/date=2026-01-02/{name}.parquet");
        lake.delete(small::FILE);
        std::fs::write(folder.join(file), parquet_of(small::log())).unwrap();
        run(&lake, SPEC, &[]).ok();
        small::assert_sound(&lake);
    }
}

#[test]
fn keys_on_s3_with_hard_names() {
    for name in HARD_NAMES {
        let lake = s3::bucket_with_prefix(&format!("lakes/{name}"));
        fill(&lake);
        lake.delete(small::FILE);
        lake.put(
            &format!("logs/date=2026-01-02/{name}.parquet"),
            parquet_of(small::log()),
        );
        run(&lake, SPEC, &[]).ok();
        small::assert_sound(&lake);
    }
}

fn rows_of(spec: &str, columns: Vec<(&str, ArrayRef)>) -> Vec<Vec<Value>> {
    let lake = Lake::local();
    fill(&lake);
    lake.put_rows(small::FILE, columns);
    run(&lake, spec, &[]).ok();
    lake.published(JOB, DATE).unwrap().rows.rows
}

fn plain(item: &str, measures: &str, order: &str) -> String {
    format!(
        "version: 1\nname: shop\nsource: {{ path: \"{{lake}}/logs/\", date: {{ partition: date }} }}\n\
         ranking:\n  item: {item}\n  measures: {{ {measures} }}\n  order_by: [{order}]\n  top: 9\n\
         output: {{ path: \"{{lake}}/rankings/shop/\" }}\n"
    )
}

#[test]
fn items_of_any_type() {
    let hits = plain("item", "hits: count(*)", "hits desc");
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![1, 0, 1]));
    let found = rows_of(&hits, vec![("item", dates)]);
    assert_eq!(found[0][2..], [json!("1970-01-02"), json!(2)]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.5, f64::NAN, 1.5]));
    let found = rows_of(&hits, vec![("item", floats)]);
    assert_eq!(found[0][2..], [json!(1.5), json!(2)]);
    let unsigned: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX, 0, u64::MAX]));
    let found = rows_of(&hits, vec![("item", unsigned)]);
    assert_eq!(found[0][2..], [json!(u64::MAX), json!(2)]);
    let flags: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true, false, true]));
    let found = rows_of(&hits, vec![("item", flags)]);
    assert_eq!(found[0][2..], [json!(true), json!(2)]);
}

#[test]
fn values_at_their_limits() {
    let items = || longs([1, 1, 2, 3].map(Some));
    let spec = plain("item", "x: sum(x), least: min(x)", "x desc");
    let values = vec![Some(i64::MAX - 1), Some(1), Some(i64::MIN), None];
    let found = rows_of(&spec, vec![("item", items()), ("x", longs(values))]);
    let expected = [
        vec![json!(DATE), json!(1), json!(1), json!(i64::MAX), json!(1)],
        vec![
            json!(DATE),
            json!(2),
            json!(2),
            json!(i64::MIN),
            json!(i64::MIN),
        ],
        vec![json!(DATE), json!(3), json!(3), json!(null), json!(null)],
    ];
    assert_eq!(found, expected);
    // Not a number is no number to rank by: last, with those of no value.
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1e300, f64::NAN, -1.0]));
    let found = rows_of(&spec, vec![("item", items()), ("x", floats)]);
    let order: Vec<&Value> = found.iter().map(|row| &row[2]).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn labels_whose_key_is_of_another_type() {
    let lake = Lake::local();
    fill(&lake);
    let titles = texts(["Ten", "Twenty"].map(Some));
    lake.put_rows(
        "items/a.parquet",
        vec![("item", texts(["10", "020"].map(Some))), ("title", titles)],
    );
    run(&lake, SPEC, &[]).fails(2, &["labels[0].on", "keys don't fit", "Int32", "Utf8"]);
}

#[test]
fn dates_of_columns_in_any_unit_and_zone() {
    // 15:00 UTC is midnight in Seoul.
    let day = 1_767_279_600_000_000_000_i64; // 2026-01-01T15:00:00Z
    let hour = 3_600_000_000_000_i64;
    let instants = [day - 1, day, day + 23 * hour, day + 24 * hour];
    let items = longs([1, 2, 2, 3].map(Some));
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(instants.to_vec()));
    let micros: ArrayRef = Arc::new(
        arrow::array::TimestampMicrosecondArray::from(
            instants.map(|at| at.div_euclid(1_000)).to_vec(),
        )
        .with_timezone("America/New_York"),
    );
    let seconds: ArrayRef = Arc::new(arrow::array::TimestampSecondArray::from(
        instants.map(|at| at.div_euclid(1_000_000_000)).to_vec(),
    ));
    let text = texts(
        [
            "2026-01-01T14:59:59.999999Z",
            "2026-01-02T00:00:00+09:00",
            "2026-01-02 14:00:00",
            "2026-01-02T15:00:00Z",
        ]
        .map(Some),
    );
    let spec = plain("item", "hits: count(*)", "hits desc").replace(
        "{ partition: date }",
        "{ column: at, timezone: Asia/Seoul }",
    );
    for at in [nanos, micros, seconds, text] {
        let kind = at.data_type().to_string();
        let found = rows_of(&spec, vec![("item", Arc::clone(&items)), ("at", at)]);
        assert_eq!(
            found,
            [vec![json!(DATE), json!(1), json!(2), json!(2)]],
            "{kind}"
        );
    }
}

/// A query's gap is a gap like a ranking's.
#[test]
fn a_day_that_the_files_skip_is_a_gap() {
    let lake = Lake::local();
    // The days around DATE, so that the file's footer doesn't rule it out.
    let days: ArrayRef = Arc::new(Date32Array::from(vec![20_454, 20_456]));
    lake.put_rows(
        small::FILE,
        vec![("item", longs([1, 2].map(Some))), ("day", days)],
    );
    let ranking = plain("item", "hits: count(*)", "hits desc");
    let ranking = ranking.replace("{ partition: date }", "{ column: day }");
    let (head, rest) = ranking.split_once("ranking:").unwrap();
    let (_, output) = rest.split_once("output:").unwrap();
    let sql = format!(
        "{head}sql: \"SELECT item, count(*) AS hits FROM source GROUP BY item\"\noutput:{output}"
    );
    for spec in [ranking.as_str(), &sql] {
        run(&lake, spec, &[]).fails(1, &["gap", DATE]);
        assert!(lake.published(JOB, DATE).is_none());
    }
}

#[test]
fn what_where_leaves_out_is_no_gap() {
    for date in ["{ partition: date }", "{ column: day }"] {
        let lake = Lake::local();
        let days: ArrayRef = Arc::new(Date32Array::from(vec![20_455; 3]));
        let items: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        lake.put_rows(small::FILE, vec![("item", items), ("day", days)]);
        let spec = plain("item", "hits: count(*)", "hits desc")
            .replace("{ partition: date }", &format!("{date}, where: item > 5"));
        run(&lake, &spec, &[]).ok();
        assert!(
            lake.published(JOB, DATE).unwrap().rows.rows.is_empty(),
            "{date}"
        );
    }
}
