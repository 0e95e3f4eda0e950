//! The operator against a sort, and the rule against DataFusion without it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringViewArray};
use datafusion::arrow::compute::{SortOptions, concat_batches};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::GroupLimitExec;
use crate::session::{Session, SessionOptions};

#[derive(Debug, Clone)]
struct Row {
    group: Option<f64>,
    kind: Option<&'static str>,
    score: Option<f64>,
    text: Option<String>,
    id: i32,
}

fn batch(rows: &[Row]) -> RecordBatch {
    let floats = |of: fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Float64Array>())
    };
    let texts = |of: fn(&Row) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringViewArray>())
    };
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.id).collect::<Int32Array>());
    RecordBatch::try_from_iter_with_nullable([
        ("group", floats(|row| row.group), true),
        ("kind", texts(|row| row.kind), true),
        ("score", floats(|row| row.score), true),
        ("text", texts(|row| row.text.as_deref()), true),
        ("id", ids, true),
    ])
    .unwrap()
}

/// What columns are ordered by, and how.
type Order = Vec<(&'static str, SortOptions)>;

fn compare<T>(
    a: Option<T>,
    b: Option<T>,
    options: SortOptions,
    by: impl Fn(&T, &T) -> Ordering,
) -> Ordering {
    let nulls = match options.nulls_first {
        true => a.is_some().cmp(&b.is_some()),
        false => a.is_none().cmp(&b.is_none()),
    };
    nulls.then_with(|| match a.zip(b) {
        Some((a, b)) if options.descending => by(&b, &a),
        Some((a, b)) => by(&a, &b),
        None => Ordering::Equal,
    })
}

fn before(a: &Row, b: &Row, order: &Order) -> Ordering {
    order
        .iter()
        .fold(Ordering::Equal, |found, (column, options)| {
            found.then_with(|| match *column {
                "score" => compare(a.score, b.score, *options, f64::total_cmp),
                "text" => compare(a.text.as_ref(), b.text.as_ref(), *options, Ord::cmp),
                _ => compare(Some(a.id), Some(b.id), *options, i32::cmp),
            })
        })
}

fn sort_keys(rows: &[&Row], order: &Order) -> Vec<String> {
    let keys = rows.iter().map(|row| {
        let keys = order.iter().map(|(column, _)| match *column {
            "score" => format!("{:?}", row.score.map(f64::to_bits)),
            "text" => format!("{:?}", row.text),
            _ => row.id.to_string(),
        });
        keys.collect::<Vec<_>>().join(" ")
    });
    keys.collect()
}

/// The sort keys of the first rows of each group: of ties any row may be kept.
fn firsts(rows: &[&Row], order: &Order, limit: usize) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let group = format!("{:?} {:?}", row.group.map(f64::to_bits), row.kind);
        groups.entry(group).or_default().push(row);
    }
    let firsts = groups.into_iter().map(|(group, mut rows)| {
        rows.sort_by(|a, b| before(a, b, order));
        rows.truncate(limit);
        (group, sort_keys(&rows, order))
    });
    firsts.collect()
}

/// The rows that a partition sends on, by their ids.
fn kept(
    batches: Vec<RecordBatch>,
    order: &Order,
    limit: usize,
    memory: Option<usize>,
) -> Vec<usize> {
    let schema = batch(&[]).schema();
    let input = MemorySourceConfig::try_new_exec(&[batches], Arc::clone(&schema), None).unwrap();
    let groups = ["group", "kind"].map(|name| col(name, &schema).unwrap());
    let order = order.iter().map(|(name, options)| {
        let column = col(name, &schema).unwrap();
        PhysicalSortExpr::new(column, *options)
    });
    let exec = GroupLimitExec::try_new(input, groups.to_vec(), order.collect(), limit);
    let session = Session::new(&SessionOptions {
        memory_bytes: memory,
        ..SessionOptions::default()
    });
    let context = session.unwrap().context().task_ctx();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let plan: Arc<dyn ExecutionPlan> = Arc::new(exec.unwrap());
    let found = runtime.unwrap().block_on(collect(plan, context)).unwrap();
    let ids = found.iter().flat_map(|batch| {
        let ids = batch.column(4).as_any().downcast_ref::<Int32Array>();
        ids.unwrap().values().to_vec()
    });
    ids.map(|id| id as usize).collect()
}

fn float() -> impl Strategy<Value = Option<f64>> {
    let special = prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY]);
    let some = prop_oneof![3 => (-3i32..3).prop_map(f64::from), 1 => special];
    prop::option::weighted(0.9, some)
}

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let kind = prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "b"]));
    let text = prop::option::weighted(0.9, "[ab\u{0}]{0,3}|long enough for a buffer [ab]");
    let row = (float(), kind, float(), text);
    prop::collection::vec(row, 0..most).prop_map(|drawn| {
        let rows = drawn.into_iter().enumerate();
        let rows = rows.map(|(id, (group, kind, score, text))| Row {
            group,
            kind,
            score,
            text,
            id: id as i32,
        });
        rows.collect()
    })
}

