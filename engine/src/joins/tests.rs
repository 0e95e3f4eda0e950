use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{JoinSide, JoinType, NullEquality, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::joins::PartitionMode;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::session::{Session, SessionOptions};

const TYPES: [JoinType; 10] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::RightSemi,
    JoinType::LeftAnti,
    JoinType::RightAnti,
    JoinType::LeftMark,
    JoinType::RightMark,
];

const ROWS: i64 = 24_000;

/// A side of so many rows.
fn side(name: &str, rows: i64, key: fn(i64) -> Option<i64>) -> Arc<dyn ExecutionPlan> {
    side_of(name, Arc::new((0..rows).map(key).collect::<Int64Array>()))
}

/// A side with these keys.
fn side_of(name: &str, keys: ArrayRef) -> Arc<dyn ExecutionPlan> {
    let rows = keys.len() as i64;
    let texts = (0..rows).map(|row| (row % 11 > 0).then(|| format!("{name} of the row {row}")));
    let texts: ArrayRef = Arc::new(texts.collect::<StringViewArray>());
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let columns = [("k", keys), ("t", texts), ("n", numbers)];
    let columns = columns.map(|(column, values)| (format!("{name}_{column}"), values, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let batches: Vec<_> = (0..batch.num_rows())
        .step_by(1_000)
        .map(|at| batch.slice(at, 1_000.min(batch.num_rows() - at)))
        .collect();
    MemorySourceConfig::try_new_exec(&[batches], batch.schema(), None).unwrap()
}

fn column(plan: &Arc<dyn ExecutionPlan>, at: usize) -> Arc<dyn PhysicalExpr> {
    let schema: SchemaRef = plan.schema();
    Arc::new(Column::new(schema.field(at).name(), at))
}

/// `build_n + 1000 > probe_n`.
fn filter() -> JoinFilter {
    let at = |name, at| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
    let sum = BinaryExpr::new(at("build_n", 0), Operator::Plus, lit(1_000i64));
    let less = BinaryExpr::new(Arc::new(sum), Operator::Gt, at("probe_n", 1));
    let fields = ["build_n", "probe_n"].map(|name| Field::new(name, DataType::Int64, true));
    let index = |side| ColumnIndex { index: 2, side };
    JoinFilter::new(
        Arc::new(less),
        vec![index(JoinSide::Left), index(JoinSide::Right)],
        Arc::new(Schema::new(fields.to_vec())),
    )
}

fn join(
    build: Arc<dyn ExecutionPlan>,
    probe: Arc<dyn ExecutionPlan>,
    join_type: JoinType,
    filter: Option<JoinFilter>,
    nulls: NullEquality,
) -> HashJoinExec {
    // Keys may be any expressions.
    let key = |side: &Arc<dyn ExecutionPlan>| match side.schema().field(0).data_type() {
        DataType::Int64 => {
            let twice = BinaryExpr::new(column(side, 0), Operator::Multiply, lit(2i64));
            Arc::new(twice) as Arc<dyn PhysicalExpr>
        }
        _ => column(side, 0),
    };
    let on = vec![(key(&build), key(&probe))];
    let mode = PartitionMode::Partitioned;
    HashJoinExec::try_new(
        build, probe, on, filter, &join_type, None, mode, nulls, false,
    )
    .unwrap()
}

fn context(memory: usize) -> Arc<TaskContext> {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory)));
    let config = SessionConfig::new().with_target_partitions(1);
    let context = TaskContext::default()
        .with_session_config(config)
        .with_runtime(runtime.build_arc().unwrap());
    Arc::new(context)
}

