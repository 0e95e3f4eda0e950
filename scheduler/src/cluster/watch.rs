//! When to give a computation up and begin anew: a pure decision on what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What was seen of a computation and of the executors at one moment. Durations count from any
/// fixed moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sighting {
    /// When.
    pub(super) at: Duration,
    /// Tasks that have ended, over all stages and attempts; each ended task counts as progress.
    pub(super) tasks_ended: usize,
    /// Executors that run a task, or hold a result that is still needed.
    pub(super) involved: BTreeSet<String>,
    /// It has no task under way because other computations have the slots.
    pub(super) waits: bool,
    /// Every executor known, and when it was heard of last.
    pub(super) heard: BTreeMap<String, Duration>,
}

/// Watches one Ballista job.
#[derive(Debug)]
pub(super) struct Watch {
    executor_timeout: Duration,
    stall_timeout: Duration,
    moved_at: Duration,
    tasks_ended: usize,
    /// Every executor that was ever involved, and when it was heard of last. Ballista may
    /// forget a lost executor's tasks by itself, and then wait for ever all the same.
    heard: BTreeMap<String, Duration>,
}

/// Why a computation must begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// An executor that works for it is gone.
    ExecutorLost {
        /// Which.
        id: String,
    },
    /// An executor could not be reached for a while: a report of its may be lost, and Ballista
    /// would wait for it for ever.
    ExecutorCutOff {
        /// Which.
        id: String,
        /// How long.
        silent: Duration,
    },
    /// No task ended for too long.
    Stalled {
        /// How long.
        idle: Duration,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ExecutorLost { id } => write!(f, "executor {id} is lost"),
            Self::ExecutorCutOff { id, silent } => {
                write!(f, "executor {id} was cut off for {} s", silent.as_secs())
            }
            Self::Stalled { idle } => write!(f, "no task ended for {} s", idle.as_secs()),
        }
    }
}

impl Watch {
    /// Begins to watch a job submitted at `now`.
    pub(super) fn new(executor_timeout: Duration, stall_timeout: Duration, now: Duration) -> Self {
        Self {
            executor_timeout,
            stall_timeout,
            moved_at: now,
            tasks_ended: 0,
            heard: BTreeMap::new(),
        }
    }

    /// What is wrong, if anything. An executor that was silent for half of the time-out, and
    /// is heard of again, counts as cut off.
    pub(super) fn look(&mut self, seen: &Sighting) -> Option<Trouble> {
        if seen.tasks_ended != self.tasks_ended || seen.waits {
            self.tasks_ended = seen.tasks_ended;
            self.moved_at = seen.at;
        }
        for id in &seen.involved {
            let heard = seen.heard.get(id).copied().unwrap_or_default();
            self.heard.entry(id.clone()).or_insert(heard);
        }
        for (id, before) in &mut self.heard {
            let heard = match seen.heard.get(id).copied() {
                Some(heard) if seen.at.saturating_sub(heard) <= self.executor_timeout => heard,
                _ => return Some(Trouble::ExecutorLost { id: id.clone() }),
            };
            let silent = heard.saturating_sub(*before);
            *before = heard;
            if silent > self.executor_timeout / 2 {
                let id = id.clone();
                return Some(Trouble::ExecutorCutOff { id, silent });
            }
        }
        let idle = seen.at.saturating_sub(self.moved_at);
        (idle > self.stall_timeout).then_some(Trouble::Stalled { idle })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const STALL: Duration = Duration::from_secs(60);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(at: u64, tasks_ended: usize, heard: &[(&str, u64)]) -> Sighting {
        Sighting {
            at: s(at),
            tasks_ended,
            involved: ["a".to_owned()].into(),
            waits: false,
            heard: heard
                .iter()
                .map(|(id, at)| ((*id).to_owned(), s(*at)))
                .collect(),
        }
    }

    #[test]
    fn an_executor_that_vanishes_is_lost() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        assert_eq!(watch.look(&seen(1, 0, &[("a", 1)])), None);
        let lost = Some(Trouble::ExecutorLost { id: "a".into() });
        assert_eq!(watch.look(&seen(2, 0, &[("b", 2)])), lost);
    }

    #[test]
    fn an_executor_that_falls_silent_is_lost() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        assert_eq!(watch.look(&seen(9, 0, &[("a", 1)])), None);
        let lost = Some(Trouble::ExecutorLost { id: "a".into() });
        assert_eq!(watch.look(&seen(12, 0, &[("a", 1)])), lost);
    }

    #[test]
    fn an_executor_that_is_back_after_a_while_was_cut_off() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        assert_eq!(watch.look(&seen(1, 0, &[("a", 1)])), None);
        assert_eq!(watch.look(&seen(7, 0, &[("a", 1)])), None);
        let trouble = watch.look(&seen(8, 0, &[("a", 8)]));
        let cut = Trouble::ExecutorCutOff {
            id: "a".into(),
            silent: s(7),
        };
        assert_eq!(trouble, Some(cut));
    }

    #[test]
    fn a_lost_executor_that_ballista_has_forgotten_is_lost_all_the_same() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        assert_eq!(watch.look(&seen(1, 1, &[("a", 1), ("b", 1)])), None);
        let forgotten = Sighting {
            involved: ["b".to_owned()].into(),
            ..seen(2, 0, &[("b", 2)])
        };
        let lost = Some(Trouble::ExecutorLost { id: "a".into() });
        assert_eq!(watch.look(&forgotten), lost);
    }

    #[test]
    fn to_wait_for_others_is_not_to_stall() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        for at in 1..200 {
            let waiting = Sighting {
                waits: true,
                ..seen(at, 0, &[("a", at)])
            };
            assert_eq!(watch.look(&waiting), None);
        }
        for at in 200..=259 {
            assert_eq!(watch.look(&seen(at, 0, &[("a", at)])), None);
        }
        let stalled = Some(Trouble::Stalled { idle: s(61) });
        assert_eq!(watch.look(&seen(260, 0, &[("a", 260)])), stalled);
    }

    #[test]
    fn executors_that_are_not_involved_may_come_and_go() {
        let mut watch = Watch::new(TIMEOUT, STALL, s(0));
        assert_eq!(watch.look(&seen(1, 0, &[("a", 1), ("b", 1)])), None);
        assert_eq!(watch.look(&seen(2, 0, &[("a", 2)])), None);
    }

    proptest! {
        /// With regular heartbeats and a task ending in time there is never trouble; without
        /// any task ending there is, and not before the time-out.
        #[test]
        fn stalls_are_found_in_time(gaps in prop::collection::vec(1u64..120, 1..20)) {
            let mut watch = Watch::new(TIMEOUT, STALL, s(0));
            let (mut at, mut ended) = (0, 0);
            for gap in gaps {
                for _ in 0..gap {
                    at += 1;
                    let trouble = watch.look(&seen(at, ended, &[("a", at)]));
                    let idle = s(at) - watch.moved_at;
                    prop_assert_eq!(trouble.is_some(), idle > STALL, "{:?}", trouble);
                    if trouble.is_some() {
                        return Ok(());
                    }
                }
                ended += 1;
            }
        }
    }
}
