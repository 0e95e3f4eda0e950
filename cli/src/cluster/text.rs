//! What a cluster answers, as text for people.

use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use prost_types::Timestamp;
use rankmill_scheduler::proto::{
    DateState, DateStatus, Event, Executor, Job, Run, RunState, RunSummary, TriggerKind,
};

use crate::human;
use crate::table;

/// A time in RFC 3339.
pub(crate) fn time(at: Option<Timestamp>) -> Option<String> {
    let at = at?;
    let nanos = u32::try_from(at.nanos).ok()?;
    let at = DateTime::<Utc>::from_timestamp(at.seconds, nanos)?;
    Some(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// A time to the second, for a table.
fn short(at: Option<Timestamp>) -> String {
    let at = at.and_then(|at| DateTime::<Utc>::from_timestamp(at.seconds, 0));
    at.map_or("-".to_owned(), |at| {
        at.format("%Y-%m-%d %H:%M:%SZ").to_string()
    })
}

fn seconds_between(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    let (from, to) = (from?, to?);
    let nanos = f64::from(to.nanos) - f64::from(from.nanos);
    Some((to.seconds - from.seconds) as f64 + nanos / 1e9)
}

pub(crate) fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Unspecified => "unknown",
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Publishing => "publishing",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Fenced => "fenced",
    }
}

pub(crate) fn trigger_name(trigger: TriggerKind) -> &'static str {
    match trigger {
        TriggerKind::Unspecified => "unknown",
        TriggerKind::Manual => "manual",
        TriggerKind::Schedule => "schedule",
        TriggerKind::Backfill => "backfill",
        TriggerKind::Repair => "repair",
        TriggerKind::Retry => "retry",
    }
}

pub(crate) fn date_state(state: DateState) -> &'static str {
    match state {
        DateState::Unspecified => "unknown",
        DateState::Missing => "missing",
        DateState::Stale => "stale",
        DateState::Published => "published",
        DateState::NoSource => "no_source",
    }
}

pub(crate) fn jobs_table(jobs: &[Job]) -> String {
    let rows = jobs.iter().map(|job| {
        let last = job.last_run.as_ref().map_or("-".to_owned(), |run| {
            format!("{} {}", state_name(run.state()), short(run.submitted_at))
        });
        let next = match job.paused {
            true => "paused".to_owned(),
            false => short(job.next_at),
        };
        vec![job.name.clone(), job.revision.to_string(), next, last]
    });
    table::of_texts(&["job", "revision", "next run", "last run"], rows)
}

pub(crate) fn job_text(job: &Job) -> String {
    let mut text = format!(
        "{}, revision {}, applied {}\n",
        job.name,
        job.revision,
        short(job.applied_at)
    );
    match (job.paused, job.next_at) {
        (true, _) => text.push_str("paused\n"),
        (false, Some(at)) => _ = writeln!(text, "next run {}", short(Some(at))),
        (false, None) => text.push_str("runs on demand only\n"),
    }
    if let Some(run) = &job.last_run {
        _ = writeln!(text, "last run {}: {}", run.id, state_name(run.state()));
    }
    let mut set: Vec<_> = job.set.iter().collect();
    set.sort();
    for (key, value) in set {
        _ = writeln!(text, "{{{key}}} is {value}");
    }
    _ = write!(text, "\n{}", job.spec.trim_end());
    text
}

fn dates(run: &RunSummary) -> String {
    match (run.from.as_str(), run.to.as_str()) {
        ("", _) => "-".to_owned(),
        (from, to) if from == to || to.is_empty() => from.to_owned(),
        (from, to) => format!("{from} … {to}"),
    }
}

fn job_of(run: &RunSummary) -> &str {
    match run.job.as_str() {
        "" => "(generate)",
        job => job,
    }
}

fn state_of(run: &RunSummary) -> String {
    let late = if run.late { ", late" } else { "" };
    format!("{}{late}", state_name(run.state()))
}

pub(crate) fn runs_table(runs: &[RunSummary]) -> String {
    let rows = runs.iter().map(|run| {
        let took = seconds_between(run.started_at, run.finished_at);
        vec![
            run.id.clone(),
            job_of(run).to_owned(),
            dates(run),
            state_of(run),
            trigger_name(run.trigger()).to_owned(),
            short(run.submitted_at),
            took.map_or("-".to_owned(), |took| format!("{took:.1} s")),
        ]
    });
    let columns = [
        "run",
        "job",
        "dates",
        "state",
        "trigger",
        "submitted",
        "took",
    ];
    table::of_texts(&columns, rows)
}

