//! `rankmill run`: computes and publishes.

mod remote;

use chrono::NaiveDate;
use rankmill_engine::Session;
use rankmill_jobs::{DateOutcome, RunReport, RunRequest, read_ranking, run as run_job, target_of};
use serde_json::json;

use crate::args::{Format, RunArgs};
use crate::environment::{Environment, Job};
use crate::human;
use crate::outcome::{FAILED, INTERRUPTED, describe, exit_code};
use crate::output;
use crate::progress::Progress;
use crate::skew;
use crate::table;

pub(crate) async fn run(environment: &Environment, args: &RunArgs) -> anyhow::Result<u8> {
    // What is wrong with any of them is said before the first begins.
    let mut jobs = Vec::with_capacity(args.specs.len());
    for choice in args.jobs() {
        let job = environment.job(&choice)?;
        let dates = job.dates(&args.dates)?;
        jobs.push((choice, job, dates));
    }
    let cluster = args.cluster_choice();
    let session = environment.session()?;
    let single = jobs.len() == 1;
    let mut code = 0;
    for (choice, job, dates) in jobs {
        let ran = match &cluster {
            Some(cluster) => remote::run(environment, args, &choice, &job, &dates, cluster).await,
            None => run_here(environment, args, &session, &job, dates).await,
        };
        match ran {
            Ok(INTERRUPTED) => return Ok(INTERRUPTED),
            Ok(ended) => code = code.max(ended),
            Err(error) if single => return Err(error),
            Err(error) => {
                eprintln!("error: {}: {}", job.spec.name, describe(&error));
                code = code.max(exit_code(&error));
            }
        }
    }
    Ok(code)
}

async fn run_here(
    environment: &Environment,
    args: &RunArgs,
    session: &Session,
    job: &Job,
    dates: Vec<NaiveDate>,
) -> anyhow::Result<u8> {
    let request = RunRequest {
        dates,
        force: args.force,
        allow_empty: args.allow_empty,
        dates_per_pass: None,
    };
    let report = run_and_summarise(environment, session, job, &request).await?;
    match environment.format {
        Format::Table => print_last(session, job, &report, args.show).await?,
        Format::Json => output::line(format_args!("{}", to_json(job, &report)))?,
    }
    let gaps = report
        .dates
        .iter()
        .any(|date| matches!(date.outcome, DateOutcome::Gap { .. }));
    Ok(if gaps { FAILED } else { 0 })
}

/// Runs a job with progress and, at the end, a summary on stderr.
pub(crate) async fn run_and_summarise(
    environment: &Environment,
    session: &Session,
    job: &Job,
    request: &RunRequest,
) -> anyhow::Result<RunReport> {
    let progress = Progress::new(environment.quiet).with_bar(1);
    let ran = run_job(session, &job.spec, &job.params, request, &progress).await;
    progress.finish();
    let report = ran?;
    if !environment.quiet {
        eprint!("{}", summary(job, &report));
    }
    Ok(report)
}

/// Prints the ranking of the last date that has one.
async fn print_last(
    session: &Session,
    job: &Job,
    report: &RunReport,
    show: usize,
) -> anyhow::Result<()> {
    let has_ranking = |outcome: &DateOutcome| !matches!(outcome, DateOutcome::Gap { .. });
    let last = report.dates.iter().rev().find(|d| has_ranking(&d.outcome));
    let Some(last) = last.filter(|_| show > 0) else {
        return Ok(());
    };
    let target = target_of(session, &job.spec, &job.params)?;
    if let Some((_, rows)) = read_ranking(&target, &job.spec.name, last.date).await? {
        output::line(format_args!(
            "{}",
            table::render(&table::top(&rows, show)?)?
        ))?;
    }
    Ok(())
}

fn summary(job: &Job, report: &RunReport) -> String {
    let seconds = report.elapsed.as_secs_f64();
    let published = report
        .dates
        .iter()
        .filter(|date| matches!(date.outcome, DateOutcome::Published { .. }))
        .count();
    let mut text = format!(
        "{}: {published} of {} dates published in {seconds:.2} s",
        job.spec.name,
        report.dates.len(),
    );
    if report.scanned.rows > 0 {
        let rate = human::count((report.scanned.rows as f64 / seconds.max(1e-9)) as u64);
        text.push_str(&format!(
            "; read {} rows, {} ({rate} rows/s)",
            human::count(report.scanned.rows),
            human::bytes(report.scanned.bytes)
        ));
    }
    if let Some(peak) = peak_memory_bytes() {
        text.push_str(&format!("; peak memory {}", human::bytes(peak)));
    }
    text.push('\n');
    for unmatched in report
        .unmatched
        .iter()
        .filter(|unmatched| unmatched.rows > 0)
    {
        text.push_str(&format!(
            "  {} rows have a {} that is not in '{}': ranked under 'unknown'\n",
            human::grouped(unmatched.rows.into()),
            unmatched.key,
            unmatched.path
        ));
    }
    if report.null_items > 0 {
        text.push_str(&format!(
            "  {} rows have no item: left out\n",
            human::grouped(report.null_items.into())
        ));
    }
    text.push_str(&skew::brief(&report.skew));
    text
}

fn to_json(job: &Job, report: &RunReport) -> serde_json::Value {
    let dates = report.dates.iter().map(|date| {
        let mut value = match &date.outcome {
            DateOutcome::Published { generation, rows } => {
                json!({ "outcome": "published", "generation": generation, "rows": rows })
            }
            DateOutcome::AlreadyCurrent { generation } => {
                json!({ "outcome": "already_current", "generation": generation })
            }
            DateOutcome::Fenced { generation, run_id } => json!({
                "outcome": "fenced",
                "generation": generation,
                "by": run_id.to_string(),
            }),
            DateOutcome::Gap { path } => json!({ "outcome": "gap", "path": path }),
        };
        value["date"] = json!(date.date.to_string());
        value
    });
    let unmatched = report.unmatched.iter().map(
        |unmatched| json!({ "path": unmatched.path, "key": unmatched.key, "rows": unmatched.rows }),
    );
    json!({
        "job": job.spec.name,
        "dates": dates.collect::<Vec<_>>(),
        "rows": report.rows,
        "rows_read": report.scanned.rows,
        "bytes_read": report.scanned.bytes,
        "files_read": report.scanned.files_done,
        "null_items": report.null_items,
        "unmatched": unmatched.collect::<Vec<_>>(),
        "skew": report.skew,
        "elapsed_seconds": report.elapsed.as_secs_f64(),
        "peak_memory_bytes": peak_memory_bytes(),
    })
}

/// The most resident memory this process has had, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