fn order() -> impl Strategy<Value = Order> {
    let options = (any::<bool>(), any::<bool>()).prop_map(|(d, n)| SortOptions::new(d, n));
    let columns = prop::sample::subsequence(vec!["score", "text", "id"], 1..=3).prop_shuffle();
    (columns, prop::collection::vec(options, 3))
        .prop_map(|(columns, options)| columns.into_iter().zip(options).collect())
}

fn config(seed: u64) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn keeps_the_first_rows_of_a_sort(
        rows in rows(300),
        order in order(),
        limit in prop::sample::select(vec![1usize, 2, 5, 1_000]),
        batch_rows in prop::sample::select(vec![1usize, 7, 1_000]),
        memory in prop::option::of(200..40_000usize),
    ) {
        let batches = rows.chunks(batch_rows).map(batch).collect();
        let kept = kept(batches, &order, limit, memory);
        let found: Vec<&Row> = kept.iter().map(|id| &rows[*id]).collect();
        let all: Vec<&Row> = rows.iter().collect();
        let expected = firsts(&all, &order, limit);
        prop_assert_eq!(&firsts(&found, &order, limit), &expected);
        let mut once = kept.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), kept.len());
        if memory.is_none() {
            let least: usize = expected.values().map(Vec::len).sum();
            prop_assert_eq!(kept.len(), least);
        }
    }
}

fn numbered(rows: usize, of: impl Fn(usize) -> Row) -> Vec<RecordBatch> {
    let rows: Vec<Row> = (0..rows).map(of).collect();
    rows.chunks(8_192).map(batch).collect()
}

/// Ever better rows: all are wanted when they come, and nearly all are let go again.
#[test]
fn rows_that_fell_out_are_let_go() {
    let batches = numbered(300_000, |id| Row {
        group: Some((id % 7) as f64),
        kind: Some("a"),
        score: Some(id as f64),
        text: Some(format!("a text of more than twelve bytes {id}")),
        id: id as i32,
    });
    let best = SortOptions::new(true, false);
    let mut kept = kept(batches, &vec![("score", best)], 2, Some(8 << 20));
    kept.sort_unstable();
    assert_eq!(kept, (299_986..300_000).collect::<Vec<_>>());
}

#[test]
fn rows_pass_where_nearly_all_are_kept() {
    let batches = numbered(200_000, |id| Row {
        group: Some((id / 2) as f64),
        kind: None,
        score: Some(1.0),
        text: None,
        id: id as i32,
    });
    let mut kept = kept(batches, &vec![("id", SortOptions::default())], 2, None);
    kept.sort_unstable();
    assert_eq!(kept, (0..200_000).collect::<Vec<_>>());
}

/// The same tables in a session with the rule, and in one of DataFusion's own.
fn sessions(rows: &[Row]) -> [SessionContext; 2] {
    let ours = Session::new(&SessionOptions {
        threads: Some(3),
        ..SessionOptions::default()
    });
    let mut config = SessionConfig::new().with_target_partitions(3);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let contexts = [
        ours.unwrap().context().clone(),
        SessionContext::new_with_config(config),
    ];
    let parts: Vec<Vec<RecordBatch>> = rows.chunks(29).map(|rows| vec![batch(rows)]).collect();
    for context in &contexts {
        let parts = match parts.is_empty() {
            true => vec![vec![batch(&[])]],
            false => parts.clone(),
        };
        let table = MemTable::try_new(batch(&[]).schema(), parts).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
    }
    contexts
}

fn few_rows() -> Vec<Row> {
    let row = |id: i32| Row {
        group: Some(f64::from(id % 3)),
        kind: Some(["a", "b"][id as usize % 2]),
        score: Some(f64::from(id * 7 % 11)),
        text: None,
        id,
    };
    (0..100).map(row).collect()
}

async fn plans(context: &SessionContext, sql: &str) -> (String, String) {
    let frame = context.sql(sql).await.unwrap();
    let logical = frame.clone().into_optimized_plan().unwrap().to_string();
    let physical = frame.create_physical_plan().await.unwrap();
    let physical = displayable(physical.as_ref()).indent(false).to_string();
    (logical, physical)
}

