//! What the end of an attempt means for its run: pure decisions.

use std::time::Duration;

use rankmill_engine as engine;
use rankmill_jobs as jobs;

use crate::error::{describe, scrub};
use crate::generate::NotGenerated;
use crate::metrics::FailureCause;
use crate::model::{DateResult, Interruption, Run, RunState, Trigger};
use crate::options::Limits;

/// Outcomes of a date, as records have them.
pub(super) const PUBLISHED: &str = "published";
pub(super) const ALREADY_CURRENT: &str = "already_current";
pub(super) const FENCED: &str = "fenced";
pub(super) const GAP: &str = "gap";

/// Why an attempt did not come to its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// For people.
    pub(super) reason: String,
    /// For the metrics.
    pub(super) cause: FailureCause,
    /// Whether another attempt may go better.
    pub(super) retryable: bool,
    /// It is not the run's own fault.
    pub(super) interrupted: Option<Interruption>,
}

/// What becomes of the run after a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// It has failed.
    Fail,
    /// Another attempt, not before this is over.
    Again(Duration),
}

impl Failure {
    /// Of a job's error.
    pub(super) fn of(error: &jobs::Error) -> Self {
        let lost = engine::ClusterFault::Executors;
        let lost = matches!(
            error,
            jobs::Error::Engine { source, .. }
                if matches!(**source, engine::Error::Cluster { cause, .. } if cause == lost)
        );
        let cause = match error {
            _ if lost => FailureCause::ExecutorLost,
            jobs::Error::InputChanged { .. } => FailureCause::InputChanged,
            jobs::Error::Verification { .. } | jobs::Error::Encode { .. } => {
                FailureCause::Publication
            }
            jobs::Error::Publication { source, .. } if source.retryable() => FailureCause::Store,
            jobs::Error::Publication { .. } => FailureCause::Publication,
            jobs::Error::Engine { source, .. } if source.retryable() => FailureCause::Store,
            jobs::Error::Engine { source, .. } => match **source {
                engine::Error::Compute(_) | engine::Error::Cluster { .. } => FailureCause::Other,
                _ => FailureCause::Input,
            },
            _ => FailureCause::Input,
        };
        Self {
            reason: describe(error),
            cause,
            retryable: error.retryable(),
            interrupted: lost.then_some(Interruption::ClusterFailed),
        }
    }

    /// Of a load generation.
    pub(super) fn of_generation(error: NotGenerated) -> Self {
        let NotGenerated { reason, retryable } = error;
        let cause = match retryable {
            true => FailureCause::Store,
            false => FailureCause::Other,
        };
        Self {
            cause,
            retryable,
            ..Self::other(scrub(&reason))
        }
    }

    /// The attempt took longer than it may.
    pub(super) fn timeout(after: Duration) -> Self {
        Self {
            reason: format!("it took longer than {} s", after.as_secs()),
            cause: FailureCause::Timeout,
            retryable: true,
            interrupted: None,
        }
    }

    /// It would read or write where it may not.
    pub(super) fn forbidden(reason: String) -> Self {
        Self {
            cause: FailureCause::Input,
            ..Self::other(reason)
        }
    }

    /// What it ran is at fault, and nothing is known to help. The reason is one that may be told.
    pub(super) fn other(reason: String) -> Self {
        Self {
            reason,
            cause: FailureCause::Other,
            retryable: false,
            interrupted: None,
        }
    }

    /// What becomes of the run, whose attempts include the one that failed. `chance` is any
    /// number from 0 to 1, to keep runs that failed together from coming back together.
    pub(super) fn next(&self, run: &Run, limits: &Limits, chance: f64) -> Next {
        let of_kind = |a: &&crate::model::Attempt| a.interrupted == self.interrupted;
        let tries = run.attempts.iter().filter(of_kind).count() as u32;
        let most = match self.interrupted {
            None => limits.max_attempts,
            Some(_) => limits.max_interruptions,
        };
        if !self.retryable || tries >= most {
            return Next::Fail;
        }
        Next::Again(backoff(limits, tries, chance))
    }
}

/// The wait after a number of failed tries: doubling, and up to a quarter longer by chance.
fn backoff(limits: &Limits, tries: u32, chance: f64) -> Duration {
    let doublings = tries.saturating_sub(1).min(20);
    let wait = limits.first_backoff.saturating_mul(1 << doublings);
    let wait = wait.min(limits.longest_backoff);
    wait.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0)
}

/// How a run that came to its end has ended, and why if not well.
///
/// A date without input is a failure where it is what the run is for: the newest date of a
/// scheduled run (those before it are looked at for late input only) and of a backfill or
/// repair, whose runs have one date. A run that somebody asked for has failed if none of its
/// dates has input.
pub(super) fn conclude(trigger: &Trigger, dates: &[DateResult]) -> (RunState, Option<String>) {
    let of = |outcome: &str| -> Vec<String> {
        let dates = dates.iter().filter(|date| date.outcome == outcome);
        dates.map(|date| date.date.to_string()).collect()
    };
    let fenced = of(FENCED);
    if !fenced.is_empty() {
        let reason = format!("a later run published first: {}", fenced.join(", "));
        return (RunState::Fenced, Some(reason));
    }
    let gaps = of(GAP);
    let failed = match trigger {
        Trigger::Manual | Trigger::Retry { .. } => !gaps.is_empty() && gaps.len() == dates.len(),
        Trigger::Schedule { .. } | Trigger::Backfill { .. } | Trigger::Repair => {
            dates.last().is_some_and(|date| date.outcome == GAP)
        }
    };
    let reason = (!gaps.is_empty()).then(|| format!("no input for {}", gaps.join(", ")));
    match failed {
        true => (RunState::Failed, reason),
        false => (RunState::Succeeded, reason),
    }
}

