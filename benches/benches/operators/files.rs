//! Files on disk: the floor, which is decoding two columns, and rankings over the same files.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::ensure;
use criterion::{BatchSize, Criterion};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{LogicalPlanBuilder, col};
use datafusion::physical_plan::{
    ExecutionPlan, ExecutionPlanProperties, execute_stream_partitioned,
};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use rankmill_benches::{Clicks, bench_lake};
use rankmill_datagen::Config;
use rankmill_engine::source::{Format, SourcePath, SourceTable, list_files};

use crate::{Bench, Lookup, group, ranked};

/// Rows of a file or row group that is shared out.
const PIECE_ROWS: u64 = 100;

impl Bench {
    /// What a ranking takes besides decoding what it reads.
    pub(crate) fn files(&self, criterion: &mut Criterion, rows: u64) -> anyhow::Result<()> {
        let clicks = self.runtime.block_on(Clicks::generate(rows))?;
        let mut group = group(criterion, "files", clicks.rows as usize);
        let open = |folder: &str, partition| {
            let path = format!("{}/{folder}/", clicks.lake);
            self.runtime.block_on(self.open(&path, partition))
        };
        let (log, _) = open("stage/ticket_clicks", Some("date"))?;
        let decoded = log.clone().select_columns(&["user_id", "performance_id"])?;
        let state = self.session.context().state();
        let decoded = decoded.into_unoptimized_plan();
        let planned = || self.runtime.block_on(state.create_physical_plan(&decoded));
        let count = |plan| self.runtime.block_on(self.count(plan));
        ensure!(count(planned()?)? == clicks.rows, "rows are missing");
        group.bench_function("decode floor", |bencher| {
            let count = |plan: Result<_, _>| black_box(plan.and_then(count));
            bencher.iter_batched(planned, count, BatchSize::PerIteration);
        });
        for (name, measure) in [
            ("ranking by clicks", "count(*)"),
            ("ranking by visitors", "count(distinct user_id)"),
        ] {
            let (users, users_rows) = open("dim/users", None)?;
            let lookup = Lookup {
                fact_key: "user_id",
                dimension: users.select(vec![col("user_id").alias("key"), col("birth_date")])?,
                rows: users_rows,
                attribute: "age_band(birth_date, date)",
            };
            // An attribute is the last key of an aggregation, an item the last of a ranking.
            let plan = self.aggregation(
                log.clone(),
                &["date", "performance_id"],
                Some(lookup),
                &[measure],
            )?;
            let columns = ["k0", "k2", "k1", "m0"].map(crate::column);
            let plan = LogicalPlanBuilder::from(plan);
            let plan = plan.project(columns)?.build()?;
            self.measure(&mut group, name, &ranked(plan, "k1", "m0", 100)?)?;
        }
        group.finish();
        Ok(())
    }

    /// Sharing files out among tasks, which is what planning a scan of many of them mostly is: dates of
    /// many files each, and one file that is cut between its row groups.
    pub(crate) fn packing(&self, criterion: &mut Criterion, pieces: u64) -> anyhow::Result<()> {
        let mut group = group(criterion, "packing", pieces as usize);
        let rows = pieces * PIECE_ROWS;
        for (name, days, rows_per_file) in
            [("whole dates", 10, PIECE_ROWS), ("row groups", 1, rows)]
        {
            let config = Config {
                click_rows: rows,
                web_rows: 0,
                days,
                users: 1_000,
                performances: 100,
                rows_per_file,
                rows_per_row_group: PIECE_ROWS,
                ..Config::default()
            };
            let lake = self.runtime.block_on(bench_lake(config))?;
            let path = format!("{}/stage/ticket_clicks/", lake.display());
            let opened = self.runtime.block_on(self.open(&path, Some("date")));
            let log = opened?.0.select_columns(&["user_id", "performance_id"])?;
            let log = log.into_unoptimized_plan();
            let state = self.session.context().state();
            let planned = || self.runtime.block_on(state.create_physical_plan(&log));
            let tasks = planned()?.output_partitioning().partition_count();
            let threads = state.config().target_partitions();
            ensure!(
                tasks == threads,
                "{name}: {tasks} tasks for {threads} threads"
            );
            group.bench_function(name, |bencher| bencher.iter(|| black_box(planned())));
        }
        group.finish();
        Ok(())
    }

    /// A folder's files as a table, and its rows.
    async fn open(
        &self,
        path: &str,
        partition: Option<&str>,
    ) -> anyhow::Result<(DataFrame, usize)> {
        let source = SourcePath::parse(path)?;
        let files = list_files(&self.session, &source, Format::Parquet, partition, None).await?;
        let table = SourceTable::open(&self.session, &source, Format::Parquet, files).await?;
        let rows = table.rows().unwrap_or(0) as usize;
        let frame = self.session.context().read_table(Arc::new(table))?;
        Ok((frame, rows))
    }

    async fn count(&self, plan: Arc<dyn ExecutionPlan>) -> Result<u64, DataFusionError> {
        let context = self.session.context().task_ctx();
        let mut tasks = tokio::task::JoinSet::new();
        for mut stream in execute_stream_partitioned(plan, context)? {
            tasks.spawn(async move {
                let mut rows = 0;
                while let Some(batch) = stream.try_next().await? {
                    rows += batch.num_rows() as u64;
                }
                Ok::<_, DataFusionError>(rows)
            });
        }
        let mut rows = 0;
        while let Some(counted) = tasks.join_next().await {
            rows += counted.map_err(|e| DataFusionError::External(Box::new(e)))??;
        }
        Ok(rows)
    }
}
