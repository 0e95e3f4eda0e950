//! Footers that say less than what their files hold. Where nothing is filtered: what a condition
//! leaves out by them isn't read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use datafusion::parquet::file::statistics::Statistics;
use datafusion::physical_plan::{collect, displayable};

use crate::session::{Session, SessionOptions};
use crate::source::{Format, SourcePath, SourceTable, list_files};

/// Items from 5 to 7 and users from 0 to 3, as the footer has it.
const CLAIMS: [(i64, i64); 2] = [(5, 7), (0, 3)];

/// A file whose footer was written anew.
fn write(path: &Path, columns: [&[i64]; 2]) {
    let fields = ["item", "user"].map(|name| Field::new(name, DataType::Int64, false));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let arrays = columns.map(|values| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays.to_vec()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let mut reader = ParquetMetaDataReader::new();
    reader.try_parse(&Bytes::from(bytes.clone())).unwrap();
    let metadata = reader.finish().unwrap();
    let row_groups = metadata.row_groups().iter().map(|group| {
        let claimed = group.columns().iter().zip(CLAIMS);
        let claimed = claimed.map(|(column, (min, max))| {
            let claim = Statistics::int64(Some(min), Some(max), None, Some(0), false);
            let column = column.clone().into_builder().set_statistics(claim);
            column.build().unwrap()
        });
        let group = group.clone().into_builder();
        group
            .set_column_metadata(claimed.collect())
            .build()
            .unwrap()
    });
    let row_groups = row_groups.collect();
    let metadata = metadata.into_builder().set_row_groups(row_groups).build();
    // At the end the footer's length and a magic number, four bytes each.
    let length = bytes[bytes.len() - 8..].first_chunk::<4>().unwrap();
    let footer = u32::from_le_bytes(*length) as usize + 8;
    bytes.truncate(bytes.len() - footer);
    ParquetMetaDataWriter::new(&mut bytes, &metadata)
        .finish()
        .unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// With and without a limit of memory: what the footers don't know of is counted all the same.
#[tokio::test]
async fn what_footers_deny_is_counted() {
    let ends = [i64::MIN, -1, 4, 5, 6, 7, 8, 1 << 40, i64::MAX];
    let items: Vec<i64> = (0..4_000).map(|row| ends[row * row % ends.len()]).collect();
    let users: Vec<i64> = (0..4_000i64).map(|row| row * row % 97 - 40).collect();
    let mut expected: BTreeMap<i64, (i64, BTreeSet<i64>)> = BTreeMap::new();
    for (item, user) in items.iter().zip(&users) {
        let (rows, seen) = expected.entry(*item).or_default();
        *rows += 1;
        seen.insert(*user);
    }
    let expected: Vec<[i64; 3]> = expected
        .iter()
        .map(|(item, (rows, seen))| [*item, *rows, seen.len() as i64])
        .collect();

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
        let claimed = CLAIMS[0];
        let claimed = [claimed.0, claimed.1].map(|end| ScalarValue::Int64(Some(end)));
        assert_eq!(table.range("item"), Some(claimed.into()));

        let context = session.context();
        context.register_table("log", Arc::new(table)).unwrap();
        let sql = "SELECT item, count(*), count(distinct \"user\") FROM log GROUP BY item";
        let plan = context.sql(sql).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("FusedExec"), "{shown}");
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
        assert_eq!(found, expected, "{shown}");
    }
}
