//! Each operator by itself: lookups, joins in their place, filters, counts, distinct counts,
//! percentiles, groups that go to disk, the top of groups and the first rows of windows over skewed
//! rows in memory; then files, of which only two columns are decoded, beside their ranking, and how
//! many of them are shared out among tasks.
//!
//! Without `--bench`, as under `cargo test`, each runs once over few rows.

mod files;
mod rows;

use std::hint::black_box;
use std::sync::Arc;

use anyhow::ensure;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::DataFrame;
use rankmill_engine::fused::{FusedNode, KeySpec, LookupSpec, MeasureSpec};
use rankmill_engine::rank::{RankNode, Ranking};
use rankmill_engine::salted::SaltedJoinNode;
use rankmill_engine::{Session, SessionOptions};
use tokio::runtime::Runtime;

/// The rule that puts filters into the aggregation above them.
const FUSED_FILTERS: &str = "rankmill_fused_filters";

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rows = if measured { 4_000_000 } else { 20_000 };
    let bench = Bench::new()?;
    let sizes = rows::register(&bench.session, rows)?;
    bench.lookups(&mut criterion, &sizes)?;
    bench.joins(&mut criterion, &sizes)?;
    bench.filters(&mut criterion, &sizes)?;
    bench.counts(&mut criterion, &sizes)?;
    bench.distinct(&mut criterion, &sizes)?;
    bench.percentiles(&mut criterion, &sizes)?;
    bench.top(&mut criterion, &sizes)?;
    bench.first_rows(&mut criterion, &sizes)?;
    bench.spilled(&mut criterion, &sizes)?;
    bench.files(&mut criterion, rows as u64 * 2)?;
    bench.packing(&mut criterion, if measured { 4_000 } else { 40 })?;
    criterion.final_summary();
    Ok(())
}

/// A session with the tables of [`rows`].
struct Bench {
    runtime: Runtime,
    session: Session,
}

/// A dimension and an attribute of it.
struct Lookup {
    fact_key: &'static str,
    dimension: DataFrame,
    rows: usize,
    attribute: &'static str,
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

impl Bench {
    fn new() -> anyhow::Result<Self> {
        Self::with_memory(std::thread::available_parallelism()?.get(), None)
    }

    fn with_memory(threads: usize, bytes: Option<usize>) -> anyhow::Result<Self> {
        let options = SessionOptions {
            threads: Some(threads),
            memory_bytes: bytes,
            ..SessionOptions::default()
        };
        Ok(Self {
            runtime: Runtime::new()?,
            session: Session::new(&options)?,
        })
    }

    /// Keys that index an array, and such that go through a hash table.
    fn lookups(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "lookup", sizes.rows);
        for (name, fact_key) in [("array", "user"), ("integers", "sparse"), ("texts", "name")] {
            let dimension = self.table("users")?;
            let lookup = Lookup {
                fact_key,
                dimension: dimension.select_columns(&[fact_key, "region"])?,
                rows: sizes.users,
                attribute: "region",
            };
            let log = self.table("log")?;
            let plan = self.aggregation(log, &[], Some(lookup), &["count(*)"])?;
            self.measure(&mut group, name, &plan)?;
        }
        group.finish();
        Ok(())
    }

