//! What becomes of a run whose scheduler is gone: a pure decision.

use chrono::{DateTime, Utc};

use super::runs::happened;
use crate::model::{Interruption, Run, RunState};
use crate::options::Limits;

/// Ends the attempt that goes on, if one does.
pub(crate) fn close_attempt(
    run: &mut Run,
    now: DateTime<Utc>,
    reason: Option<String>,
    interrupted: Option<Interruption>,
) {
    if let Some(attempt) = run.attempts.last_mut()
        && attempt.finished_at.is_none()
    {
        attempt.finished_at = Some(now);
        attempt.reason = reason;
        attempt.interrupted = interrupted;
    }
}

/// Puts a run of a scheduler that is gone back into the queue, or ends it if that was asked for,
/// or if it seems to take its schedulers down with it.
pub(crate) fn recover(run: &mut Run, limits: &Limits, now: DateTime<Utc>) {
    if run.state.is_final() {
        return;
    }
    let died = Interruption::SchedulerDied;
    if run.state != RunState::Queued {
        let reason = "the scheduler that ran it died";
        close_attempt(run, now, Some(reason.to_owned()), Some(died));
        run.state = RunState::Queued;
        run.not_before = None;
        happened(run, now, reason);
    }
    if run.cancel_requested {
        run.state = RunState::Cancelled;
        run.finished_at = Some(now);
        happened(run, now, "cancelled");
        return;
    }
    let deaths = run.attempts.iter().filter(|a| a.interrupted == Some(died));
    let deaths = deaths.count();
    if deaths > limits.max_interruptions as usize {
        let error = format!("{deaths} schedulers died while they ran it");
        happened(run, now, &error);
        run.state = RunState::Failed;
        run.finished_at = Some(now);
        run.error = Some(error);
    }
}
