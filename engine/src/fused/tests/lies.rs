//! Footers that say less than what their files hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::physical_plan::{collect, displayable};

use super::footer::restate;
use crate::session::{Session, SessionOptions};
use crate::source::{Format, SourcePath, SourceTable, list_files};

/// Items from 5 to 7 and users from 0 to 3, as the footer has it.
const CLAIMS: [(&str, (i64, i64)); 2] = [("item", (5, 7)), ("user", (0, 3))];

const GROUP_ROWS: usize = 300;

/// Whether an item and a user pass.
type Passes = fn(i64, i64) -> bool;

/// Conditions, and whether the aggregation checks them: not those that by the footers leave out all
/// rows, which the scan checks, nor those that always hold.
const CONDITIONS: [(&str, Passes, bool); 8] = [
    ("true", |_, _| true, false),
    ("item >= 7", |item, _| item >= 7, true),
    ("item > 7", |item, _| item > 7, false),
    ("item < 5", |item, _| item < 5, false),
    ("item IN (4, 8)", |item, _| [4, 8].contains(&item), false),
    ("\"user\" < 0", |_, user| user < 0, false),
    (
        "\"user\" = 56 AND item <> 6",
        |item, user| user == 56 && item != 6,
        false,
    ),
    ("item IS NOT NULL", |_, _| true, false),
];

/// A file whose footer was written anew.
fn write(path: &Path, columns: [&[i64]; 2]) {
    let fields = CLAIMS.map(|(name, _)| Field::new(name, DataType::Int64, false));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let arrays = columns.map(|values| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.to_vec()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS));
    let mut writer = ArrowWriter::try_new(file, schema, Some(groups.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    restate(path, |_, column| {
        let claim = CLAIMS.iter().find(|(name, _)| *name == column);
        let (min, max) = claim.unwrap().1;
        let claim = Statistics::int64(Some(min), Some(max), None, Some(0), false);
        Some(claim)
    });
}

/// With and without a limit of memory, with and without a condition: what the footers don't know of
/// is counted all the same.
#[tokio::test]
async fn what_footers_deny_is_counted() {
    let ends = [i64::MIN, -1, 4, 5, 6, 7, 8, 1 << 40, i64::MAX];
    let items: Vec<i64> = (0..4_000).map(|row| ends[row * 7 % ends.len()]).collect();
    let users: Vec<i64> = (0..4_000i64).map(|row| row * row % 97 - 40).collect();
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("a.parquet"),
        [&items[..1_000], &users[..1_000]],
    );
    write(
        &folder.path().join("b.parquet"),
        [&items[1_000..], &users[1_000..]],
    );
    for memory_bytes in [None, Some(8 << 20)] {
        let session = Session::new(&SessionOptions {
            threads: Some(2),
            memory_bytes,
            ..SessionOptions::default()
        });
        let session = session.unwrap();
        let source = SourcePath::parse(folder.path().to_str().unwrap()).unwrap();
        let files = list_files(&session, &source, Format::Parquet, None, None);
        let files = files.await.unwrap();
        let table = SourceTable::open(&session, &source, Format::Parquet, files);
        let table = table.await.unwrap();
        let (name, claimed) = CLAIMS[0];
        let claimed = [claimed.0, claimed.1].map(|end| ScalarValue::Int64(Some(end)));
        assert_eq!(table.range(name), Some(claimed.into()));
        let context = session.context();
        context.register_table("log", Arc::new(table)).unwrap();

        for (condition, passes, filtered) in CONDITIONS {
            let mut expected: BTreeMap<i64, (i64, BTreeSet<i64>)> = BTreeMap::new();
            for (item, user) in items.iter().zip(&users) {
                if passes(*item, *user) {
                    let (rows, seen) = expected.entry(*item).or_default();
                    *rows += 1;
                    seen.insert(*user);
                }
            }
            assert!(!expected.is_empty(), "{condition} leaves nothing");
            let expected: Vec<[i64; 3]> = expected
                .iter()
                .map(|(item, (rows, seen))| [*item, *rows, seen.len() as i64])
                .collect();

            let sql = format!(
                "SELECT item, count(*), count(distinct \"user\") FROM log WHERE {condition} \
                 GROUP BY item"
            );
            let plan = context.sql(&sql).await.unwrap();
            let plan = plan.create_physical_plan().await.unwrap();
            let shown = displayable(plan.as_ref()).indent(false).to_string();
            assert!(shown.contains("FusedExec"), "{shown}");
            assert_eq!(shown.contains("filter="), filtered, "{condition}: {shown}");
            let batches = collect(plan, context.task_ctx()).await.unwrap();
            let mut found: Vec<[i64; 3]> = Vec::new();
            for batch in &batches {
                let [items, rows, users] =
                    [0, 1, 2].map(|at| batch.column(at).as_primitive::<Int64Type>());
                found.extend(
                    (0..batch.num_rows())
                        .map(|row| [items.value(row), rows.value(row), users.value(row)]),
                );
            }
            found.sort_unstable();
            assert_eq!(found, expected, "{condition}: {shown}");
        }
    }
}

/// Operators that tell scans while they run what they still want, and aggregates that statistics could
/// answer.
#[tokio::test]
async fn queries_without_groups_see_all_rows() {
    let items: Vec<i64> = (0..2_000).map(|row| row * 7 % 50).collect();
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), [&items, &items]);
    let session = Session::new(&SessionOptions::default()).unwrap();
    let source = SourcePath::parse(folder.path().to_str().unwrap()).unwrap();
    let files = list_files(&session, &source, Format::Parquet, None, None);
    let table = SourceTable::open(&session, &source, Format::Parquet, files.await.unwrap());
    let context = session.context();
    let table = Arc::new(table.await.unwrap());
    context.register_table("log", table).unwrap();
    for (sql, expected) in [
        ("SELECT max(item) FROM log WHERE item > 7", vec![49]),
        ("SELECT min(item) FROM log WHERE item < 5", vec![0]),
        (
            "SELECT item FROM log WHERE item > 7 ORDER BY item LIMIT 41",
            [vec![8; 40], vec![9]].concat(),
        ),
        (
            "SELECT item FROM log WHERE item > 7 ORDER BY item DESC LIMIT 1",
            vec![49],
        ),
        (
            "SELECT count(distinct item) + 0 * count(distinct \"user\") FROM log WHERE item > 7",
            vec![42],
        ),
        ("SELECT count(*) FROM log WHERE item > 7", vec![40 * 42]),
    ] {
        let frame = context.sql(sql).await.unwrap();
        let batches = frame.collect().await.unwrap();
        let found = batches.iter().flat_map(|batch| {
            let values = batch.column(0).as_primitive::<Int64Type>();
            values.values().to_vec()
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{sql}");
    }
}
