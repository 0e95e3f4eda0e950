//! What a cluster answers, as JSON for programs: the field names of its HTTP API. Times are
//! RFC 3339 in UTC; what isn't there is null.

use rankmill_scheduler::proto::{DateStatus, Executor, Job, Progress, Run, RunSummary};
use serde_json::{Value, json};

use super::text::{date_state, state_name, time, trigger_name};

/// `text`, or null where it is empty.
fn or_null(text: &str) -> Value {
    match text.is_empty() {
        true => Value::Null,
        false => text.into(),
    }
}

/// A job.
pub(crate) fn job_json(job: &Job) -> Value {
    json!({
        "name": job.name,
        "spec": job.spec,
        "set": job.set,
        "paused": job.paused,
        "revision": job.revision,
        "applied_at": time(job.applied_at),
        "fired_until": time(job.fired_until),
        "next_at": time(job.next_at),
        "last_run": job.last_run.as_ref().map(summary_json),
    })
}

/// A run in a list.
pub(crate) fn summary_json(run: &RunSummary) -> Value {
    json!({
        "id": run.id,
        "job": or_null(&run.job),
        "state": state_name(run.state()),
        "trigger": trigger_name(run.trigger()),
        "from": or_null(&run.from),
        "to": or_null(&run.to),
        "submitted_at": time(run.submitted_at),
        "started_at": time(run.started_at),
        "finished_at": time(run.finished_at),
        "attempts": run.attempts,
        "deadline": time(run.deadline),
        "late": run.late,
        "error": or_null(&run.error),
        "fire_at": time(run.fire_at),
        "backfill_id": or_null(&run.backfill),
        "max_parallel": run.max_parallel,
        "sequence": run.sequence,
        "retry_of": or_null(&run.retry_of),
    })
}

/// A run with all there is to know.
pub(crate) fn run_json(run: &Run) -> Value {
    let mut value = summary_json(&run.summary.clone().unwrap_or_default());
    value["submitted_by"] = or_null(&run.submitted_by);
    value["attempts_made"] = run
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "started_at": time(attempt.started_at),
                "finished_at": time(attempt.finished_at),
                "reason": or_null(&attempt.reason),
                "interrupted": or_null(&attempt.interrupted),
            })
        })
        .collect();
    value["dates"] = run
        .dates
        .iter()
        .map(|date| {
            json!({
                "date": date.date,
                "outcome": date.outcome,
                "generation": date.generation,
                "rows": date.rows,
            })
        })
        .collect();
    value["events"] = run
        .events
        .iter()
        .map(|event| json!({ "at": time(event.at), "message": event.message }))
        .collect();
    value["skew"] = serde_json::from_str(&run.skew).unwrap_or(Value::Null);
    value["progress"] = run.progress.as_ref().map_or(Value::Null, progress_json);
    value
}

fn progress_json(progress: &Progress) -> Value {
    json!({
        "files": progress.files,
        "files_done": progress.files_done,
        "rows": progress.rows,
        "bytes": progress.bytes,
        "tasks": progress.tasks,
        "tasks_done": progress.tasks_done,
    })
}

/// What a date needs.
pub(crate) fn date_status_json(date: &DateStatus) -> Value {
    json!({
        "date": date.date,
        "state": date_state(date.state()),
        "reason": or_null(&date.reason),
        "generation": (date.generation > 0).then_some(date.generation),
        "last_run_failed": date.last_run_failed,
    })
}

/// An executor.
pub(crate) fn executor_json(executor: &Executor) -> Value {
    json!({
        "id": executor.id,
        "address": executor.address,
        "slots": executor.slots,
        "busy_slots": executor.busy_slots,
        "last_heartbeat_at": time(executor.last_heartbeat_at),
        "memory_bytes": executor.memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use rankmill_scheduler::proto::{Attempt, DateResult, DateState, Event, RunState, TriggerKind};

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    /// Programs rely on these names.
    #[test]
    fn a_run() {
        let run = Run {
            summary: Some(RunSummary {
                id: "0190".into(),
                job: "shop".into(),
                state: RunState::Failed.into(),
                trigger: TriggerKind::Backfill.into(),
                from: "2026-01-01".into(),
                to: "2026-01-02".into(),
                submitted_at: at(0),
                started_at: at(1),
                finished_at: None,
                attempts: 1,
                late: false,
                error: "no disk".into(),
                deadline: at(5),
                fire_at: None,
                backfill: "b1".into(),
                max_parallel: Some(2),
                sequence: Some(0),
                retry_of: String::new(),
            }),
            attempts: vec![Attempt {
                started_at: at(1),
                finished_at: at(2),
                reason: "no disk".into(),
                interrupted: "cluster_failed".into(),
            }],
            dates: vec![DateResult {
                date: "2026-01-01".into(),
                outcome: "published".into(),
                generation: 3,
                rows: 10,
            }],
            events: vec![Event {
                at: at(1),
                message: "begun".into(),
            }],
            progress: None,
            submitted_by: String::new(),
            skew: r#"{"stages":[]}"#.into(),
        };
        let expected = json!({
            "id": "0190",
            "job": "shop",
            "state": "failed",
            "trigger": "backfill",
            "from": "2026-01-01",
            "to": "2026-01-02",
            "submitted_at": "1970-01-01T00:00:00Z",
            "started_at": "1970-01-01T00:00:01Z",
            "finished_at": null,
            "attempts": 1,
            "late": false,
            "error": "no disk",
            "deadline": "1970-01-01T00:00:05Z",
            "fire_at": null,
            "backfill_id": "b1",
            "max_parallel": 2,
            "sequence": 0,
            "retry_of": null,
            "submitted_by": null,
            "attempts_made": [{
                "started_at": "1970-01-01T00:00:01Z",
                "finished_at": "1970-01-01T00:00:02Z",
                "reason": "no disk",
                "interrupted": "cluster_failed",
            }],
            "dates": [{
                "date": "2026-01-01", "outcome": "published", "generation": 3, "rows": 10,
            }],
            "events": [{ "at": "1970-01-01T00:00:01Z", "message": "begun" }],
            "skew": { "stages": [] },
            "progress": null,
        });
        assert_eq!(run_json(&run), expected);
    }

    #[test]
    fn jobs_dates_and_executors() {
        let job = Job {
            name: "shop".into(),
            spec: "version: 1".into(),
            revision: 2,
            applied_at: at(0),
            fired_until: at(1),
            ..Job::default()
        };
        let expected = json!({
            "name": "shop", "spec": "version: 1", "set": {}, "paused": false, "revision": 2,
            "applied_at": "1970-01-01T00:00:00Z", "fired_until": "1970-01-01T00:00:01Z", "next_at": null, "last_run": null,
        });
        assert_eq!(job_json(&job), expected);
        let date = DateStatus {
            date: "2026-01-01".into(),
            state: DateState::Stale.into(),
            reason: "input".into(),
            generation: 4,
            last_run_failed: true,
        };
        let expected = json!({
            "date": "2026-01-01", "state": "stale", "reason": "input", "generation": 4,
            "last_run_failed": true,
        });
        assert_eq!(date_status_json(&date), expected);
        let executor = Executor {
            id: "e".into(),
            address: "127.0.0.1:7460".into(),
            slots: 2,
            busy_slots: 1,
            last_heartbeat_at: at(5),
            memory_bytes: 1024,
        };
        let expected = json!({
            "id": "e", "address": "127.0.0.1:7460", "slots": 2, "busy_slots": 1,
            "last_heartbeat_at": "1970-01-01T00:00:05Z", "memory_bytes": 1024,
        });
        assert_eq!(executor_json(&executor), expected);
    }
}
