use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, StringViewArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{LogicalPlan, col};
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, displayable};
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use datafusion_proto::protobuf::PhysicalPlanNode;

use super::*;
use crate::session::{Session, SessionOptions};

const ROWS: i32 = 60_000;
const TASKS: usize = 4;

fn table(context: &SessionContext, batch: &RecordBatch) -> LogicalPlan {
    let part = batch.num_rows().div_ceil(3);
    let parts = (0..3).map(|at| {
        let from = (at * part).min(batch.num_rows());
        vec![batch.slice(from, part.min(batch.num_rows() - from))]
    });
    let table = MemTable::try_new(batch.schema(), parts.collect()).unwrap();
    let frame = context.read_table(Arc::new(table)).unwrap();
    frame.into_unoptimized_plan()
}

async fn planned(
    session: &Session,
    log: &RecordBatch,
    dimension: &RecordBatch,
    hot: Vec<ScalarValue>,
) -> Arc<dyn ExecutionPlan> {
    let context = session.context();
    let (log, dimension) = (table(context, log), table(context, dimension));
    let keys = (col("user"), Column::from_name("key"));
    let join = SaltedJoinNode::try_new(log, dimension, keys, hot, 5 << 29);
    let join = join.unwrap().into_plan();
    context.state().create_physical_plan(&join).await.unwrap()
}

/// A third of the rows has the key 7, a third has none; even keys are not in the dimension.
async fn plan(session: &Session, hot: Vec<ScalarValue>) -> Arc<dyn ExecutionPlan> {
    let keys = (0..ROWS).map(|row| match row % 3 {
        0 => Some(7),
        1 => None,
        _ => Some(row),
    });
    let keys: ArrayRef = Arc::new(keys.collect::<Int32Array>());
    let log = RecordBatch::try_from_iter(vec![("user", keys)]).unwrap();
    let known = (0..i64::from(ROWS)).filter(|key| key % 2 == 1);
    let names = known.clone().map(|key| format!("name {key}"));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let known: ArrayRef = Arc::new(Int64Array::from_iter_values(known));
    let dimension = RecordBatch::try_from_iter(vec![("key", known), ("name", names)]).unwrap();
    planned(session, &log, &dimension, hot).await
}

fn session(memory_bytes: Option<usize>) -> Session {
    Session::new(&SessionOptions {
        threads: Some(TASKS),
        memory_bytes,
        ..SessionOptions::default()
    })
    .unwrap()
}

#[tokio::test]
async fn rows_are_spread_and_matched() {
    for memory_bytes in [None, Some(256 << 20)] {
        let session = session(memory_bytes);
        let plan = plan(&session, vec![ScalarValue::Int32(Some(7))]).await;
        let said = crate::skew::decisions(&plan);
        let expected = "user: the dimension's table would take 2.5 GiB: log and dimension are shuffled \
                        by key; the row of 1 hot key is copied to all tasks";
        assert!(said.iter().any(|said| said == expected), "{said:?}");
        let tasks = collect_partitioned(Arc::clone(&plan), session.context().task_ctx()).await;
        let (mut rows, mut matched) = (0, 0);
        for batches in tasks.unwrap() {
            let of_task: usize = batches.iter().map(RecordBatch::num_rows).sum();
            // Without salts one task would have a third of all rows, and one another third.
            assert!(of_task < ROWS as usize * 3 / 8, "{of_task}");
            rows += of_task;
            let names = batches.iter().map(|batch| batch.column(2));
            matched += names
                .map(|names| names.len() - names.null_count())
                .sum::<usize>();
        }
        assert_eq!((rows, matched), (ROWS as usize, ROWS as usize / 2));
    }
}

/// Whether the report says so.
fn went_to_disk(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let report = crate::skew::embedded(plan);
    let mut said = report.decisions.iter();
    said.any(|said| said.contains("written to disk"))
}

/// What a join gives, as texts in order, and whether parts of it went to disk.
async fn joined(
    memory_bytes: Option<usize>,
    log: &RecordBatch,
    dimension: &RecordBatch,
    hot: Vec<ScalarValue>,
) -> datafusion::common::Result<(Vec<String>, bool)> {
    let session = session(memory_bytes);
    let plan = planned(&session, log, dimension, hot).await;
    let context = session.context().task_ctx();
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), context).await?;
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .map(|column| cast(column, &DataType::Utf8).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| {
                let texts = column.as_string::<i32>();
                texts.is_valid(row).then(|| texts.value(row))
            });
            rows.push(format!("{:?}", values.collect::<Vec<_>>()));
        }
    }
    rows.sort_unstable();
    Ok((rows, went_to_disk(&plan)))
}