async fn answer(context: &SessionContext, sql: &str) -> Vec<String> {
    let frame = context.sql(sql).await.unwrap();
    let schema = Arc::clone(frame.schema().inner());
    let all = concat_batches(&schema, &frame.collect().await.unwrap()).unwrap();
    let options = FormatOptions::default().with_null("∅");
    let columns = all.columns().iter();
    let columns: Vec<_> = columns
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

/// Queries that are cut, and how many rows of a group are kept. All orders are total.
const CUT: [(&str, usize); 13] = [
    ("SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY group ORDER BY score DESC, id) AS rn FROM t) WHERE rn <= 3", 3),
    ("SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY group ORDER BY score DESC NULLS LAST, id) AS rn FROM t) WHERE rn < 3", 2),
    ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t) WHERE 1 = rn", 1),
    ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t) WHERE 4 > rn AND id % 2 = 0", 3),
    ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t) WHERE rn BETWEEN 2 AND 5", 5),
    ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t) WHERE rn IN (2, 7)", 7),
    ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t) WHERE rn = 2 OR rn < 4 AND id > 5", 3),
    ("SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY kind ORDER BY score, id) <= 2", 2),
    ("WITH a AS (SELECT kind, score + 1 AS s, id FROM t), b AS (SELECT kind AS k, id AS i, row_number() OVER (PARTITION BY kind ORDER BY s, id) AS rn FROM a)
      SELECT k, i, n FROM (SELECT k, i, rn AS n FROM b) AS c WHERE n <= 4", 4),
    ("SELECT kind, n FROM (SELECT kind, count(*) AS n, row_number() OVER (PARTITION BY kind ORDER BY count(*) DESC, group) AS rn FROM t GROUP BY kind, group) WHERE rn <= 2", 2),
    ("SELECT * FROM (SELECT id, kind, row_number() OVER (PARTITION BY kind, id % 2 ORDER BY -score, id) AS rn FROM t) WHERE rn <= 2 AND kind = 'a'", 2),
    ("SELECT * FROM (SELECT id, sum(score) OVER (PARTITION BY group) AS s, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn <= 2", 2),
    ("SELECT a.id, b.id AS other FROM (SELECT kind, id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) AS a
      JOIN t AS b ON a.id = b.id + 1 WHERE a.rn <= 3", 3),
];

/// Queries that aren't.
const UNCUT: [&str; 10] = [
    "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY id) AS rn FROM t) WHERE rn <= 3",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn >= 3",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn <= 3 OR id = 50",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn < 1",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn <= 100001",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn <> 2",
    "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t) WHERE rn NOT IN (2, 3)",
    "SELECT * FROM (SELECT id, rank() OVER (PARTITION BY kind ORDER BY score) AS rn FROM t) WHERE rn <= 3",
    "SELECT * FROM (SELECT id, row_number() OVER w AS rn, lead(id) OVER w AS next FROM t WINDOW w AS (PARTITION BY kind ORDER BY id)) WHERE rn <= 3",
    "SELECT * FROM (SELECT id, rn, sum(id) OVER (PARTITION BY kind) AS s FROM (SELECT id, kind, row_number() OVER (PARTITION BY kind ORDER BY id) AS rn FROM t)) WHERE rn <= 3",
];

#[tokio::test]
async fn queries_for_the_first_rows_of_groups_are_cut_once() {
    let [ours, plain] = sessions(&few_rows());
    for (sql, limit) in CUT {
        let (logical, physical) = plans(&ours, sql).await;
        let cuts = |plan: &str, name: &str| plan.matches(name).count();
        assert_eq!(cuts(&logical, "GroupLimit: "), 1, "{sql}\n{logical}");
        let named = format!("GroupLimit: {limit} per");
        assert!(logical.contains(&named), "{sql}\n{logical}");
        assert_eq!(cuts(&physical, "GroupLimitExec: "), 1, "{sql}\n{physical}");
        let (found, expected) = (answer(&ours, sql).await, answer(&plain, sql).await);
        assert!(!found.is_empty(), "{sql}");
        assert_eq!(found, expected, "{sql}");
    }
}

#[tokio::test]
async fn other_queries_are_left_alone() {
    let [ours, plain] = sessions(&few_rows());
    for sql in UNCUT {
        let (logical, _) = plans(&ours, sql).await;
        assert!(!logical.contains("GroupLimit"), "{sql}\n{logical}");
        assert_eq!(answer(&ours, sql).await, answer(&plain, sql).await, "{sql}");
    }
}

/// Rows are cut before they are exchanged, and only the columns that are asked for are read.
#[tokio::test]
async fn the_cut_lies_below_the_exchange() {
    let [ours, _] = sessions(&few_rows());
    let (logical, physical) = plans(
        &ours,
        "SELECT id FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY id DESC) AS rn FROM t)
         WHERE rn <= 3 AND kind <> 'c'",
    )
    .await;
    let lines: Vec<&str> = logical.lines().map(str::trim).collect();
    let below = lines.iter().position(|line| line.starts_with("GroupLimit"));
    assert_eq!(
        lines[below.unwrap()..],
        [
            "GroupLimit: 3 per [t.kind] by [t.id DESC NULLS FIRST]",
            "Filter: t.kind != Utf8View(\"c\")",
            "TableScan: t projection=[kind, id]",
        ]
    );
    let at = |name: &str| {
        physical
            .find(name)
            .unwrap_or_else(|| panic!("{name}: {physical}"))
    };
    assert!(at("BoundedWindowAggExec") < at("SortExec"));
    assert!(at("SortExec") < at("RepartitionExec: partitioning=Hash"));
    assert!(at("RepartitionExec: partitioning=Hash") < at("GroupLimitExec"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..config(7) })]

    #[test]
    fn results_are_those_without_the_rule(rows in rows(120), query in prop::sample::select(CUT.to_vec())) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let [ours, plain] = sessions(&rows);
        let (found, expected) =
            runtime.block_on(async { (answer(&ours, query.0).await, answer(&plain, query.0).await) });
        prop_assert_eq!(found, expected, "{}", query.0);
    }
}
