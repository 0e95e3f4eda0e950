//! A run on a cluster, told like one in this process.

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use rankmill_jobs::{read_ranking, target_of};
use rankmill_scheduler::proto::submit_run_request::What;
use rankmill_scheduler::proto::{DateResult, Progress, Run, RunState, SubmitRunRequest};
use serde_json::{Value, json};

use crate::args::{ClusterChoice, Format, RunArgs, SpecChoice};
use crate::cluster::{Cluster, Followed, Watcher, follow_aloud};
use crate::commands::skew::report_of;
use crate::commands::submit::{id_of, submit};
use crate::environment::{Environment, Job, spec_text};
use crate::human;
use crate::outcome::{FAILED, INTERRUPTED};
use crate::output;
use crate::skew;
use crate::table;

pub(super) async fn run(
    environment: &Environment,
    args: &RunArgs,
    spec: &SpecChoice,
    job: &Job,
    dates: &[NaiveDate],
    choice: &ClusterChoice,
) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let date = |date: Option<&NaiveDate>| date.map_or(String::new(), |d| d.to_string());
    let request = SubmitRunRequest {
        what: Some(What::Spec(spec_text(&spec.spec)?)),
        set: spec.set.iter().cloned().collect(),
        from: date(dates.first()),
        to: date(dates.last()),
        force: args.force,
        allow_empty: args.allow_empty,
        idempotency_key: String::new(),
    };
    let cluster = Cluster::new(choice, environment.quiet)?;
    let queued = submit(&cluster, request).await?;
    if !environment.quiet {
        eprintln!("run {}", id_of(&queued));
    }
    let mut watcher = Watcher::new(environment.quiet);
    let followed = follow_aloud(&cluster, id_of(&queued), &mut watcher).await?;
    let Followed::Ended(run) = followed else {
        return Ok(INTERRUPTED);
    };
    let elapsed = begun.elapsed();
    if !environment.quiet {
        eprint!("{}", summary(job, &run, &watcher.read, elapsed));
    }
    match environment.format {
        Format::Table => print_last(environment, job, &run, args.show).await?,
        Format::Json => output::line(to_json(job, &run, &watcher.read, elapsed))?,
    }
    Ok(exit_code(&run))
}

/// As for a run in this process: only gaps and errors are failures.
fn exit_code(run: &Run) -> u8 {
    let state = run.summary.as_ref().map(|summary| summary.state());
    let ended = matches!(state, Some(RunState::Succeeded | RunState::Fenced));
    let gaps = run.dates.iter().any(is_gap);
    if ended && !gaps { 0 } else { FAILED }
}

fn is_gap(date: &DateResult) -> bool {
    date.outcome == "gap"
}

fn summary(job: &Job, run: &Run, read: &Progress, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let published = run.dates.iter().filter(|date| date.outcome == "published");
    let mut text = format!(
        "{}: {} of {} dates published in {seconds:.2} s on the cluster",
        job.spec.name,
        published.count(),
        run.dates.len(),
    );
    if read.rows > 0 {
        let rate = human::count((read.rows as f64 / seconds.max(1e-9)) as u64);
        text.push_str(&format!(
            "; read {} rows, {} ({rate} rows/s)",
            human::count(read.rows),
            human::bytes(read.bytes)
        ));
    }
    text.push('\n');
    if let Ok(Some(report)) = report_of(&run.skew) {
        text.push_str(&skew::brief(&report));
    }
    text
}

/// Prints the ranking of the last date that has one, if this machine sees the cluster's lake.
async fn print_last(
    environment: &Environment,
    job: &Job,
    run: &Run,
    show: usize,
) -> anyhow::Result<()> {
    let last = run.dates.iter().rev().find(|date| !is_gap(date));
    let Some(last) = last.filter(|_| show > 0) else {
        return Ok(());
    };
    let session = environment.session()?;
    let target = target_of(&session, &job.spec, &job.params)?;
    let read = read_ranking(&target, &job.spec.name, last.date.parse()?).await;
    match read {
        // Another generation is of another lake.
        Ok(Some((commit, rows))) if commit.id.generation == last.generation => output::line(
            format_args!("{}", table::render(&table::top(&rows, show)?)?),
        )?,
        _ if environment.quiet => {}
        _ => eprintln!(
            "the ranking is in the cluster's lake; '{}' is another, so it is not shown here",
            environment.lake
        ),
    }
    Ok(())
}

/// The fields of a run in this process, as far as a cluster tells them.
fn to_json(job: &Job, run: &Run, read: &Progress, elapsed: Duration) -> Value {
    let dates = run.dates.iter().map(|date| match date.outcome.as_str() {
        "gap" => json!({ "date": date.date, "outcome": "gap" }),
        "published" => json!({
            "date": date.date,
            "outcome": "published",
            "generation": date.generation,
            "rows": date.rows,
        }),
        outcome => json!({
            "date": date.date, "outcome": outcome, "generation": date.generation,
        }),
    });
    let summary = run.summary.clone().unwrap_or_default();
    json!({
        "job": job.spec.name,
        "run": summary.id,
        "state": crate::cluster::state_name(summary.state()),
        "error": (!summary.error.is_empty()).then_some(&summary.error),
        "dates": dates.collect::<Vec<_>>(),
        "rows_read": read.rows,
        "bytes_read": read.bytes,
        "files_read": read.files_done,
        "skew": report_of(&run.skew).ok().flatten(),
        "elapsed_seconds": elapsed.as_secs_f64(),
    })
}
