//! The operator against DataFusion's own aggregation, in all steps.

mod footer;
mod lies;
mod short;

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::session::{Distributed, Session, SessionOptions};

#[derive(Debug, Clone)]
struct Row {
    date: Option<i32>,
    user: Option<i64>,
    item: Option<i64>,
    page: Option<&'static str>,
    value: Option<i64>,
    weight: Option<f64>,
}

/// A type of timestamps that are no local times.
fn zoned() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+09:00".into()))
}

fn log_schema(item: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("date", DataType::Date32, true),
        Field::new("user", DataType::Int64, true),
        Field::new("item", item.clone(), true),
        Field::new("page", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
        Field::new("weight", DataType::Float64, true),
        Field::new("time", zoned(), true),
    ]))
}

fn batch(rows: &[Row], item: &DataType) -> RecordBatch {
    let items: ArrayRef = Arc::new(rows.iter().map(|r| r.item).collect::<Int64Array>());
    let items = match item.is_integer() {
        true => cast(&items, item).unwrap(),
        false => cast(&cast(&items, &DataType::Utf8).unwrap(), item).unwrap(),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.date).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|r| r.user).collect::<Int64Array>()),
        items,
        Arc::new(rows.iter().map(|r| r.page).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.value).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.weight).collect::<Float64Array>()),
        cast(
            &rows.iter().map(|r| r.value).collect::<Int64Array>(),
            &zoned(),
        )
        .unwrap(),
    ];
    RecordBatch::try_new(log_schema(item), columns).unwrap()
}

/// What is looked up, and how both sides say what is aggregated.
#[derive(Debug, Clone)]
struct Query {
    /// Columns of the log, and `band` and `home`, the attributes.
    keys: Vec<&'static str>,
    measures: Vec<&'static str>,
    /// Which rows of the log; empty means all.
    condition: &'static str,
    item: DataType,
    partitions: usize,
    batch_rows: usize,
    /// Users of the dimension with what their band follows from.
    users: Vec<(i64, Option<i64>)>,
}

const BAND: &str = "coalesce(cast(case when born + cast(date as int) > 3 then 'old' \
                    when born is not null then 'young' end as varchar), 'unknown')";

const ATTRIBUTES: [&str; 2] = ["band", "home"];

/// Of a column that is never null in the dimension, but is for a key that it doesn't have.
const HOME: &str = "coalesce(cast(town as varchar), 'unknown')";

/// What rows may have to satisfy: nothing, something that may be null, or that nothing satisfies.
const CONDITIONS: [&str; 5] = [
    "",
    "value > 0 and weight > 0",
    "page <> '/' or page is null",
    "user is not null",
    "value > 5",
];

const MEASURES: [&str; 15] = [
    "count(*)",
    "count(distinct user)",
    "count(distinct page)",
    "count(distinct value) filter (where weight > 0)",
    "sum(value)",
    "avg(weight)",
    "min(page)",
    "max(value)",
    "max(user)",
    "min(user) filter (where weight > 0)",
    "min(date)",
    "max(time)",
    "count(value)",
    "count(*) filter (where value > 0)",
    "count(weight) filter (where page <> '/')",
];

fn texts(batches: &[RecordBatch], schema: &SchemaRef) -> Vec<String> {
    let all = concat_batches(schema, batches).unwrap();
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<ArrayFormatter> = all
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    let mut rows: Vec<String> = (0..all.num_rows())
        .map(|row| {
            let values = columns.iter().map(|column| column.value(row).to_string());
            values.collect::<Vec<_>>().join(" | ")
        })
        .collect();
    rows.sort();
    rows
}

/// What was found, in several ways.
struct Found {
    /// By a node with lookups.
    node: Vec<String>,
    /// By the same node, planned for several processes.
    stages: Vec<String>,
    /// By both, with little memory.
    short: [Vec<String>; 2],
    /// How often those went to disk.
    spills: [usize; 2],
    /// Whether what was on disk had to be cut into smaller parts.
    cut_anew: [bool; 2],
    /// By rankmill's session, from SQL.
    sql: Vec<String>,
    /// By DataFusion as it comes.
    expected: Vec<String>,
    /// The node's plan.
    plan: Arc<dyn ExecutionPlan>,
}

