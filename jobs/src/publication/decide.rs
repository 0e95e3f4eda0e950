//! What a failed commit means, given what the store holds now. Pure: no I/O, no clock.

use super::RunId;
use super::commit::{Commit, CommitRef, Fingerprint};

/// What a run claims when it commits.
#[derive(Debug, Clone)]
pub(super) struct Claim<'a> {
    pub(super) run_id: RunId,
    /// One more than the epoch current when the run began.
    pub(super) epoch: u64,
    pub(super) fingerprint: &'a Fingerprint,
    /// Publish even if the same is current.
    pub(super) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The run did commit, as this generation: the answer was lost.
    Committed { generation: u64 },
    /// Another run published the same: there is nothing left to do.
    AlreadyCurrent { by: CommitRef },
    /// A run with a higher (epoch, run id) committed: this one must stop.
    Fenced { by: CommitRef },
    /// Nothing stands against another attempt.
    Retry,
}

/// Decides from the commit that is current now and from the commits that it follows, newest first,
/// down to the first generation that the run tried to become.
///
/// `Fenced` and `AlreadyCurrent` are final even while a write of ours is still under way. Every
/// write was conditional on a version that this function had let pass with `Retry` (or that the
/// run began with), so `current` is a later version, and a replaced version never comes back.
pub(super) fn decide(
    claim: &Claim<'_>,
    current: Option<&Commit>,
    earlier: &[CommitRef],
) -> Decision {
    let Some(current) = current else {
        return Decision::Retry;
    };
    // First: our commit may have been replaced since, by the very run that would fence us.
    let mine = std::iter::once(&current.id)
        .chain(earlier)
        .find(|commit| commit.run_id == claim.run_id);
    if let Some(commit) = mine {
        return Decision::Committed {
            generation: commit.generation,
        };
    }
    if !claim.force && current.covers(claim.fingerprint) {
        return Decision::AlreadyCurrent { by: current.id };
    }
    if (current.id.epoch, current.id.run_id) > (claim.epoch, claim.run_id) {
        return Decision::Fenced { by: current.id };
    }
    Decision::Retry
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::publication::commit::VERSION;

    fn fingerprint(version: u8) -> Fingerprint {
        Fingerprint {
            spec_hash: version.to_string(),
            engine_version: "1".to_owned(),
            inputs: Vec::new(),
        }
    }

    fn run_id(number: u8) -> RunId {
        Uuid::from_u128(number.into()).into()
    }

    /// A commit and those before it, newest first, from (epoch, run, fingerprint) oldest first.
    fn chain(commits: &[(u64, u8, u8)]) -> (Option<Commit>, Vec<CommitRef>) {
        let mut refs: Vec<CommitRef> = (1..)
            .zip(commits)
            .map(|(generation, &(epoch, run, _))| CommitRef {
                generation,
                epoch,
                run_id: run_id(run),
            })
            .collect();
        refs.reverse();
        let Some((&id, &(_, _, version))) = refs.first().zip(commits.last()) else {
            return (None, Vec::new());
        };
        let current = Commit {
            version: VERSION,
            job: String::new(),
            date: NaiveDate::default(),
            id,
            fingerprint: fingerprint(version),
            rows: 0,
            files: Vec::new(),
            committed_at: DateTime::UNIX_EPOCH,
            previous: refs.get(1).copied(),
            rolled_back_to: None,
            rejected: Vec::new(),
        };
        (Some(current), refs.split_off(1))
    }

    fn commits() -> impl Strategy<Value = Vec<(u64, u8, u8)>> {
        prop::collection::vec((1..6_u64, 0..6_u8, 0..3_u8), 0..5)
    }

    proptest! {
        #[test]
        fn a_run_in_the_chain_has_committed_and_no_other_has(
            commits in commits(), epoch in 1..6_u64, run in 0..8_u8, version in 0..3_u8,
            force: bool,
        ) {
            let (current, earlier) = chain(&commits);
            let fingerprint = fingerprint(version);
            let claim = Claim { run_id: run_id(run), epoch, fingerprint: &fingerprint, force };
            let decision = decide(&claim, current.as_ref(), &earlier);
            let held: Vec<u64> = (1..)
                .zip(&commits)
                .filter(|(_, commit)| commit.1 == run)
                .map(|(generation, _)| generation)
                .collect();
            match decision {
                Decision::Committed { generation } => prop_assert!(held.contains(&generation)),
                _ => prop_assert!(held.is_empty()),
            }
        }

        #[test]
        fn each_answer_has_its_reason(
            commits in commits(), epoch in 1..6_u64, run in 6..8_u8, version in 0..3_u8,
            force: bool,
        ) {
            let (current, earlier) = chain(&commits);
            let fingerprint = fingerprint(version);
            let claim = Claim { run_id: run_id(run), epoch, fingerprint: &fingerprint, force };
            let decision = decide(&claim, current.as_ref(), &earlier);
            let Some(current) = current else {
                prop_assert_eq!(decision, Decision::Retry);
                return Ok(());
            };
            let same = !force && current.fingerprint == fingerprint;
            let lower = (epoch, run_id(run)) < (current.id.epoch, current.id.run_id);
            let expected = match (same, lower) {
                (true, _) => Decision::AlreadyCurrent { by: current.id },
                (false, true) => Decision::Fenced { by: current.id },
                (false, false) => Decision::Retry,
            };
            prop_assert_eq!(decision, expected);
        }

        #[test]
        fn of_two_runs_at_most_one_fences_the_other(
            a in (1..6_u64, 0..6_u8), b in (1..6_u64, 0..6_u8),
        ) {
            prop_assume!(a.1 != b.1);
            let stops = |loser: (u64, u8), winner: (u64, u8)| {
                let (current, earlier) = chain(&[(winner.0, winner.1, 0)]);
                let fingerprint = fingerprint(1);
                let claim = Claim {
                    run_id: run_id(loser.1), epoch: loser.0, fingerprint: &fingerprint, force: true,
                };
                matches!(decide(&claim, current.as_ref(), &earlier), Decision::Fenced { .. })
            };
            prop_assert!(stops(a, b) != stops(b, a));
        }

        /// Runs that all begin at once and retry in any order: each ends, and what they commit
        /// only ever rises.
        #[test]
        fn a_race_ends_and_only_rises(order in prop::collection::vec(0..4_u8, 0..20)) {
            let mut log: Vec<(u64, u8, u8)> = Vec::new();
            let mut ended = [false; 4];
            // Everyone's turn comes in the end.
            for run in order.into_iter().chain(0..4).chain(0..4) {
                if ended[usize::from(run)] {
                    continue;
                }
                let (current, earlier) = chain(&log);
                let fingerprint = fingerprint(run);
                let claim = Claim {
                    run_id: run_id(run), epoch: 1, fingerprint: &fingerprint, force: false,
                };
                match decide(&claim, current.as_ref(), &earlier) {
                    Decision::Retry => log.push((1, run, run)),
                    _ => ended[usize::from(run)] = true,
                }
            }
            prop_assert_eq!(ended, [true; 4]);
            prop_assert!(log.windows(2).all(|pair| pair[0].1 < pair[1].1));
        }
    }

    #[test]
    fn what_was_rolled_back_from_is_not_published_again_unless_forced() {
        let (current, _) = chain(&[(1, 1, 0)]);
        let mut current = current.unwrap();
        current.rejected.push(fingerprint(1));
        for (force, retries) in [(false, false), (true, true)] {
            let claim = Claim {
                run_id: run_id(2),
                epoch: 2,
                fingerprint: &fingerprint(1),
                force,
            };
            let decision = decide(&claim, Some(&current), &[]);
            assert_eq!(decision == Decision::Retry, retries, "{decision:?}");
        }
    }
}
