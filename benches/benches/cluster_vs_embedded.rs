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
use rankmill_benches::{Clicks, Comparison, Job, Quiet, compare};
use rankmill_engine::{Session, SessionOptions};
use rankmill_jobs::{RunRequest, run};
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
        workers: Default::default(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(Box::pin(rankmill_executor::run(options)))?;
    Ok(())
}

async fn bench() -> anyhow::Result<()> {
    let dates_per_pass = match std::env::var("RANKMILL_BENCH_DATES_PER_PASS") {
        Ok(dates) => Some(dates.parse().context("RANKMILL_BENCH_DATES_PER_PASS")?),
        Err(_) => None,
    };
    let clicks = Clicks::generate(100_000_000).await?;

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

    let rows = clicks.rows;
    println!("{rows} clicks over 4 days, {EXECUTORS} executors, {PAIRS} pairs, medians");
    Comparison::print_head("cluster", "embedded");
    let (one, all) = (&clicks.dates[..1], &clicks.dates[..]);
    for (job, dates) in [
        ("daily-popularity", one),
        ("daily-popularity", all),
        ("age-date-ranking", all),
    ] {
        compare_run(&clicks.job(job, dates)?, &cluster, dates_per_pass).await?;
    }
    Ok(())
}

async fn compare_run(
    job: &Job,
    cluster: &Arc<Cluster>,
    dates_per_pass: Option<NonZeroUsize>,
) -> anyhow::Result<()> {
    // A new session each time, as a new process has: nothing is cached.
    let session = || Session::new(&SessionOptions::default());
    let cut = RunRequest {
        dates_per_pass,
        ..job.request.clone()
    };
    let there = async || -> anyhow::Result<()> {
        let session = session()?.with_compute(Arc::clone(cluster) as _);
        run(&session, &job.spec, &job.params, &cut, &Quiet).await?;
        Ok(())
    };
    let here = async || -> anyhow::Result<()> {
        run(&session()?, &job.spec, &job.params, &job.request, &Quiet).await?;
        Ok(())
    };

    there().await?;
    let computed_there = job.published().await?;
    here().await?;
    let computed_here = job.published().await?;
    ensure!(
        computed_there == computed_here,
        "{}: the results differ",
        job.title()
    );

    let times = compare(PAIRS, there, here).await?;
    times.print_row(&job.title());
    Ok(())
}
