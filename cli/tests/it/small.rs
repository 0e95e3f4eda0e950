//! A shop small enough to be counted by eye: the sound start from which tests go astray.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use serde_json::json;

use crate::support::{Lake, Outcome, Table};

pub(crate) const DATE: &str = "2026-01-02";
pub(crate) const JOB: &str = "shop";
/// The log's file of [`DATE`].
pub(crate) const FILE: &str = "logs/date=2026-01-02/a.parquet";

/// The lines are counted by tests: `per` stands in line 12.
pub(crate) const SPEC: &str = r#"version: 1
name: shop
source:
  path: "{lake}/logs/"
  date: { partition: date }
lookups:
  - path: "{lake}/users/"
    on: user_id
    attributes: { city: "town" }
ranking:
  item: item
  per: [date, city]
  measures: { hits: "count(*)", visitors: "count(distinct user_id)" }
  order_by: [hits desc]
  top: 2
labels:
  - { path: "{lake}/items/", on: item, columns: [title] }
output: { path: "{lake}/rankings/shop/" }
"#;

pub(crate) fn longs(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

pub(crate) fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// The columns of the log.
pub(crate) fn log() -> Vec<(&'static str, ArrayRef)> {
    let users = [1, 2, 2, 3, 1, 9, 0, 1, 1].map(|user| (user != 0).then_some(user));
    let items = [10, 10, 10, 10, 20, 20, 20, 30, 0].map(|item| (item != 0).then_some(item));
    let device = [
        "phone", "phone", "tv", "tv", "tv", "phone", "tv", "phone", "tv",
    ];
    vec![
        ("user_id", longs(users)),
        ("item", Arc::new(Int32Array::from_iter(items))),
        ("device", texts(device.map(Some))),
    ]
}

/// The lake, with nothing published.
pub(crate) fn fill(lake: &Lake) {
    lake.put_rows(FILE, log());
    let users = ("user_id", longs([1, 2, 3].map(Some)));
    lake.put_rows(
        "users/a.parquet",
        vec![users, ("town", texts([Some("Busan"), Some("Seoul"), None]))],
    );
    let items: ArrayRef = Arc::new(Int32Array::from(vec![10, 20, 30]));
    let titles = texts([Some("Ten"), Some("Twenty"), Some("Thirty")]);
    lake.put_rows("items/a.parquet", vec![("item", items), ("title", titles)]);
}

/// The ranking of [`DATE`]. User 1 is of Busan, 2 of Seoul, 3 of nowhere, 9 is not known, and
/// one is anonymous; one row has no item.
pub(crate) fn ranking() -> Table {
    let row = |city, rank, item, title, hits, visitors| {
        vec![
            json!(DATE),
            json!(city),
            json!(rank),
            json!(item),
            json!(title),
            json!(hits),
            json!(visitors),
        ]
    };
    let columns = ["date", "city", "rank", "item", "title", "hits", "visitors"];
    let rows = vec![
        row("Busan", 1, 10, "Ten", 1, 1),
        row("Busan", 2, 20, "Twenty", 1, 1),
        row("Seoul", 1, 10, "Ten", 2, 1),
        row("unknown", 1, 20, "Twenty", 2, 1),
        row("unknown", 2, 10, "Ten", 1, 1),
    ];
    Table::new(&columns, rows)
}

/// A lake on disk whose ranking is published.
pub(crate) fn published() -> Lake {
    let lake = Lake::local();
    fill(&lake);
    run(&lake, SPEC, &[]).ok();
    assert_sound(&lake);
    lake
}

/// Runs a spec for [`DATE`].
pub(crate) fn run(lake: &Lake, spec: &str, arguments: &[&str]) -> Outcome {
    let (_folder, file) = written(spec);
    let run = ["run", &file, "--date", DATE];
    lake.run(&[&run[..], arguments].concat())
}

/// A spec in a file called `spec.yaml`, in a folder of its own.
pub(crate) fn written(spec: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let file = folder.path().join("spec.yaml");
    std::fs::write(&file, spec).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

/// The first ranking is still current, whole.
pub(crate) fn assert_sound(lake: &Lake) {
    let published = lake.published(JOB, DATE).unwrap();
    assert_eq!(published.generation, 1);
    published
        .rows
        .assert_eq(&ranking(), "the ranking published before");
}