/// `memory` is what there is where it is short.
async fn find(rows: &[Row], query: &Query, memory: usize) -> Found {
    let session = Session::new(&SessionOptions {
        threads: Some(query.partitions),
        ..SessionOptions::default()
    })
    .unwrap();
    let limited = Session::new(&SessionOptions {
        threads: Some(query.partitions),
        memory_bytes: Some(memory),
        ..SessionOptions::default()
    })
    .unwrap();
    let context = session.context();
    let mut partitions = vec![Vec::new(); query.partitions];
    for (i, rows) in rows.chunks(query.batch_rows).enumerate() {
        partitions[i % query.partitions].push(batch(rows, &query.item));
    }
    let log = MemTable::try_new(log_schema(&query.item), partitions).unwrap();
    let log = Arc::new(log);
    let plain = SessionContext::new_with_config(context.copied_config());
    plain.register_table("log", Arc::clone(&log) as _).unwrap();
    context.register_table("log", log).unwrap();
    let users = RecordBatch::try_from_iter_with_nullable(vec![
        (
            "key",
            Arc::new(
                query
                    .users
                    .iter()
                    .map(|u| Some(u.0))
                    .collect::<Int64Array>(),
            ) as ArrayRef,
            true,
        ),
        (
            "born",
            Arc::new(query.users.iter().map(|u| u.1).collect::<Int64Array>()),
            true,
        ),
        (
            "town",
            Arc::new(
                query
                    .users
                    .iter()
                    .map(|u| Some(if u.0 % 2 == 0 { "even" } else { "odd" }))
                    .collect::<StringArray>(),
            ),
            false,
        ),
    ])
    .unwrap();
    let users_schema = users.schema();
    let users = Arc::new(MemTable::try_new(users_schema, vec![vec![users]]).unwrap());
    plain
        .register_table("users", Arc::clone(&users) as _)
        .unwrap();
    context.register_table("users", users).unwrap();

    let measures: Vec<String> = query
        .measures
        .iter()
        .enumerate()
        .map(|(i, sql)| format!("{sql} as m{i}"))
        .collect();
    let looks_up = query.keys.iter().any(|key| ATTRIBUTES.contains(key));
    let unmatched = match looks_up {
        true => ", count(*) filter (where user is not null and key is null) as u",
        false => "",
    };
    let keys: Vec<String> = query
        .keys
        .iter()
        .map(|key| match *key {
            "band" => format!("{BAND} as band"),
            "home" => format!("{HOME} as home"),
            key => key.to_owned(),
        })
        .collect();
    let numbers: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
    let join = match looks_up {
        true => "left join users on user = key",
        false => "",
    };
    let condition = match query.condition {
        "" => String::new(),
        condition => format!("where {condition}"),
    };
    let sql = format!(
        "select {}, {}{unmatched} from log {join} {condition} group by {}",
        keys.join(", "),
        measures.join(", "),
        numbers.join(", ")
    );
    let expected = plain.sql(&sql).await.unwrap();
    let schema = Arc::clone(expected.schema().inner());
    let expected = texts(&expected.collect().await.unwrap(), &schema);
    let by_rule = context.sql(&sql).await.unwrap();
    let by_rule = texts(&by_rule.collect().await.unwrap(), &schema);

    let log = context.table("log").await.unwrap();
    let expr = |sql: &str| context.parse_sql_expr(sql, log.schema()).unwrap();
    let users = context.table("users").await.unwrap();
    let mut lookups = Vec::new();
    if looks_up {
        let users = users.into_unoptimized_plan();
        let schema = users.schema().as_ref().clone().join(log.schema()).unwrap();
        let attribute = |sql| context.parse_sql_expr(sql, &schema).unwrap();
        let spec = LookupSpec {
            // No two tests share a table.
            cache_key: format!("{:?}", query.users),
            fact_key: expr("user"),
            date: Some(expr("date")),
            rows: query.users.len(),
            attributes: vec![attribute(BAND), attribute(HOME)],
        };
        lookups.push((spec, users));
    }
    let keys = query.keys.iter().map(|key| {
        let attribute = ATTRIBUTES.iter().position(|attribute| attribute == key);
        let spec = match attribute {
            Some(attribute) => KeySpec::Attribute {
                lookup: 0,
                attribute,
            },
            None => KeySpec::Log(expr(key)),
        };
        ((*key).to_owned(), spec)
    });
    let measures = query.measures.iter().enumerate();
    let mut measures: Vec<(String, MeasureSpec)> = measures
        .map(|(i, sql)| (format!("m{i}"), MeasureSpec::Aggregate(expr(sql).unalias())))
        .collect();
    if looks_up {
        measures.push(("u".to_owned(), MeasureSpec::Unmatched(0)));
    }
    let keys = keys.collect();
    let condition = Some(query.condition).filter(|condition| !condition.is_empty());
    let condition = condition.map(expr);
    let log = match condition {
        Some(condition) => log.filter(condition).unwrap(),
        None => log,
    };
    let plan = log.into_unoptimized_plan();
    let node = FusedNode::try_new(plan, lookups, keys, measures).unwrap();
    // Something above it that asks for all columns.
    let columns: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|field| Expr::Column(datafusion::common::Column::new_unqualified(field.name())))
        .collect();
    let plan = LogicalPlanBuilder::from(node.into_plan())
        .project(columns)
        .unwrap()
        .build()
        .unwrap();
    let physical = context.state().create_physical_plan(&plan).await.unwrap();
    let node = collect(Arc::clone(&physical), context.task_ctx()).await;
    let limited = limited.context();
    let short_plan = limited.state().create_physical_plan(&plan).await.unwrap();
    let short = collect(Arc::clone(&short_plan), limited.task_ctx()).await;
    let distributed = Distributed::mark(context.copied_config());
    let distributed = session.state_with(distributed).unwrap();
    let staged = distributed.create_physical_plan(&plan).await.unwrap();
    let stages = collect(staged, context.task_ctx()).await;
    // A plan's exchanges run once.
    let short_staged = distributed.create_physical_plan(&plan).await.unwrap();
    let short_stages = collect(Arc::clone(&short_staged), limited.task_ctx()).await;
    let rows = |found: Result<Vec<RecordBatch>, _>| texts(&found.unwrap(), &physical.schema());
    Found {
        node: rows(node),
        stages: rows(stages),
        short: [rows(short), rows(short_stages)],
        spills: [spills(&short_plan), spills(&short_staged)],
        cut_anew: [was_cut_anew(&short_plan), was_cut_anew(&short_staged)],
        sql: by_rule,
        expected,
        plan: physical,
    }
}