/// The rows of a plan as texts, in order.
async fn rows(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Vec<String> {
    let batches = datafusion::physical_plan::collect(plan, Arc::clone(&context)).await;
    assert_eq!(context.memory_pool().reserved(), 0);
    let mut rows = Vec::new();
    for batch in batches.unwrap() {
        let columns = batch.columns().iter();
        let columns: Vec<ArrayRef> = columns
            .map(|column| cast(column, &DataType::Utf8).unwrap())
            .collect();
        let value = |column: &ArrayRef, row: usize| {
            let texts = column.as_string::<i32>();
            texts.is_valid(row).then(|| texts.value(row).to_owned())
        };
        rows.extend((0..batch.num_rows()).map(|row| {
            let values: Vec<_> = columns.iter().map(|column| value(column, row)).collect();
            format!("{values:?}")
        }));
    }
    rows.sort_unstable();
    rows
}

fn went_to_disk(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let report = crate::skew::embedded(plan);
    let mut said = report.decisions.iter();
    said.any(|said| said.contains("written to disk"))
}

#[tokio::test]
async fn parts_give_what_the_whole_gives() {
    type Keys = fn(i64) -> Option<i64>;
    let sides: [(Keys, Keys); 3] = [
        // Few match, on either side some occur more than once.
        (|row| Some(row / 2), |row| Some(row / 3 + 9_000)),
        // Many nulls.
        (
            |row| (row % 3 == 0).then_some(row),
            |row| (row % 4 == 0).then_some(row),
        ),
        // None match.
        (Some, |row| Some(-1 - row)),
    ];
    for (build_keys, probe_keys) in sides {
        for join_type in TYPES {
            for filter in [None, Some(filter())] {
                let nulls = NullEquality::NullEqualsNothing;
                let join = || {
                    let (build, probe) = (
                        side("build", ROWS, build_keys),
                        side("probe", ROWS / 4, probe_keys),
                    );
                    join(build, probe, join_type, filter.clone(), nulls)
                };
                let expected = rows(Arc::new(join()), context(1 << 30)).await;
                let grace: Arc<dyn ExecutionPlan> = Arc::new(in_parts(join()).unwrap());
                let found = rows(Arc::clone(&grace), context(4 << 20)).await;
                let said = displayable(grace.as_ref()).one_line().to_string();
                assert!(went_to_disk(&grace), "{said}");
                assert!(
                    found == expected,
                    "{said}: {} of {}",
                    found.len(),
                    expected.len()
                );
                let grace: Arc<dyn ExecutionPlan> = Arc::new(in_parts(join()).unwrap());
                assert!(rows(Arc::clone(&grace), context(1 << 30)).await == expected);
                assert!(!went_to_disk(&grace), "{said}");
            }
        }
    }
}

/// The keys of a side: `rows` of so many different ones, a tenth, say, without one.
#[derive(Debug, Clone)]
struct Drawn {
    rows: i64,
    different: i64,
    nulls: u64,
    seed: u64,
}

impl Drawn {
    fn keys(&self, data_type: &DataType) -> ArrayRef {
        // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
        let mixed = |n: u64| {
            let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let key = |row: i64| {
            let drawn = mixed(self.seed.wrapping_add(row as u64));
            let key = (drawn >> 16) as i64 % self.different - self.different / 2;
            (drawn % 100 >= self.nulls).then_some(key)
        };
        let keys: ArrayRef = Arc::new((0..self.rows).map(key).collect::<Int64Array>());
        match data_type {
            DataType::Int64 => keys,
            other => cast(&cast(&keys, &DataType::Utf8).unwrap(), other).unwrap(),
        }
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let rows = prop_oneof![1 => 0..300i64, 4 => 12_000..40_000i64];
    let different = prop_oneof![2_000..5_000i64, 20_000..90_000i64];
    (rows, different, 0..60u64, any::<u64>()).prop_map(|(rows, different, nulls, seed)| Drawn {
        rows,
        different,
        nulls,
        seed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_join_gives_the_same_in_little_memory(
        build in drawn(),
        probe in drawn(),
        join_type in prop::sample::select(TYPES.to_vec()),
        filtered: bool,
        nulls in prop::sample::select(vec![NullEquality::NullEqualsNothing, NullEquality::NullEqualsNull]),
        key_type in prop::sample::select(vec![
            DataType::Int64,
            DataType::Utf8View,
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ]),
        mebibytes in 3..9usize,
    ) {
        let mut sides = [build, probe];
        if nulls == NullEquality::NullEqualsNull {
            // Each null of one side with each of the other.
            sides.iter_mut().for_each(|side| side.nulls = u64::from(side.rows < 300));
        }
        let join = || {
            let [build, probe] = &sides;
            let filter = filtered.then(filter);
            let build = side_of("build", build.keys(&key_type));
            join(build, side_of("probe", probe.keys(&key_type)), join_type, filter, nulls)
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let expected = runtime.block_on(rows(Arc::new(join()), context(1 << 30)));
        let grace: Arc<dyn ExecutionPlan> = Arc::new(in_parts(join()).unwrap());
        let found = runtime.block_on(rows(Arc::clone(&grace), context(mebibytes << 20)));
        prop_assert!(found == expected, "{} of {}", found.len(), expected.len());
    }
}

/// Nulls that are equal to each other are one key.
#[tokio::test]
async fn nulls_may_be_equal() {
    let keys: fn(i64) -> Option<i64> = |row| (row % 100 > 0).then_some(row);
    for join_type in TYPES {
        let join = || {
            let sides = (side("build", ROWS, keys), side("probe", 500, keys));
            join(
                sides.0,
                sides.1,
                join_type,
                None,
                NullEquality::NullEqualsNull,
            )
        };
        let expected = rows(Arc::new(join()), context(1 << 30)).await;
        let grace: Arc<dyn ExecutionPlan> = Arc::new(in_parts(join()).unwrap());
        assert!(
            rows(Arc::clone(&grace), context(4 << 20)).await == expected,
            "{join_type}"
        );
        assert!(went_to_disk(&grace), "{join_type}");
    }
}

/// Each has its part of the memory while the ones below it work.
#[tokio::test]
async fn many_joins_share_the_memory() {
    let nested = |grace: bool| {
        let mut plan = side("probe", 2_000, Some);
        for _ in 0..7 {
            let nulls = NullEquality::NullEqualsNothing;
            let above = join(
                side("build", ROWS, Some),
                plan,
                JoinType::Right,
                None,
                nulls,
            );
            plan = match grace {
                true => Arc::new(in_parts(above).unwrap()),
                false => Arc::new(above),
            };
        }
        plan
    };
    let expected = rows(nested(false), context(1 << 30)).await;
    assert_eq!(expected.len(), 2_000);
    for memory in [12 << 20, 32 << 20] {
        let plan = nested(true);
        assert!(rows(Arc::clone(&plan), context(memory)).await == expected);
        assert!(went_to_disk(&plan), "{memory}");
    }
}

#[test]
fn a_join_that_minds_other_parts_is_refused() {
    let whole = || {
        let sides = (side("build", 3, Some), side("probe", 3, Some));
        let nulls = NullEquality::NullEqualsNothing;
        join(sides.0, sides.1, JoinType::Inner, None, nulls)
    };
    assert!(in_parts(whole()).is_ok());
    let collected = whole()
        .builder()
        .with_partition_mode(PartitionMode::CollectLeft);
    assert!(in_parts(collected.build().unwrap()).is_err());
}

#[tokio::test]
async fn an_operator_comes_back_as_it_went() {
    use datafusion_proto::protobuf::PhysicalPlanNode;
    // Inputs that travel.
    let empty = |side: Arc<dyn ExecutionPlan>| {
        let empty = datafusion::physical_plan::empty::EmptyExec::new(side.schema());
        Arc::new(empty) as Arc<dyn ExecutionPlan>
    };
    let sides = (empty(side("build", 3, Some)), empty(side("probe", 3, Some)));
    let nulls = NullEquality::NullEqualsNull;
    let join = join(sides.0, sides.1, JoinType::LeftAnti, Some(filter()), nulls);
    let plan: Arc<dyn ExecutionPlan> = Arc::new(GraceJoinExec::try_new(join, 77).unwrap());
    let codec = crate::codec::physical(Arc::new(DefaultPhysicalExtensionCodec {}));
    let sent = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&plan), codec.as_ref()).unwrap();
    let session = Session::new(&SessionOptions::default()).unwrap();
    let context = session.context().task_ctx();
    let received = sent.try_into_physical_plan(&context, codec.as_ref());
    let received = received.unwrap();
    let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
    assert_eq!(shown(&received), shown(&plan));
    assert!(shown(&plan).contains("build rows=77"), "{}", shown(&plan));
    assert_eq!(received.schema(), plan.schema());
}

/// Texts that are hashed by what they are, not by how they lie.
#[test]
fn chunks_are_read_as_they_were_written() {
    use super::parts::{Cut, Keys, PartWriter};
    let session = Session::new(&SessionOptions::default()).unwrap();
    let disk = Arc::clone(&session.context().runtime_env().disk_manager);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let batch = |from: i64| {
        let keys: ArrayRef = Arc::new(
            (from..from + 50)
                .map(|k| (k % 9 > 0).then_some(k))
                .collect::<Int64Array>(),
        );
        let texts = cast(&cast(&keys, &DataType::Utf8).unwrap(), &dictionary).unwrap();
        RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("t", texts, true)]).unwrap()
    };
    let schema = batch(0).schema();
    let keys = |spread_nulls| Keys {
        exprs: vec![Arc::new(Column::new("t", 1))],
        spread_nulls,
    };
    let cut = Cut { taken: 0, bits: 3 };
    for spread_nulls in [false, true] {
        // A chunk a batch.
        let mut writer = PartWriter::new(&schema, keys(spread_nulls), cut, 1, &disk).unwrap();
        (0..40).for_each(|n| writer.write(&batch(n * 25)).unwrap());
        let parts = writer.finish().unwrap();
        assert_eq!(parts.len(), 8);
        let mut home = std::collections::HashMap::new();
        let (mut rows, mut with_nulls) = (0, 0);
        for (at, part) in parts.iter().enumerate() {
            let mut of_part = 0;
            let mut nulls = 0;
            for batch in part.read().unwrap() {
                let batch = batch.unwrap();
                let keys = batch
                    .column(0)
                    .as_primitive::<datafusion::arrow::datatypes::Int64Type>();
                let texts = cast(batch.column(1), &DataType::Utf8).unwrap();
                for (row, key) in keys.iter().enumerate() {
                    let text = ScalarValue::try_from_array(&texts, row).unwrap();
                    assert_eq!(text, ScalarValue::Utf8(key.map(|key| key.to_string())));
                    match key {
                        None => nulls += 1,
                        Some(key) => assert_eq!(*home.entry(key).or_insert(at), at),
                    }
                }
                of_part += batch.num_rows();
            }
            assert_eq!(of_part, part.rows());
            rows += of_part;
            with_nulls += usize::from(nulls > 0);
        }
        assert_eq!(rows, 2_000);
        assert_eq!(with_nulls > 1, spread_nulls);
    }
}
