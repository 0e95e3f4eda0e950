//! `rankmill run`, with all it does (listing, checks, labels, publication), against DataFusion's
//! own SQL for the same ranking on the same files with the same threads.

#![allow(
    clippy::print_stdout,
    reason = "a bench's results go to stdout, as the command line's do"
)]

use std::path::Path;

use anyhow::{Context, ensure};
use chrono::NaiveDate;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use rankmill_benches::{Quiet, bench_lake, compare};
use rankmill_datagen::Config;
use rankmill_engine::{Session, SessionOptions};
use rankmill_jobs::spec::{Params, Spec, parse};
use rankmill_jobs::{RunRequest, read_ranking, run, target_of};

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
    let rows = match std::env::var("RANKMILL_BENCH_ROWS") {
        Ok(rows) => rows.parse().context("RANKMILL_BENCH_ROWS")?,
        Err(_) => 40_000_000,
    };
    let config = Config {
        click_rows: rows,
        web_rows: 0,
        days: 4,
        users: 1_000_000,
        ..Config::default()
    };
    let first = config.from;
    let lake = bench_lake(config).await?;
    let dates: Vec<NaiveDate> = first.iter_days().take(4).collect();
    println!("{rows} clicks over 4 days, {PAIRS} pairs, medians");
    println!("{:<34} {:>9} {:>9} {:>7}", "", "rankmill", "SQL", "ratio");
    bench(&lake, "daily-popularity", &dates[..1], POPULARITY).await?;
    bench(&lake, "age-date-ranking", &dates, AGE_BANDS).await
}

async fn bench(lake: &Path, job: &str, dates: &[NaiveDate], sql: &str) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let lake = lake.to_str().context("the lake's path is not UTF-8")?;
    let shipped = rankmill_jobs::shipped::find(job).context("not a shipped job")?;
    let params = Params::new(lake, Default::default());
    let spec = parse(shipped.yaml, shipped.name, &params)?;
    let sql = sql.replace("{date}", &dates[0].to_string());

    ours(lake, &spec, &params, dates, threads).await?;
    let ours_rows = published(&spec, &params, dates).await?;
    let theirs_rows = numbers(&theirs(lake, &sql, threads).await?)?;
    ensure!(ours_rows == theirs_rows, "{job}: the results differ");

    let times = compare(
        PAIRS,
        async || ours(lake, &spec, &params, dates, threads).await,
        async || theirs(lake, &sql, threads).await.map(drop),
    )
    .await?;
    println!(
        "{:<34} {:>8.2}s {:>8.2}s {:>7.2}",
        format!("{job}, {} dates", dates.len()),
        times.median_a(),
        times.median_b(),
        times.ratio()
    );
    Ok(())
}

async fn ours(
    lake: &str,
    spec: &Spec,
    params: &Params,
    dates: &[NaiveDate],
    threads: usize,
) -> anyhow::Result<()> {
    debug_assert_eq!(lake, params.lake());
    // A new session each time, as a new process has: nothing is cached.
    let session = Session::new(&SessionOptions {
        threads: Some(threads),
        ..SessionOptions::default()
    })?;
    let request = RunRequest {
        dates: dates.to_vec(),
        force: true,
        allow_empty: false,
        dates_per_pass: None,
    };
    run(&session, spec, params, &request, &Quiet).await?;
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

async fn published(
    spec: &Spec,
    params: &Params,
    dates: &[NaiveDate],
) -> anyhow::Result<Vec<(i32, i64, i64)>> {
    let session = Session::new(&SessionOptions::default())?;
    let target = target_of(&session, spec, params)?;
    let mut all = Vec::new();
    for date in dates {
        let ranking = read_ranking(&target, &spec.name, *date).await?;
        all.extend(numbers(&ranking.context("not published")?.1)?);
    }
    Ok(all)
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
