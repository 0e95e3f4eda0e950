//! `rankmill run`, with all it does (listing, checks, labels, publication), against DataFusion's
//! own SQL for the same ranking on the same files with the same threads.

#![allow(
    clippy::print_stdout,
    reason = "a bench's results go to stdout, as the command line's do"
)]

use anyhow::{Context, ensure};
use chrono::NaiveDate;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use rankmill_benches::{Clicks, Comparison, Job, Quiet, compare};
use rankmill_engine::{Session, SessionOptions};
use rankmill_jobs::run;

const PAIRS: usize = 5;

/// Daily popularity with exact visitors, one day, as in the shipped job.
const POPULARITY: &str = "
    SELECT performance_id, visitors, clicks FROM (
        SELECT performance_id, count(distinct user_id) AS visitors, count(*) AS clicks
        FROM ticket_clicks WHERE date = '{date}' GROUP BY performance_id)
    ORDER BY visitors DESC, clicks DESC, performance_id LIMIT 100";

/// The top 100 of each day and age band. The ages are DataFusion's own arithmetic.
const AGE_BANDS: &str = "
    WITH views AS (
        SELECT c.date, c.performance_id, c.user_id,
            date_part('year', c.day) - date_part('year', u.birth_date)
                - CASE WHEN to_char(c.day, '%m%d') < to_char(u.birth_date, '%m%d') THEN 1 ELSE 0 END AS age
        FROM (SELECT *, cast(date AS date) AS day FROM ticket_clicks WHERE action = 'view') c
        LEFT JOIN users u ON c.user_id = u.user_id),
    banded AS (
        SELECT date, performance_id, user_id, CASE
            WHEN age IS NULL OR age < 0 OR age > 120 THEN 'unknown'
            WHEN age < 10 THEN 'under-10' WHEN age < 20 THEN '10s' WHEN age < 30 THEN '20s'
            WHEN age < 40 THEN '30s' WHEN age < 50 THEN '40s' WHEN age < 60 THEN '50s'
            WHEN age < 70 THEN '60s' ELSE '70+' END AS age_band
        FROM views),
    counted AS (
        SELECT date, age_band, performance_id,
            count(distinct user_id) AS visitors, count(*) AS clicks
        FROM banded GROUP BY date, age_band, performance_id),
    ranked AS (
        SELECT *, row_number() OVER (PARTITION BY date, age_band
            ORDER BY visitors DESC, clicks DESC, performance_id) AS rank
        FROM counted)
    SELECT performance_id, visitors, clicks FROM ranked WHERE rank <= 100
    ORDER BY date, age_band, rank";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let clicks = Clicks::generate(40_000_000).await?;
    println!("{} clicks over 4 days, {PAIRS} pairs, medians", clicks.rows);
    Comparison::print_head("rankmill", "SQL");
    let (one, all) = (&clicks.dates[..1], &clicks.dates[..]);
    bench(&clicks, "daily-popularity", one, POPULARITY).await?;
    bench(&clicks, "age-date-ranking", all, AGE_BANDS).await
}

async fn bench(clicks: &Clicks, job: &str, dates: &[NaiveDate], sql: &str) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let lake = &clicks.lake;
    let job = clicks.job(job, dates)?;
    let sql = sql.replace("{date}", &dates[0].to_string());

    ours(&job, threads).await?;
    let mut ours_rows = Vec::new();
    for rows in job.published().await? {
        ours_rows.extend(numbers(&rows)?);
    }
    let theirs_rows = numbers(&theirs(lake, &sql, threads).await?)?;
    ensure!(
        ours_rows == theirs_rows,
        "{}: the results differ",
        job.title()
    );

    let times = compare(
        PAIRS,
        async || ours(&job, threads).await,
        async || theirs(lake, &sql, threads).await.map(drop),
    )
    .await?;
    times.print_row(&job.title());
    Ok(())
}

async fn ours(job: &Job, threads: usize) -> anyhow::Result<()> {
    // A new session each time, as a new process has: nothing is cached.
    let session = Session::new(&SessionOptions {
        threads: Some(threads),
        ..SessionOptions::default()
    })?;
    run(&session, &job.spec, &job.params, &job.request, &Quiet).await?;
    Ok(())
}

async fn theirs(lake: &str, sql: &str, threads: usize) -> anyhow::Result<RecordBatch> {
    let config = SessionConfig::new().with_target_partitions(threads);
    let context = SessionContext::new_with_config(config);
    let by_date = ParquetReadOptions::default()
        .table_partition_cols(vec![("date".to_owned(), DataType::Utf8)]);
    let clicks = format!("{lake}/stage/ticket_clicks/");
    context
        .register_parquet("ticket_clicks", &clicks, by_date)
        .await?;
    let users = format!("{lake}/dim/users/");
    context
        .register_parquet("users", &users, ParquetReadOptions::default())
        .await?;
    let frame = context.sql(sql).await?;
    let schema = frame.schema().inner().clone();
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// (performance, visitors, clicks) of each row, in order.
fn numbers(rows: &RecordBatch) -> anyhow::Result<Vec<(i32, i64, i64)>> {
    let column = |name: &str| {
        let column = rows.column_by_name(name).context("a column is missing");
        column.map(|column| column.as_primitive::<Int64Type>().clone())
    };
    let items = rows
        .column_by_name("performance_id")
        .context("no performance_id")?;
    let items = items.as_primitive::<datafusion::arrow::datatypes::Int32Type>();
    let (visitors, clicks) = (column("visitors")?, column("clicks")?);
    Ok((0..rows.num_rows())
        .map(|row| (items.value(row), visitors.value(row), clicks.value(row)))
        .collect())
}
