//! The ranking as an operator.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::top_per_group::TopPerGroup;
use super::{RANK_COLUMN, Ranking};
use crate::operator::{only_input, rows_bytes};
use crate::skew::INPUT_BYTES;

/// Which of the two steps an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankMode {
    /// The best of a partition, with the totals of its rows.
    Local,
    /// The best of all, from the outputs of `Local`; needs them in one partition.
    Final,
}

/// Top-N per group. Holds N rows for each group, nothing else.
#[derive(Debug)]
pub struct RankExec {
    input: Arc<dyn ExecutionPlan>,
    ranking: Arc<Ranking>,
    mode: RankMode,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RankExec {
    /// Fails if the input lacks a column of the ranking.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        ranking: Arc<Ranking>,
        mode: RankMode,
    ) -> Result<Self> {
        let schema = match mode {
            RankMode::Local => with_rank(&input.schema()),
            RankMode::Final => input.schema(),
        };
        ranking.resolve(&schema)?;
        let partitions = match mode {
            RankMode::Local => input.output_partitioning().partition_count(),
            RankMode::Final => 1,
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            ranking,
            mode,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// What is ranked.
    pub fn ranking(&self) -> &Arc<Ranking> {
        &self.ranking
    }

    /// Which step this is.
    pub fn mode(&self) -> RankMode {
        self.mode
    }
}

fn with_rank(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Field> = input
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    fields.push(Field::new(RANK_COLUMN, DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

impl DisplayAs for RankExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RankExec: mode={:?}, {}", self.mode, self.ranking)
    }
}

impl ExecutionPlan for RankExec {
    fn name(&self) -> &str {
        "RankExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.mode {
            RankMode::Local => Distribution::UnspecifiedDistribution,
            RankMode::Final => Distribution::SinglePartition,
        }])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_input(self.name(), children)?;
        let exec = Self::try_new(input, Arc::clone(&self.ranking), self.mode)?;
        Ok(Arc::new(exec))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let reservation =
            MemoryConsumer::new(format!("RankExec[{partition}]")).register(context.memory_pool());
        let batch_rows = context.session_config().batch_size();
        let bytes = MetricBuilder::new(&self.metrics).counter(INPUT_BYTES, partition);
        let is_final = self.mode == RankMode::Final;
        let mut top = TopPerGroup::try_new(
            &self.ranking,
            self.mode,
            Arc::clone(&self.schema),
            reservation,
        )?;
        let ranked = async move {
            let mut input = input;
            while let Some(batch) = input.next().await {
                let _timer = metrics.elapsed_compute().timer();
                let batch = batch?;
                if is_final {
                    bytes.add(rows_bytes(&batch));
                }
                top.push(batch)?;
            }
            // The input's buffers are not needed while the result is built.
            drop(input);
            let _timer = metrics.elapsed_compute().timer();
            let result = top.finish()?;
            metrics.record_output(result.num_rows());
            let slices = slices(result, batch_rows).into_iter().map(Ok);
            Ok::<_, DataFusionError>(stream::iter(slices))
        };
        let batches = stream::once(ranked).try_flatten();
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A batch in slices of so many rows.
pub(crate) fn slices(batch: RecordBatch, rows: usize) -> Vec<RecordBatch> {
    (0..batch.num_rows())
        .step_by(rows.max(1))
        .map(|at| batch.slice(at, rows.min(batch.num_rows() - at)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use datafusion::arrow::array::{
        ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, StringArray,
    };
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::{Date32Type, Float64Type, Int64Type};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::physical_plan::collect;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::session::{Session, SessionOptions};

    /// A row of the input: complete by (date, group, item).
    #[derive(Debug, Clone, PartialEq)]
    struct Row {
        date: Option<i32>,
        group: Option<String>,
        item: Option<i64>,
        score: Option<f64>,
        clicks: Option<i64>,
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "date",
                Arc::new(rows.iter().map(|r| r.date).collect::<Date32Array>()),
            ),
            (
                "group",
                Arc::new(
                    rows.iter()
                        .map(|r| r.group.clone())
                        .collect::<StringArray>(),
                ),
            ),
            (
                "item",
                Arc::new(rows.iter().map(|r| r.item).collect::<Int64Array>()),
            ),
            (
                "score",
                Arc::new(rows.iter().map(|r| r.score).collect::<Float64Array>()),
            ),
            (
                "clicks",
                Arc::new(rows.iter().map(|r| r.clicks).collect::<Int64Array>()),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap()
    }

    /// Ranks partitions of batches: per date and group the best by score, then by fewest clicks.
    fn ranked(partitions: &[Vec<Vec<Row>>], descending: bool, top: usize) -> Vec<(Row, i64)> {
        ranked_within(None, partitions, descending, top)
    }

    fn ranked_within(
        memory_bytes: Option<usize>,
        partitions: &[Vec<Vec<Row>>],
        descending: bool,
        top: usize,
    ) -> Vec<(Row, i64)> {
        let batches: Vec<Vec<RecordBatch>> = partitions
            .iter()
            .map(|partition| partition.iter().map(|rows| batch(rows)).collect())
            .collect();
        let input = MemorySourceConfig::try_new_exec(&batches, batch(&[]).schema(), None).unwrap();
        let ranking = Arc::new(Ranking {
            groups: vec!["date".into(), "group".into()],
            item: "item".into(),
            order: vec![("score".into(), descending), ("clicks".into(), false)],
            top,
            totals: vec!["clicks".into()],
        });
        let local = RankExec::try_new(input, Arc::clone(&ranking), RankMode::Local).unwrap();
        let merged = CoalescePartitionsExec::new(Arc::new(local));
        let last = RankExec::try_new(Arc::new(merged), ranking, RankMode::Final).unwrap();
        let options = SessionOptions {
            memory_bytes,
            ..SessionOptions::default()
        };
        let session = Session::new(&options).unwrap();
        let (plan, context) = (Arc::new(last), session.context().task_ctx());
        let schema = plan.schema();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let found = runtime.block_on(collect(plan, context)).unwrap();
        let found = concat_batches(&schema, &found).unwrap();
        (0..found.num_rows())
            .map(|i| {
                let dates = found.column(0).as_primitive::<Date32Type>();
                let groups = found.column(1).as_string::<i32>();
                let scores = found.column(3).as_primitive::<Float64Type>();
                let int = |column: usize| {
                    let values = found.column(column).as_primitive::<Int64Type>();
                    values.iter().nth(i).flatten()
                };
                let row = Row {
                    date: dates.iter().nth(i).flatten(),
                    group: groups.iter().nth(i).flatten().map(str::to_owned),
                    item: int(2),
                    score: scores.iter().nth(i).flatten(),
                    clicks: int(4),
                };
                (row, int(5).unwrap())
            })
            .collect()
    }

    /// By sorting everything.
    fn oracle(rows: &[Row], descending: bool, top: usize) -> Vec<(Row, i64)> {
        let last = |a: bool, b: bool| a.cmp(&b);
        let by_score = |a: &Row, b: &Row| {
            let (a, b) = (
                a.score.filter(|v| !v.is_nan()),
                b.score.filter(|v| !v.is_nan()),
            );
            last(a.is_none(), b.is_none()).then_with(|| match a.partial_cmp(&b) {
                Some(order) if descending => order.reverse(),
                order => order.unwrap_or(Ordering::Equal),
            })
        };
        let by_clicks = |a: &Row, b: &Row| {
            last(a.clicks.is_none(), b.clicks.is_none()).then_with(|| a.clicks.cmp(&b.clicks))
        };
        let mut sorted: Vec<&Row> = rows.iter().filter(|row| row.item.is_some()).collect();
        // Options order nulls first, as groups do.
        sorted.sort_by(|a, b| {
            let groups = (a.date, &a.group).cmp(&(b.date, &b.group));
            let order = groups.then_with(|| by_score(a, b));
            order
                .then_with(|| by_clicks(a, b))
                .then_with(|| a.item.cmp(&b.item))
        });
        let mut expected: Vec<(Row, i64)> = Vec::new();
        for row in sorted {
            let rank = match expected.last() {
                Some((last, rank)) if (last.date, &last.group) == (row.date, &row.group) => {
                    rank + 1
                }
                _ => 1,
            };
            // Ranks beyond the top are counted on, and dropped in the end.
            expected.push((row.clone(), rank));
        }
        expected.retain(|(_, rank)| *rank <= top as i64);
        let mut dates: Vec<Option<i32>> = rows.iter().map(|row| row.date).collect();
        dates.sort_unstable();
        dates.dedup();
        for date in dates {
            let of_date = rows.iter().filter(|row| row.date == date);
            let total = Row {
                date,
                group: None,
                item: None,
                score: None,
                clicks: Some(of_date.filter_map(|row| row.clicks).sum()),
            };
            expected.push((total, 0));
        }
        expected
    }

    /// Equal to the bit: NaN stays NaN and −0 stays −0, though they don't count as such.
    fn text(rows: &[(Row, i64)]) -> Vec<String> {
        rows.iter().map(|row| format!("{row:?}")).collect()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let special = vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        let score = prop_oneof![-3i32..3, -3i32..3].prop_map(f64::from);
        let score = prop_oneof![3 => score, 1 => prop::sample::select(special)];
        let row = (
            prop::option::weighted(0.95, 0..3i32),
            prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "b"])),
            prop::option::weighted(0.9, any::<i8>()),
            prop::option::weighted(0.9, score),
            prop::option::weighted(0.9, 0..4i64),
        );
        prop::collection::vec(row, 0..300).prop_map(|drawn| {
            let mut seen = std::collections::HashSet::new();
            drawn
                .into_iter()
                .filter(|(date, group, item, ..)| seen.insert((*date, *group, *item)))
                .map(|(date, group, item, score, clicks)| Row {
                    date,
                    group: group.map(str::to_owned),
                    item: item.map(i64::from),
                    score,
                    clicks,
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(5),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn equals_a_sort(
            rows in rows(),
            descending: bool,
            top in prop::sample::select(vec![1usize, 2, 7, 1_000]),
            partitions in 1..5usize,
            batch_rows in prop::sample::select(vec![1usize, 3, 1_000]),
        ) {
            let mut split = vec![Vec::new(); partitions];
            for (i, rows) in rows.chunks(batch_rows).enumerate() {
                split[i * 7 % partitions].push(rows.to_vec());
            }
            let found = ranked(&split, descending, top);
            prop_assert_eq!(text(&found), text(&oracle(&rows, descending, top)));
        }
    }

    /// Ever better rows: all are wanted when they come, and nearly all are let go again.
    #[test]
    fn rows_that_fell_out_are_let_go() {
        let rows: Vec<Row> = (0..200_000i64)
            .map(|i| Row {
                date: Some((i % 3) as i32),
                group: Some(format!("group {}", i % 5)),
                item: Some(i),
                // Some ties, whose smaller item comes first.
                score: Some((i / 20) as f64),
                clicks: Some(1),
            })
            .collect();
        let batches: Vec<Vec<Row>> = rows.chunks(1_000).map(<[Row]>::to_vec).collect();
        let expected = text(&oracle(&rows, true, 3));
        // Those that may be held beyond the best take some megabytes.
        for memory_bytes in [None, Some(1 << 20)] {
            let found = ranked_within(memory_bytes, std::slice::from_ref(&batches), true, 3);
            assert_eq!(text(&found), expected, "{memory_bytes:?}");
        }
    }
}