/// Puts in what became of a date. What this run has published stays published, also when a later
/// attempt finds it current.
pub(super) fn put_date(dates: &mut Vec<DateResult>, result: DateResult) {
    match dates.binary_search_by_key(&result.date, |date| date.date) {
        Ok(at) => {
            let before = &dates[at];
            let same = before.outcome == PUBLISHED
                && result.outcome == ALREADY_CURRENT
                && before.generation == result.generation;
            if !same {
                dates[at] = result;
            }
        }
        Err(at) => dates.insert(at, result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(outcomes: &[&str]) -> Vec<DateResult> {
        let result = |(day, outcome): (usize, &&str)| DateResult {
            date: chrono::NaiveDate::from_ymd_opt(2026, 1, 1 + day as u32).unwrap(),
            outcome: (*outcome).to_owned(),
            generation: 1,
            rows: 0,
        };
        outcomes.iter().enumerate().map(result).collect()
    }

    #[test]
    fn ends() {
        let scheduled = Trigger::Schedule {
            fire_at: chrono::DateTime::UNIX_EPOCH,
        };
        for (outcomes, manual, schedule) in [
            (vec![], RunState::Succeeded, RunState::Succeeded),
            (
                vec![PUBLISHED, ALREADY_CURRENT],
                RunState::Succeeded,
                RunState::Succeeded,
            ),
            (
                vec![GAP, PUBLISHED],
                RunState::Succeeded,
                RunState::Succeeded,
            ),
            (vec![PUBLISHED, GAP], RunState::Succeeded, RunState::Failed),
            (vec![GAP, GAP], RunState::Failed, RunState::Failed),
            (vec![FENCED, GAP], RunState::Fenced, RunState::Fenced),
        ] {
            let dates = dates(&outcomes);
            assert_eq!(conclude(&Trigger::Manual, &dates).0, manual, "{outcomes:?}");
            assert_eq!(conclude(&scheduled, &dates).0, schedule, "{outcomes:?}");
        }
        let (_, reason) = conclude(&Trigger::Manual, &dates(&[PUBLISHED, GAP]));
        assert_eq!(reason.unwrap(), "no input for 2026-01-02");
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = Limits::default();
        let seconds = |tries, chance| backoff(&limits, tries, chance).as_secs_f64();
        assert_eq!(seconds(1, 0.0), 1.0);
        assert_eq!(seconds(2, 0.0), 2.0);
        assert_eq!(seconds(2, 1.0), 2.5);
        assert_eq!(seconds(1_000, 0.0), 60.0);
    }

    #[test]
    fn published_stays_published() {
        let mut known = dates(&[PUBLISHED, GAP]);
        for result in dates(&[ALREADY_CURRENT, PUBLISHED]) {
            put_date(&mut known, result);
        }
        assert_eq!(known, dates(&[PUBLISHED, PUBLISHED]));
        let mut newer = dates(&[ALREADY_CURRENT]).remove(0);
        newer.generation = 2;
        put_date(&mut known, newer.clone());
        assert_eq!(known[0], newer);
    }

    #[test]
    fn a_lost_executor_is_not_the_runs_fault() {
        use engine::ClusterFault::{Executors, Plan, Transient};
        let failed = |cause| {
            Failure::of(&jobs::Error::Engine {
                job: "j".to_owned(),
                source: Box::new(engine::Error::Cluster {
                    reason: "an executor was lost".to_owned(),
                    cause,
                }),
            })
        };
        for (cause, told, retryable, interrupted) in [
            (Executors, FailureCause::ExecutorLost, true, true),
            (Transient, FailureCause::Store, true, false),
            (Plan, FailureCause::Other, false, false),
        ] {
            let failure = failed(cause);
            let by_cluster = failure.interrupted == Some(Interruption::ClusterFailed);
            assert_eq!(
                (failure.cause, failure.retryable, by_cluster),
                (told, retryable, interrupted)
            );
        }
        // What the cluster repeats of a store's answer is not written down.
        let told = Failure::of(&jobs::Error::Engine {
            job: "j".to_owned(),
            source: Box::new(engine::Error::Cluster {
                reason: "<Error><Code>No</Code><AWSAccessKeyId>AKID</AWSAccessKeyId></Error>"
                    .to_owned(),
                cause: Plan,
            }),
        });
        assert!(!told.reason.contains("AKID"), "{}", told.reason);
        assert_eq!(
            failed(Executors).reason,
            "j: computing failed\n  because: the cluster failed: an executor was lost"
        );
    }
}