pub(crate) fn run_text(run: &Run) -> String {
    let summary = run.summary.clone().unwrap_or_default();
    let mut text = format!("run {}\n", summary.id);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() && value != "-" {
            _ = writeln!(text, "{name:<13} {value}");
        }
    };
    line("job", job_of(&summary).to_owned());
    line("dates", dates(&summary));
    line("state", state_of(&summary));
    line("error", summary.error.clone());
    line("trigger", trigger_name(summary.trigger()).to_owned());
    line("backfill", summary.backfill.clone());
    line("repeats", summary.retry_of.clone());
    line("submitted by", run.submitted_by.clone());
    line("submitted", short(summary.submitted_at));
    line("started", short(summary.started_at));
    line("finished", short(summary.finished_at));
    line("due", short(summary.fire_at));
    line("deadline", short(summary.deadline));
    if let Some(read) = &run.progress {
        line(
            "progress",
            format!(
                "{} of {} files, {} rows, {} read",
                read.files_done,
                read.files,
                human::count(read.rows),
                human::bytes(read.bytes)
            ),
        );
    }
    for (number, attempt) in run.attempts.iter().enumerate() {
        let took = seconds_between(attempt.started_at, attempt.finished_at);
        let took = took.map_or(String::new(), |took| format!(", {took:.1} s"));
        let reason = match attempt.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let took = match attempt.interrupted.as_str() {
            "" => took,
            interrupted => format!("{took}, {}", interrupted.replace('_', " ")),
        };
        line(
            &format!("attempt {}", number + 1),
            format!("{}{took}{reason}", short(attempt.started_at)),
        );
    }
    if !run.dates.is_empty() {
        let rows = run.dates.iter().map(|date| {
            vec![
                date.date.clone(),
                date.outcome.clone(),
                match date.generation {
                    0 => "-".to_owned(),
                    generation => generation.to_string(),
                },
                date.rows.to_string(),
            ]
        });
        let columns = ["date", "outcome", "generation", "rows"];
        text.push_str(&table::of_texts(&columns, rows));
    }
    text.trim_end().to_owned()
}

/// A line for each event.
pub(crate) fn events_text<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let lines = events.into_iter().map(|event| {
        let at = event.at.map_or("-".to_owned(), |_| short(event.at));
        format!("{at}  {}", event.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn dates_table(dates: &[DateStatus]) -> String {
    let rows = dates.iter().map(|date| {
        let mut why = date.reason.clone();
        if date.last_run_failed {
            let and = if why.is_empty() { "" } else { ", " };
            why.push_str(and);
            why.push_str("last run failed");
        }
        vec![
            date.date.clone(),
            date_state(date.state()).replace('_', " "),
            match date.generation {
                0 => "-".to_owned(),
                generation => generation.to_string(),
            },
            why,
        ]
    });
    table::of_texts(&["date", "state", "generation", "why"], rows)
}

pub(crate) fn executors_table(executors: &[Executor]) -> String {
    let rows = executors.iter().map(|executor| {
        vec![
            executor.id.clone(),
            executor.address.clone(),
            format!("{} of {}", executor.busy_slots, executor.slots),
            match executor.memory_bytes {
                0 => "-".to_owned(),
                bytes => human::bytes(bytes),
            },
            short(executor.last_heartbeat_at),
        ]
    });
    let columns = ["executor", "address", "busy", "memory", "last heard of"];
    table::of_texts(&columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_what_they_should() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let run = RunSummary {
            id: "0190".into(),
            job: "shop".into(),
            state: RunState::Running.into(),
            trigger: TriggerKind::Schedule.into(),
            from: "2026-01-01".into(),
            to: "2026-01-03".into(),
            submitted_at: at(60),
            started_at: at(61),
            finished_at: at(63),
            late: true,
            ..RunSummary::default()
        };
        let text = runs_table(std::slice::from_ref(&run));
        for part in [
            "0190",
            "shop",
            "2026-01-01 … 2026-01-03",
            "running, late",
            "schedule",
            "1970-01-01 00:01:00Z",
            "2.0 s",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = run_text(&Run {
            summary: Some(run),
            ..Run::default()
        });
        assert!(
            !text.contains("deadline") && text.contains("started"),
            "{text}"
        );
    }
}