/// How often the operators of a plan went to disk.
fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.spill_count());
    let children = plan.children();
    own.unwrap_or(0) + children.into_iter().map(spills).sum::<usize>()
}

fn was_cut_anew(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let metrics = plan.metrics().unwrap_or_default();
    let own = metrics
        .iter()
        .any(|metric| metric.value().name().contains(task::CUT_ANEW));
    own || plan.children().into_iter().any(was_cut_anew)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let id = || {
        prop_oneof![
            6 => -3i64..20,
            1 => prop::sample::select(vec![i64::MIN, i64::MAX, 1 << 33, -(1 << 33), 300]),
        ]
    };
    let page = prop::sample::select(vec![
        "",
        "/",
        "/a",
        "/a long path of more than twelve bytes",
        "192.0.2.1",
        "192.0.2.01",
        "203.0.113.255",
    ]);
    let row = (
        prop::option::weighted(0.95, 0..4i32),
        prop::option::weighted(0.8, id()),
        prop::option::weighted(0.9, id()),
        prop::option::weighted(0.9, page),
        prop::option::weighted(0.8, -3i64..3),
        prop::option::weighted(0.8, (-2i32..3).prop_map(f64::from)),
    );
    let row = row.prop_map(|(date, user, item, page, value, weight)| Row {
        date,
        user,
        item,
        page,
        value,
        weight,
    });
    prop::collection::vec(row, 0..200)
}

fn query() -> impl Strategy<Value = Query> {
    let keys =
        prop::sample::subsequence(vec!["date", "band", "home", "page", "item", "time"], 1..=4);
    let types = vec![
        DataType::Int64,
        DataType::Utf8View,
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
    ];
    let users = prop::collection::btree_map(
        prop_oneof![-3i64..20, Just(1 << 33), Just(i64::MIN)],
        prop::option::weighted(0.7, 0i64..5),
        0..15,
    );
    (
        keys,
        prop::sample::subsequence(MEASURES.to_vec(), 1..=5),
        prop::sample::select(CONDITIONS.to_vec()),
        prop::sample::select(types),
        1..4usize,
        prop::sample::select(vec![1usize, 7, 64, 1_000]),
        users,
    )
        .prop_map(
            |(keys, measures, condition, item, partitions, batch_rows, users)| Query {
                keys,
                measures,
                condition,
                item,
                partitions,
                batch_rows,
                users: users.into_iter().collect(),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        rng_seed: RngSeed::Fixed(12),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn equals_an_aggregation_over_joins(rows in rows(), query in query()) {
        let found = runtime().block_on(find(&rows, &query, 1 << 20));
        let plan = displayable(found.plan.as_ref()).indent(false).to_string();
        prop_assert_eq!(&found.node, &found.expected, "{}", plan);
        // The condition is checked by the operator itself.
        prop_assert!(!plan.contains("FilterExec"), "{}", plan);
        prop_assert_eq!(plan.contains("filter="), !query.condition.is_empty(), "{}", plan);
        prop_assert_eq!(&found.stages, &found.expected);
        prop_assert_eq!(&found.short[0], &found.expected);
        prop_assert_eq!(&found.short[1], &found.expected);
        prop_assert_eq!(&found.sql, &found.expected);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).build().unwrap()
}

/// Numbers that look random, and are the same each time.
fn random() -> impl FnMut(i64) -> i64 {
    let mut random = 1u64;
    move |end| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) as i64 % end
    }
}