    /// The dimension of [`Self::lookups`] joined, as one that is too large for a table: its most
    /// frequent key known and not, and with a part of the memory that its rows take.
    fn joins(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "join", sizes.rows);
        let hottest = ScalarValue::Int64(Some(0));
        let threads = std::thread::available_parallelism()?.get();
        let short = Self::with_memory(threads, Some((16 * sizes.rows).max(8 << 20)))?;
        rows::register(&short.session, sizes.rows)?;
        for (name, hot, bench) in [
            ("hot key known", vec![hottest], self),
            ("not known", Vec::new(), self),
            ("on disk", Vec::new(), &short),
        ] {
            let log = bench.table("log")?.select_columns(&["sparse", "item"])?;
            let users = bench.table("users")?;
            let users = users.select(vec![column("sparse").alias("key"), column("region")])?;
            let (log, users) = (log.into_unoptimized_plan(), users.into_unoptimized_plan());
            let keys = (column("sparse"), Column::from_name("key"));
            let join = SaltedJoinNode::try_new(log, users, keys, hot, 0)?;
            let joined = DataFrame::new(bench.session.context().state(), join.into_plan());
            let plan = bench.aggregation(joined, &["region"], None, &["count(*)"])?;
            bench.measure(&mut group, name, &plan)?;
        }
        group.finish();
        Ok(())
    }

    /// Conditions that few, most and all rows satisfy: checked by the operator, and by a filter below.
    fn filters(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "filter", sizes.rows);
        let fused = self.session.context().state();
        let others = fused.physical_optimizers().iter();
        let others = others.filter(|rule| rule.name() != FUSED_FILTERS).cloned();
        let below = SessionStateBuilder::new_from_existing(fused.clone())
            .with_physical_optimizer_rules(others.collect())
            .build();
        for (pass, condition) in [
            ("a tenth", "user % 10 = 0"),
            ("nine of ten", "user % 10 <> 0"),
            ("all", "user % 10 >= 0"),
        ] {
            let log = self.table("log")?;
            let condition = self
                .session
                .context()
                .parse_sql_expr(condition, log.schema())?;
            let log = log.filter(condition)?;
            let plan = self.aggregation(log, &["item"], None, &["count(distinct user)"])?;
            for (place, state) in [("fused", &fused), ("below", &below)] {
                let name = format!("{pass}, {place}");
                self.measure_in(state, &mut group, &name, &plan)?;
            }
        }
        group.finish();
        Ok(())
    }

    fn counts(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "counts", sizes.rows);
        for (name, key) in [("array", "item"), ("hashed", "item * 8589934593")] {
            let log = self.table("log")?;
            let plan = self.aggregation(log, &["date", key], None, &["count(*)"])?;
            self.measure(&mut group, name, &plan)?;
        }
        group.finish();
        Ok(())
    }

    /// Sets of few values, bitmaps of many, one group with half of the rows, and texts.
    fn distinct(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "distinct", sizes.rows);
        for (name, key, value) in [
            ("sets", "item", "sparse"),
            ("bitmaps", "date", "user"),
            ("hot group", "hot", "sparse"),
            ("texts", "item", "name"),
        ] {
            let log = self.table("log")?;
            let measure = format!("count(distinct {value})");
            let plan = self.aggregation(log, &[key], None, &[&measure])?;
            self.measure(&mut group, name, &plan)?;
        }
        group.finish();
        Ok(())
    }

    fn percentiles(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "percentile", sizes.rows);
        let log = self.table("log")?;
        let measure = "approx_percentile_cont(latency, 0.95)";
        let plan = self.aggregation(log, &["item"], None, &[measure])?;
        self.measure(&mut group, "histogram", &plan)?;
        group.finish();
        Ok(())
    }

    /// The rows are complete by item: each is one.
    fn top(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "top", sizes.rows);
        for top in [10, 1_000] {
            let items = self.table("items")?.into_unoptimized_plan();
            let plan = ranked(items, "item", "clicks", top)?;
            self.measure(&mut group, &top.to_string(), &plan)?;
        }
        group.finish();
        Ok(())
    }

    /// A filter above a window, as SQL has the first rows of a group.
    fn first_rows(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "first rows", sizes.rows);
        for first in [10, 1_000] {
            let sql = format!(
                "SELECT date, item, clicks FROM (SELECT *, row_number() OVER
                 (PARTITION BY date ORDER BY clicks DESC, item) AS place FROM items) AS placed
                 WHERE place <= {first}"
            );
            let frame = self.session.context().sql(&sql);
            let plan = self.runtime.block_on(frame)?.into_unoptimized_plan();
            self.measure(&mut group, &first.to_string(), &plan)?;
        }
        group.finish();
        Ok(())
    }

    /// Users by name with their items: with all the memory, and with a part of what they take.
    fn spilled(&self, criterion: &mut Criterion, sizes: &rows::Sizes) -> anyhow::Result<()> {
        let mut group = group(criterion, "groups", sizes.rows);
        // Few rows fit whatever there is.
        let short = (8 * sizes.rows).max(4 << 20);
        for (name, memory) in [("in memory", None), ("on disk", Some(short))] {
            // Of one thread: with a limit of memory the planner would take a single task.
            let bench = Self::with_memory(1, memory)?;
            rows::register(&bench.session, sizes.rows)?;
            let log = bench.table("log")?;
            let plan = bench.aggregation(log, &["name"], None, &["count(distinct item)"])?;
            bench.measure(&mut group, name, &plan)?;
        }
        group.finish();
        Ok(())
    }

    fn table(&self, name: &str) -> anyhow::Result<DataFrame> {
        Ok(self.runtime.block_on(self.session.context().table(name))?)
    }

    /// Measures `m0`, `m1` … by the keys `k0`, `k1` …, the last of which is the attribute.
    fn aggregation(
        &self,
        log: DataFrame,
        keys: &[&str],
        lookup: Option<Lookup>,
        measures: &[&str],
    ) -> anyhow::Result<LogicalPlan> {
        let context = self.session.context();
        let expr = |sql: &str| context.parse_sql_expr(sql, log.schema());
        let keys = keys.iter().map(|key| Ok(KeySpec::Log(expr(key)?)));
        let mut keys: Vec<KeySpec> = keys.collect::<anyhow::Result<_>>()?;
        let mut lookups = Vec::new();
        if let Some(lookup) = lookup {
            keys.push(KeySpec::Attribute {
                lookup: 0,
                attribute: 0,
            });
            let dimension = lookup.dimension.into_unoptimized_plan();
            let schema = dimension.schema().as_ref().clone().join(log.schema())?;
            let attribute = context.parse_sql_expr(lookup.attribute, &schema)?;
            let needs_date = attribute.column_refs().iter().any(|c| c.name == "date");
            let date = needs_date.then(|| expr("date")).transpose()?;
            let spec = LookupSpec {
                cache_key: format!("bench {}", dimension.display_indent()),
                fact_key: expr(lookup.fact_key)?,
                date,
                rows: lookup.rows,
                attributes: vec![attribute],
            };
            lookups.push((spec, dimension));
        }
        let keys = keys.into_iter().enumerate();
        let keys = keys.map(|(at, key)| (format!("k{at}"), key)).collect();
        let measures = measures.iter().enumerate().map(|(at, measure)| {
            let measure = expr(measure)?.unalias();
            Ok((format!("m{at}"), MeasureSpec::Aggregate(measure)))
        });
        let measures = measures.collect::<anyhow::Result<_>>()?;
        let node =
            FusedNode::try_new(log.clone().into_unoptimized_plan(), lookups, keys, measures)?;
        // What is above asks for all columns.
        let plan = node.into_plan();
        let names = plan.schema().fields().iter();
        let columns: Vec<Expr> = names.map(|field| column(field.name())).collect();
        Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
    }

    fn measure(&self, group: &mut Group, name: &str, plan: &LogicalPlan) -> anyhow::Result<()> {
        self.measure_in(&self.session.context().state(), group, name, plan)
    }

    /// Planning isn't measured. A plan's exchanges run once, so each run has a plan of its own.
    fn measure_in(
        &self,
        state: &SessionState,
        group: &mut Group,
        name: &str,
        plan: &LogicalPlan,
    ) -> anyhow::Result<()> {
        let context = self.session.context();
        let planned = || self.runtime.block_on(state.create_physical_plan(plan));
        let run = |plan: Arc<dyn ExecutionPlan>| {
            let rows = collect(plan, context.task_ctx());
            self.runtime.block_on(rows)
        };
        let first = run(planned()?)?;
        ensure!(
            first.iter().any(|batch| batch.num_rows() > 0),
            "{name}: nothing came out"
        );
        group.bench_function(name, |bencher| {
            let run = |plan: Result<_, _>| black_box(plan.and_then(run));
            bencher.iter_batched(planned, run, BatchSize::PerIteration);
        });
        Ok(())
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The items with the most of a measure, by date and whatever else `plan` begins with.
fn ranked(plan: LogicalPlan, item: &str, measure: &str, top: usize) -> anyhow::Result<LogicalPlan> {
    let fields = plan
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone());
    let groups = fields.take_while(|name| name != item).collect();
    let ranking = Ranking {
        groups,
        item: item.to_owned(),
        order: vec![(measure.to_owned(), true)],
        top,
        totals: Vec::new(),
    };
    Ok(RankNode::try_new(plan, ranking)?.into_plan())
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, rows: usize) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(rows as u64));
    group
}
