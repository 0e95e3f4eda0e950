use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::col;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned, displayable};
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use datafusion_proto::protobuf::PhysicalPlanNode;

use super::*;
use crate::session::{Session, SessionOptions};

const ROWS: i32 = 60_000;
const TASKS: usize = 4;

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
    let context = session.context();
    let table = |batch: RecordBatch| {
        let parts =
            (0..3).map(|part| vec![batch.slice(part * batch.num_rows() / 3, batch.num_rows() / 3)]);
        let table = MemTable::try_new(batch.schema(), parts.collect()).unwrap();
        let frame = context.read_table(Arc::new(table)).unwrap();
        frame.into_unoptimized_plan()
    };
    let keys = (col("user"), Column::from_name("key"));
    let join = SaltedJoinNode::try_new(table(log), table(dimension), keys, hot, 5 << 29);
    let join = join.unwrap().into_plan();
    context.state().create_physical_plan(&join).await.unwrap()
}

fn session(memory_bytes: Option<usize>) -> Session {
    Session::new(&SessionOptions {
        threads: Some(TASKS),
        memory_bytes,
        ..SessionOptions::default()
    })
    .unwrap()
}

fn find<T: ExecutionPlan + 'static>(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<T>() || plan.children().into_iter().any(find::<T>)
}

#[tokio::test]
async fn rows_are_spread_and_matched() {
    for memory_bytes in [None, Some(256 << 20)] {
        let session = session(memory_bytes);
        let plan = plan(&session, vec![ScalarValue::Int32(Some(7))]).await;
        assert_eq!(find::<HashJoinExec>(&plan), memory_bytes.is_none());
        assert_eq!(find::<SortMergeJoinExec>(&plan), memory_bytes.is_some());
        let said = crate::skew::decisions(&plan);
        let expected = "user: the dimension's table would take 2.5 GiB: log and dimension are shuffled \
                        by key; the row of 1 hot key is copied to all tasks";
        assert!(said.iter().any(|said| said == expected), "{said:?}");
        let tasks = collect_partitioned(plan, session.context().task_ctx()).await;
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