#[test]
fn groups_go_to_disk_where_memory_is_short() {
    let mut below = random();
    let pages = ["", "/", "/a", "/a long path of more than twelve bytes"];
    let rows: Vec<Row> = (0..150_000)
        .map(|_| Row {
            date: Some(below(3) as i32),
            user: Some(below(60_000)).filter(|user| user % 7 != 0),
            // Half of all rows have one item: its values alone don't fit.
            item: Some(below(2_000)).map(|item| (item - 1_000).max(0)),
            page: Some(pages[below(4) as usize]),
            value: Some(below(100)),
            weight: Some(below(3) as f64),
        })
        .collect();
    let users: Vec<_> = (0..40_000).map(|user| (user, Some(user % 5))).collect();
    let measures = vec![
        "count(distinct user)",
        "count(*)",
        "max(value)",
        "count(distinct page)",
        "count(distinct value) filter (where weight > 0)",
    ];
    let integer = DataType::Int64;
    for (keys, measures, item, partitions) in [
        (
            vec!["date", "band", "item"],
            measures.clone(),
            integer.clone(),
            1,
        ),
        (vec!["item"], measures.clone(), DataType::Utf8View, 1),
        (
            vec!["date", "item", "home"],
            measures.clone(),
            integer.clone(),
            3,
        ),
        // Groups without values.
        (
            vec!["item", "page", "date", "band"],
            vec!["sum(value)", "min(page)"],
            integer,
            2,
        ),
    ] {
        let query = Query {
            keys,
            measures,
            condition: "",
            item,
            partitions,
            batch_rows: 1_000,
            users: users.clone(),
        };
        let found = runtime().block_on(find(&rows, &query, 3 << 20));
        assert_eq!(found.node, found.expected, "{query:?}");
        assert_eq!(found.short[0], found.expected, "{query:?}");
        assert_eq!(found.short[1], found.expected, "{query:?}");
        assert!(
            found.spills.iter().all(|spills| *spills > 0),
            "{:?} {query:?}",
            found.spills
        );
    }
}

/// A thirty-second part of the groups doesn't fit either, nor one of a group's values.
#[test]
fn parts_on_disk_that_do_not_fit_are_cut_anew() {
    let mut below = random();
    let rows: Vec<Row> = (0..60_000)
        .map(|_| Row {
            date: Some(below(2) as i32),
            user: Some(below(1 << 40)),
            // Half of all rows have one item.
            item: Some(below(200_000)).map(|item| (item - 100_000).max(0)),
            page: Some("/"),
            value: Some(below(100)),
            weight: None,
        })
        .collect();
    for (keys, measures, partitions) in [
        (
            vec!["item", "date"],
            vec!["count(distinct user)", "max(value)"],
            1,
        ),
        (vec!["item", "date"], vec!["sum(value)", "min(page)"], 2),
        // Groups of which a part always fits: only their values are cut anew.
        (vec!["page", "date"], vec!["count(distinct user)"], 1),
    ] {
        let query = Query {
            keys,
            measures,
            condition: "",
            item: DataType::Utf8View,
            partitions,
            batch_rows: 1_000,
            users: Vec::new(),
        };
        let found = runtime().block_on(find(&rows, &query, 64 << 10));
        assert_eq!(found.node, found.expected, "{query:?}");
        assert_eq!(found.short[0], found.expected, "{query:?}");
        assert_eq!(found.short[1], found.expected, "{query:?}");
        assert!(found.cut_anew.contains(&true), "{query:?}");
    }
}

/// Executors have memory of their own: what there is where a plan is made is no reason for a single task.
#[test]
fn a_cluster_is_planned_without_the_planners_memory() {
    let limited = Session::new(&SessionOptions {
        threads: Some(2),
        memory_bytes: Some(1 << 20),
        ..SessionOptions::default()
    })
    .unwrap();
    let row = Row {
        date: None,
        user: Some(1),
        item: Some(1),
        page: None,
        value: None,
        weight: None,
    };
    let rows = batch(&vec![row; 40_000], &DataType::Int64);
    let log = MemTable::try_new(rows.schema(), vec![vec![rows.clone()], vec![rows]]).unwrap();
    let context = limited.context();
    context.register_table("log", Arc::new(log)).unwrap();
    let plan = async |state: SessionState| {
        let sql = "select item, count(distinct user) from log group by item";
        let plan = context.sql(sql).await.unwrap().into_unoptimized_plan();
        let plan = state.create_physical_plan(&plan).await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    };
    let distributed = Distributed::mark(context.copied_config());
    let distributed = limited.state_with(distributed).unwrap();
    let (here, there) =
        runtime().block_on(async { (plan(context.state()).await, plan(distributed).await) });
    assert!(here.contains("FusedExec: single,"), "{here}");
    assert!(!here.contains("partial"), "{here}");
    assert!(
        there.contains("FusedExec: partial in 2 buckets,"),
        "{there}"
    );
}
