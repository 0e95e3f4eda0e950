//! A run on two executors, processes of their own with one thread each, against the same run in
//! one process with two threads.
//!
//! `RANKMILL_BENCH_ROWS` sets the clicks (over 4 days), `RANKMILL_BENCH_DATES_PER_PASS` into how
//! many Ballista jobs the cluster's run is cut.

#![allow(
    clippy::print_stdout,
    reason = "a bench's results go to stdout, as the command line's do"
)]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use rankmill_benches::{Quiet, bench_lake, compare};
use rankmill_datagen::Config;
use rankmill_engine::{Session, SessionOptions};
use rankmill_jobs::spec::{Params, Spec, parse};
use rankmill_jobs::{RunRequest, read_ranking, run, target_of};
use rankmill_scheduler::cluster::{Cluster, Options};

const EXECUTORS: usize = 2;
const PAIRS: usize = 3;
/// Tells this binary to be an executor: the scheduler's port and the folder to work in.
const EXECUTOR: &str = "RANKMILL_BENCH_EXECUTOR";

/// The process of an executor.
struct Executor(Child);

impl Executor {
    fn start(port: u16, work_dir: &Path) -> anyhow::Result<Self> {
        let process = Command::new(std::env::current_exe()?)
            .env(EXECUTOR, format!("{port} {}", work_dir.display()))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(process))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    if let Ok(place) = std::env::var(EXECUTOR) {
        let (port, work_dir) = place.split_once(' ').context(EXECUTOR)?;
        return executor(port.parse()?, work_dir.into());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(bench())
}

fn executor(port: u16, work_dir: PathBuf) -> anyhow::Result<()> {
    let options = rankmill_executor::Options {
        schedulers: vec![format!("127.0.0.1:{port}")],
        bind: [127, 0, 0, 1].into(),
        advertise: None,
        port: 0,
        grpc_port: 0,
        slots: std::thread::available_parallelism()?
            .get()
            .div_ceil(EXECUTORS),
        memory_bytes: None,
        work_dir,
        tls: None,
        drain_timeout: Duration::ZERO,
        retry: Default::default(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(Box::pin(rankmill_executor::run(options)))?;
    Ok(())
}

async fn bench() -> anyhow::Result<()> {
    let rows = match std::env::var("RANKMILL_BENCH_ROWS") {
        Ok(rows) => rows.parse().context("RANKMILL_BENCH_ROWS")?,
        Err(_) => 100_000_000,
    };
    let dates_per_pass = match std::env::var("RANKMILL_BENCH_DATES_PER_PASS") {
        Ok(dates) => Some(dates.parse().context("RANKMILL_BENCH_DATES_PER_PASS")?),
        Err(_) => None,
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

    let session = Session::new(&SessionOptions::default())?;
    let options = Options {
        bind: ([127, 0, 0, 1], 0).into(),
        ..Options::default()
    };
    let cluster = Cluster::start(options, &session).await?;
    let work_dir = tempfile::tempdir()?;
    let mut executors = Vec::new();
    for _ in 0..EXECUTORS {
        executors.push(Executor::start(cluster.address().port(), work_dir.path())?);
    }
    while cluster.executors().await.len() < EXECUTORS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    println!("{rows} clicks over 4 days, {EXECUTORS} executors, {PAIRS} pairs, medians");
    println!(
        "{:<34} {:>9} {:>9} {:>7}",
        "", "cluster", "embedded", "ratio"
    );
    for (job, dates) in [
        ("daily-popularity", &dates[..1]),
        ("daily-popularity", &dates),
        ("age-date-ranking", &dates),
    ] {
        compare_run(&lake, &cluster, job, dates, dates_per_pass).await?;
    }
    Ok(())
}

async fn compare_run(
    lake: &Path,
    cluster: &Arc<Cluster>,
    job: &str,
    dates: &[NaiveDate],
    dates_per_pass: Option<NonZeroUsize>,
) -> anyhow::Result<()> {
    let lake = lake.to_str().context("the lake's path is not UTF-8")?;
    let shipped = rankmill_jobs::shipped::find(job).context("not a shipped job")?;
    let params = Params::new(lake, Default::default());
    let spec = parse(shipped.yaml, shipped.name, &params)?;
    let request = RunRequest {
        dates: dates.to_vec(),
        force: true,
        allow_empty: false,
        dates_per_pass,
    };
    // A new session each time, as a new process has: nothing is cached.
    let session = || Session::new(&SessionOptions::default());
    let there = async || -> anyhow::Result<()> {
        let session = session()?.with_compute(Arc::clone(cluster) as _);
        run(&session, &spec, &params, &request, &Quiet).await?;
        Ok(())
    };
    let here = async || -> anyhow::Result<()> {
        let request = RunRequest {
            dates_per_pass: None,
            ..request.clone()
        };
        run(&session()?, &spec, &params, &request, &Quiet).await?;
        Ok(())
    };

    there().await?;
    let computed_there = published(&spec, &params, dates).await?;
    here().await?;
    let computed_here = published(&spec, &params, dates).await?;
    ensure!(computed_there == computed_here, "{job}: the results differ");

    let times = compare(PAIRS, there, here).await?;
    println!(
        "{:<34} {:>8.2}s {:>8.2}s {:>7.2}",
        format!("{job}, {} dates", dates.len()),
        times.median_a(),
        times.median_b(),
        times.ratio()
    );
    Ok(())
}

async fn published(
    spec: &Spec,
    params: &Params,
    dates: &[NaiveDate],
) -> anyhow::Result<Vec<RecordBatch>> {
    let session = Session::new(&SessionOptions::default())?;
    let target = target_of(&session, spec, params)?;
    let mut all = Vec::new();
    for date in dates {
        let ranking = read_ranking(&target, &spec.name, *date).await?;
        all.push(ranking.context("not published")?.1);
    }
    Ok(all)
}
