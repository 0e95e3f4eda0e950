//! Files on disk: the floor, which is decoding two columns, and rankings over the same files.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::ensure;
use criterion::{BatchSize, Criterion};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{LogicalPlanBuilder, col};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use rankmill_benches::Clicks;
use rankmill_engine::source::{Format, SourcePath, SourceTable, list_files};

use crate::{Bench, Lookup, group, ranked};

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