/// Keys of any kind: none, one, all different, many rows of the dimension for one; numbers and texts,
/// in dictionaries too.
#[tokio::test]
async fn parts_on_disk_give_what_memory_gives() {
    type Keys = fn(i64) -> Option<i64>;
    let cases: [(&str, Keys, Keys, bool); 5] = [
        (
            "skewed",
            |row| Some(row * row % 9_973),
            |row| Some(row - 20_000),
            true,
        ),
        (
            "nulls",
            |row| (row % 5 == 0).then_some(row),
            |row| (row % 7 > 0).then_some(row),
            true,
        ),
        ("all null", |_| None, Some, true),
        ("one key", |_| Some(11), Some, true),
        (
            "repeated",
            |row| Some(row % 3_000),
            |row| Some(row / 4 * 2),
            true,
        ),
    ];
    for (case, log, dimension, spills) in cases {
        let keys = |of: Keys, rows: i64| (0..rows).map(of).collect::<Int64Array>();
        let (log, dimension) = (keys(log, 30_000), keys(dimension, 100_000));
        let rows = (0..30_000).map(|row| format!("a row of the log, number {row}"));
        let rows: ArrayRef = Arc::new(StringArray::from_iter_values(rows));
        let names = (0..100_000).map(|row| (row % 3 > 0).then(|| format!("name of the key {row}")));
        let names: ArrayRef = Arc::new(names.collect::<StringViewArray>());
        for key_type in [
            DataType::Int64,
            DataType::Utf8View,
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ] {
            let of_type = |keys: &Int64Array| {
                let texts = cast(keys, &DataType::Utf8).unwrap();
                match &key_type {
                    DataType::Int64 => Arc::new(keys.clone()) as ArrayRef,
                    other => cast(&texts, other).unwrap(),
                }
            };
            let log = vec![("user", of_type(&log)), ("row", Arc::clone(&rows))];
            let log = RecordBatch::try_from_iter_with_nullable(
                log.into_iter().map(|(name, column)| (name, column, true)),
            );
            let columns = vec![("key", of_type(&dimension)), ("name", Arc::clone(&names))];
            let dimension = RecordBatch::try_from_iter_with_nullable(
                columns
                    .into_iter()
                    .map(|(name, column)| (name, column, true)),
            );
            let (log, dimension) = (log.unwrap(), dimension.unwrap());
            let hot = vec![match key_type {
                DataType::Int64 => ScalarValue::Int64(Some(11)),
                _ => ScalarValue::Utf8View(Some("11".to_owned())),
            }];
            let (expected, spilled) = joined(None, &log, &dimension, hot.clone()).await.unwrap();
            assert!(!spilled && expected.len() >= 30_000);
            let (found, spilled) = joined(Some(12 << 20), &log, &dimension, hot).await.unwrap();
            assert_eq!(spilled, spills, "{case} {key_type}");
            assert!(found == expected, "{case} {key_type}");
        }
    }
}

/// All rows of the dimension have one key, so no part is smaller than it.
#[tokio::test]
async fn what_cannot_be_cut_is_joined_or_named() {
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![5; 60_000]));
    let dimension = vec![("key", keys, true)];
    let dimension = RecordBatch::try_from_iter_with_nullable(dimension).unwrap();
    let log: ArrayRef = Arc::new(Int64Array::from(vec![5, 6]));
    let log = RecordBatch::try_from_iter_with_nullable(vec![("user", log, true)]).unwrap();
    let (rows, spilled) = joined(Some(16 << 20), &log, &dimension, Vec::new())
        .await
        .unwrap();
    assert!(spilled);
    assert_eq!(rows.len(), 60_001);
    let error = joined(Some(4 << 20), &log, &dimension, Vec::new()).await;
    let error = error.unwrap_err();
    assert!(crate::operator::ran_out_of_memory(&error), "{error}");
    assert!(error.to_string().contains("GraceJoinExec"), "{error}");
}

#[tokio::test]
async fn an_operator_comes_back_as_it_went() {
    let session = session(Some(256 << 20));
    let plan = plan(
        &session,
        vec![7.into(), ScalarValue::Int64(None), 11i32.into()],
    )
    .await;
    let codec = crate::codec::physical(Arc::new(DefaultPhysicalExtensionCodec {}));
    let salt = salt_of(&plan);
    let sent = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&salt), codec.as_ref()).unwrap();
    let context = session.context().task_ctx();
    let received = sent
        .try_into_physical_plan(&context, codec.as_ref())
        .unwrap();
    let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).one_line().to_string();
    assert_eq!(shown(&received), shown(&salt));
    assert!(
        shown(&salt).contains("hot keys=2, salts=64"),
        "{}",
        shown(&salt)
    );
    let parts = |plan: &Arc<dyn ExecutionPlan>| {
        let salt = plan.downcast_ref::<SaltExec>().unwrap();
        (Arc::clone(salt.salting()), salt.side(), salt.schema())
    };
    assert_eq!(parts(&received), parts(&salt));
}

fn salt_of(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match plan.is::<SaltExec>() {
        true => Arc::clone(plan),
        false => salt_of(plan.children()[0]),
    }
}
