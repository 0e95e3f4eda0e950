//! Between the model and `rankmill.v1`.

mod request;

pub(super) use self::request::{backfill, idempotency_key, run_filter, run_id, submit};

use chrono::{DateTime, NaiveDate, Utc};
use prost_types::Timestamp;

use crate::model;
use crate::proto;
use crate::service::RunPage;

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        // Below 2·10⁹, in a leap second too.
        nanos: time.timestamp_subsec_nanos().min(999_999_999) as i32,
    }
}

fn date(date: Option<NaiveDate>) -> String {
    date.map_or_else(String::new, |date| date.to_string())
}

pub(super) fn job(view: model::JobView) -> proto::Job {
    let job = view.job;
    proto::Job {
        name: job.name,
        spec: job.spec,
        set: job.set.into_iter().collect(),
        paused: job.paused,
        revision: job.revision,
        applied_at: Some(timestamp(job.applied_at)),
        next_at: view.next_at.map(timestamp),
        last_run: view.last_run.map(summary),
        fired_until: Some(timestamp(job.fired_until)),
    }
}

fn run_state(state: model::RunState) -> proto::RunState {
    use model::RunState as M;
    use proto::RunState as P;
    match state {
        M::Queued => P::Queued,
        M::Running => P::Running,
        M::Publishing => P::Publishing,
        M::Succeeded => P::Succeeded,
        M::Failed => P::Failed,
        M::Cancelled => P::Cancelled,
        M::Fenced => P::Fenced,
    }
}

fn trigger_kind(trigger: &model::Trigger) -> proto::TriggerKind {
    use model::Trigger as M;
    use proto::TriggerKind as P;
    match trigger {
        M::Manual => P::Manual,
        M::Schedule { .. } => P::Schedule,
        M::Backfill { .. } => P::Backfill,
        M::Repair => P::Repair,
        M::Retry { .. } => P::Retry,
    }
}

fn summary(run: model::RunSummary) -> proto::RunSummary {
    let trigger = trigger_kind(&run.trigger);
    let mut summary = proto::RunSummary {
        id: run.id.to_string(),
        job: run.job.unwrap_or_default(),
        state: run_state(run.state).into(),
        trigger: trigger.into(),
        from: date(run.from),
        to: date(run.to),
        submitted_at: Some(timestamp(run.submitted_at)),
        started_at: run.started_at.map(timestamp),
        finished_at: run.finished_at.map(timestamp),
        attempts: run.attempts,
        late: run.late,
        error: run.error.unwrap_or_default(),
        deadline: run.deadline.map(timestamp),
        ..Default::default()
    };
    match run.trigger {
        model::Trigger::Manual | model::Trigger::Repair => {}
        model::Trigger::Schedule { fire_at } => summary.fire_at = Some(timestamp(fire_at)),
        model::Trigger::Backfill {
            id,
            max_parallel,
            sequence,
        } => {
            summary.backfill = id.to_string();
            summary.max_parallel = Some(max_parallel);
            summary.sequence = Some(sequence);
        }
        model::Trigger::Retry { of } => summary.retry_of = of.to_string(),
    }
    summary
}

/// As JSON has it.
fn interruption(interrupted: Option<model::Interruption>) -> String {
    use model::Interruption as M;
    let text = match interrupted {
        None => "",
        Some(M::SchedulerStopped) => "scheduler_stopped",
        Some(M::SchedulerDied) => "scheduler_died",
        Some(M::ClusterFailed) => "cluster_failed",
        Some(M::GaveWay) => "gave_way",
    };
    text.to_owned()
}

pub(super) fn run_page(page: RunPage) -> proto::ListRunsResponse {
    proto::ListRunsResponse {
        runs: page.runs.into_iter().map(summary).collect(),
        next_page_token: page.next_page_token.unwrap_or_default(),
    }
}

pub(super) fn run(view: model::RunView) -> proto::Run {
    let attempt = |attempt: model::Attempt| proto::Attempt {
        started_at: Some(timestamp(attempt.started_at)),
        finished_at: attempt.finished_at.map(timestamp),
        reason: attempt.reason.unwrap_or_default(),
        interrupted: interruption(attempt.interrupted),
    };
    let date = |date: model::DateResult| proto::DateResult {
        date: date.date.to_string(),
        outcome: date.outcome,
        generation: date.generation,
        rows: date.rows,
    };
    let event = |event: model::Event| proto::Event {
        at: Some(timestamp(event.at)),
        message: event.message,
    };
    proto::Run {
        attempts: view.attempts_made.into_iter().map(attempt).collect(),
        dates: view.dates.into_iter().map(date).collect(),
        events: view.events.into_iter().map(event).collect(),
        progress: view.progress.map(|progress| proto::Progress {
            files: progress.files,
            files_done: progress.files_done,
            rows: progress.rows,
            bytes: progress.bytes,
            tasks: progress.tasks,
            tasks_done: progress.tasks_done,
        }),
        submitted_by: view.submitted_by.unwrap_or_default(),
        skew: view
            .skew
            .and_then(|skew| serde_json::to_string(&skew).ok())
            .unwrap_or_default(),
        summary: Some(summary(view.summary)),
    }
}

pub(super) fn date_status(status: model::DateStatus) -> proto::DateStatus {
    use model::{DateState as M, StaleReason};
    use proto::DateState as P;
    let state = match status.state {
        M::Missing => P::Missing,
        M::Stale => P::Stale,
        M::Published => P::Published,
        M::NoSource => P::NoSource,
    };
    let reason = match status.reason {
        None => "",
        Some(StaleReason::Input) => "input",
        Some(StaleReason::Spec) => "spec",
        Some(StaleReason::Engine) => "engine",
    };
    proto::DateStatus {
        date: status.date.to_string(),
        state: state.into(),
        reason: reason.to_owned(),
        generation: status.generation.unwrap_or_default(),
        last_run_failed: status.last_run_failed,
    }
}

pub(super) fn backfill_plan(plan: model::BackfillPlan) -> proto::BackfillResponse {
    proto::BackfillResponse {
        id: plan.id.map_or_else(String::new, |id| id.to_string()),
        dates: plan.dates.into_iter().map(date_status).collect(),
        run_ids: plan.run_ids.iter().map(ToString::to_string).collect(),
        in_order: plan.in_order,
    }
}

pub(super) fn executor(executor: model::Executor) -> proto::Executor {
    proto::Executor {
        id: executor.id,
        address: executor.address,
        slots: executor.slots,
        busy_slots: executor.busy_slots,
        last_heartbeat_at: Some(timestamp(executor.last_heartbeat_at)),
        memory_bytes: executor.memory_bytes,
    }
}

#[cfg(test)]
mod tests;
