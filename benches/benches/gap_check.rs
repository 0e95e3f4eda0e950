//! How long it takes to find the gaps of 20 jobs over a year, all published.
//!
//! `RANKMILL_BENCH_GAPS_LAKE` names the lake, a folder or `s3://…` (with `AWS_*` in the
//! environment); it is filled and published once, which takes much longer than what is measured.

#![allow(
    clippy::print_stdout,
    reason = "a bench's results go to stdout, as the command line's do"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::NaiveDate;
use rankmill_benches::Quiet;
use rankmill_datagen::{Config, Plan, generate};
use rankmill_engine::{Location, Session, SessionOptions};
use rankmill_jobs::shipped::SHIPPED;
use rankmill_jobs::spec::{Params, Spec, parse};
use rankmill_jobs::{RunRequest, run};
use rankmill_scheduler::gaps::{DateState, Gaps};
use tokio::task::JoinSet;

const JOBS: usize = 20;
const DAYS: u32 = 365;
const ROUNDS: usize = 3;
/// Longer than a check relies on what the one before it has seen.
const LATER: Duration = Duration::from_secs(31);
/// Jobs published at once.
const PUBLISHERS: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let lake = match std::env::var("RANKMILL_BENCH_GAPS_LAKE") {
        Ok(lake) => lake,
        Err(_) => {
            let folder = std::env::temp_dir().join("rankmill-bench-gaps");
            folder
                .to_str()
                .context("the folder's name is not UTF-8")?
                .to_owned()
        }
    };
    let session = Session::new(&SessionOptions::default())?;
    let params = Params::new(&lake, Default::default());
    let config = Config {
        click_rows: 40 * u64::from(DAYS),
        web_rows: 10 * u64::from(DAYS),
        days: DAYS,
        users: 1_000,
        ..Config::default()
    };
    let dates: Vec<NaiveDate> = config.from.iter_days().take(DAYS as usize).collect();
    fill(&session, &lake, config).await?;
    let specs = specs(&params)?;
    publish(&session, &specs, &params, &dates).await?;

    println!("{JOBS} jobs, {DAYS} days each, on {lake}; seconds");
    println!("each: the first look of a new process, at once again, and after {LATER:?}");
    for round in 0..ROUNDS {
        let mut told = format!("round {round}:");
        for (what, specs) in [("one job", &specs[..1]), ("all jobs", &specs[..])] {
            let gaps = Gaps::new(session.clone());
            let first = check(&gaps, specs, &params, &dates).await?;
            let again = check(&gaps, specs, &params, &dates).await?;
            tokio::time::sleep(LATER).await;
            let later = check(&gaps, specs, &params, &dates).await?;
            told += &format!(" {what} {first:.3}, {again:.3}, {later:.3};");
        }
        println!("{told}");
    }
    Ok(())
}

/// Checks jobs at once, as the scheduler's repair does.
async fn check(
    gaps: &Gaps,
    specs: &[Arc<Spec>],
    params: &Params,
    dates: &[NaiveDate],
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let round = Arc::new(gaps.round());
    let mut checks = JoinSet::new();
    for spec in specs {
        let (round, spec) = (Arc::clone(&round), Arc::clone(spec));
        let (params, dates) = (params.clone(), dates.to_vec());
        checks.spawn(async move { round.check(&spec, &params, &dates).await });
    }
    while let Some(checked) = checks.join_next().await {
        let checked = checked??;
        let published = checked
            .iter()
            .filter(|s| s.state == DateState::Published)
            .count();
        ensure!(
            published == dates.len(),
            "only {published} dates are published"
        );
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The shipped jobs in turn, each with an output of its own.
fn specs(params: &Params) -> anyhow::Result<Vec<Arc<Spec>>> {
    let spec = |number: usize| {
        let shipped = SHIPPED[number % SHIPPED.len()];
        let name = format!("{}-{number}", shipped.name);
        let yaml = shipped.yaml.replace(shipped.name, &name);
        Ok(Arc::new(parse(&yaml, &name, params)?))
    };
    (0..JOBS).map(spec).collect()
}

async fn fill(session: &Session, lake: &str, config: Config) -> anyhow::Result<()> {
    let place = Location::parse(lake)?;
    let store = session.stores().of(&place)?;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&config)?;
        generate(
            &plan,
            store,
            place.path(),
            PUBLISHERS,
            &runtime,
            false,
            &Quiet,
        )
    })
    .await??;
    Ok(())
}

async fn publish(
    session: &Session,
    specs: &[Arc<Spec>],
    params: &Params,
    dates: &[NaiveDate],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let request = Arc::new(RunRequest {
        dates: dates.to_vec(),
        force: false,
        allow_empty: false,
        dates_per_pass: None,
    });
    for specs in specs.chunks(PUBLISHERS) {
        let mut runs = JoinSet::new();
        for spec in specs {
            let (session, request) = (session.clone(), Arc::clone(&request));
            let (spec, params) = (Arc::clone(spec), params.clone());
            runs.spawn(async move { run(&session, &spec, &params, &request, &Quiet).await });
        }
        while let Some(ran) = runs.join_next().await {
            ran??;
        }
    }
    println!("published in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
