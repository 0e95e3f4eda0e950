//! What each date of a job needs.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use rankmill_engine::Session;
use rankmill_jobs::spec::{Params, Spec};
use rankmill_jobs::{Change, Inspection, Inspector, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Result;
use crate::model::{BackfillOnly, BackfillOrder};

/// Where a date stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateState {
    /// There is input, and nothing published.
    Missing,
    /// Published, but from other input, or by another spec or engine.
    Stale,
    /// Published from what is there now.
    Published,
    /// There is no input.
    NoSource,
}

/// What makes a date stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StaleReason {
    /// Files came, went or changed.
    Input,
    /// The spec, or a value of its placeholders, changed.
    Spec,
    /// Another version of rankmill.
    Engine,
}

/// A date of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DateStatus {
    /// The date.
    pub date: NaiveDate,
    /// Where it stands.
    pub state: DateState,
    /// Why it is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<StaleReason>,
    /// The generation that is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The newest run for it has failed.
    pub last_run_failed: bool,
}

/// Finds gaps by comparing what is there with what is published; nothing is written down. Cheap to
/// clone: clones share what they remember of commit points and footers, which is bounded.
#[derive(Clone)]
pub struct Gaps {
    inspector: Inspector,
}

/// Checks that share their listings, so that jobs that read the same source list it once. What
/// changes in between is seen by the next round.
pub struct Round {
    round: rankmill_jobs::Round,
}

impl Gaps {
    /// Remembers nothing yet.
    pub fn new(session: Session) -> Self {
        Self {
            inspector: Inspector::new(session),
        }
    }

    /// Where the dates of a job stand now, in their order: what a run of each date alone would
    /// find. Whether the newest run has failed is not looked into.
    ///
    /// # Errors
    /// Those on which such a run would fail before it computes.
    pub async fn check(
        &self,
        spec: &Spec,
        params: &Params,
        dates: &[NaiveDate],
    ) -> Result<Vec<DateStatus>> {
        self.round().check(spec, params, dates).await
    }

    /// A round of checks, for several jobs at about one time.
    pub fn round(&self) -> Round {
        Round {
            round: self.inspector.round(),
        }
    }
}

impl Round {
    /// As [`Gaps::check`].
    pub async fn check(
        &self,
        spec: &Spec,
        params: &Params,
        dates: &[NaiveDate],
    ) -> Result<Vec<DateStatus>> {
        let found = self.round.inspect(spec, params, dates).await?;
        Ok(found.into_iter().map(DateStatus::from).collect())
    }
}

impl From<Inspection> for DateStatus {
    fn from(found: Inspection) -> Self {
        let (state, reason) = match found.status {
            Status::NoSource => (DateState::NoSource, None),
            Status::Missing => (DateState::Missing, None),
            Status::Published => (DateState::Published, None),
            Status::Stale(Change::Spec) => (DateState::Stale, Some(StaleReason::Spec)),
            Status::Stale(Change::Input) => (DateState::Stale, Some(StaleReason::Input)),
            Status::Stale(Change::Engine) => (DateState::Stale, Some(StaleReason::Engine)),
        };
        Self {
            date: found.date,
            state,
            reason,
            generation: found.generation,
            last_run_failed: false,
        }
    }
}

/// The dates that a backfill takes, in the order in which it does. A date without input is never
/// among them.
pub fn choose(
    statuses: &[DateStatus],
    only: BackfillOnly,
    order: BackfillOrder,
) -> Vec<DateStatus> {
    let wanted = |status: &&DateStatus| match (only, status.state) {
        (_, DateState::NoSource) => false,
        (BackfillOnly::Needed, state) => state != DateState::Published,
        (BackfillOnly::Missing, state) => state == DateState::Missing,
        (BackfillOnly::Stale, state) => state == DateState::Stale,
        (BackfillOnly::Failed, _) => status.last_run_failed,
        (BackfillOnly::All, _) => true,
    };
    let mut chosen: Vec<DateStatus> = statuses.iter().filter(wanted).cloned().collect();
    match order {
        BackfillOrder::Newest => chosen.sort_by_key(|status| std::cmp::Reverse(status.date)),
        BackfillOrder::Oldest => chosen.sort_by_key(|status| status.date),
    }
    chosen
}

/// What has to be done, earliest first, where a ranking is compared with that of the day before:
/// the dates chosen, and every published one that follows on such a date, as it becomes stale
/// through it. `statuses` are in order.
pub(crate) fn with_followers(statuses: &[DateStatus], chosen: &[DateStatus]) -> Vec<DateStatus> {
    let chosen: BTreeSet<NaiveDate> = chosen.iter().map(|status| status.date).collect();
    let mut taken: Vec<DateStatus> = Vec::new();
    for status in statuses {
        let is_published = matches!(status.state, DateState::Published | DateState::Stale);
        let day_before = status.date.pred_opt();
        let follows = taken
            .last()
            .is_some_and(|last| Some(last.date) == day_before);
        if chosen.contains(&status.date) || (is_published && follows) {
            taken.push(status.clone());
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates from the first of 2026 on, in states given by letters, in capitals where the newest
    /// run has failed.
    fn statuses(letters: &str) -> Vec<DateStatus> {
        let first: NaiveDate = "2026-01-01".parse().unwrap();
        let dates = first.iter_days().zip(letters.chars());
        let status = |(date, letter): (NaiveDate, char)| DateStatus {
            date,
            state: match letter.to_ascii_lowercase() {
                'm' => DateState::Missing,
                's' => DateState::Stale,
                'p' => DateState::Published,
                _ => DateState::NoSource,
            },
            reason: None,
            generation: None,
            last_run_failed: letter.is_ascii_uppercase(),
        };
        dates.map(status).collect()
    }

    #[test]
    fn a_backfill_takes_what_it_was_told_to() {
        use BackfillOnly::{All, Failed, Missing, Needed, Stale};
        let days = |only, order| -> Vec<u32> {
            let chosen = choose(&statuses("mspnMSPN"), only, order);
            let day = |status: &DateStatus| chrono::Datelike::day(&status.date);
            chosen.iter().map(day).collect()
        };
        let oldest = |only| days(only, BackfillOrder::Oldest);
        assert_eq!(oldest(Needed), [1, 2, 5, 6]);
        assert_eq!(oldest(Missing), [1, 5]);
        assert_eq!(oldest(Stale), [2, 6]);
        assert_eq!(oldest(Failed), [5, 6, 7]);
        assert_eq!(oldest(All), [1, 2, 3, 5, 6, 7]);
        assert_eq!(days(Needed, BackfillOrder::Newest), [6, 5, 2, 1]);
    }

    #[test]
    fn what_is_compared_with_a_new_ranking_is_done_too() {
        use BackfillOnly::{Missing, Needed};
        let days = |letters, only| -> Vec<u32> {
            let statuses = statuses(letters);
            let chosen = choose(&statuses, only, BackfillOrder::Newest);
            let day = |status: &DateStatus| chrono::Datelike::day(&status.date);
            with_followers(&statuses, &chosen).iter().map(day).collect()
        };
        assert_eq!(days("mpmpp", Needed), [1, 2, 3, 4, 5]);
        assert_eq!(days("pmpnpp", Needed), [2, 3]);
        assert!(days("ppppp", Needed).is_empty());
        // What was not asked for is left out, unless it is published already.
        assert_eq!(days("mspsnm", Missing), [1, 2, 3, 4, 6]);
        assert_eq!(days("spsmsp", Missing), [4, 5, 6]);
    }

    #[test]
    fn every_finding_has_its_state() {
        let state = |status| {
            let found = Inspection {
                date: NaiveDate::default(),
                status,
                generation: Some(2),
            };
            let status = DateStatus::from(found);
            assert_eq!(
                (status.generation, status.last_run_failed),
                (Some(2), false)
            );
            (status.state, status.reason)
        };
        assert_eq!(state(Status::NoSource), (DateState::NoSource, None));
        assert_eq!(state(Status::Missing), (DateState::Missing, None));
        assert_eq!(state(Status::Published), (DateState::Published, None));
        for (change, reason) in [
            (Change::Spec, StaleReason::Spec),
            (Change::Input, StaleReason::Input),
            (Change::Engine, StaleReason::Engine),
        ] {
            assert_eq!(
                state(Status::Stale(change)),
                (DateState::Stale, Some(reason))
            );
        }
    }

    /// Handlers and loops spawn checks: this compiles only while their futures are `Send`.
    #[test]
    fn a_check_can_be_spawned() {
        fn is_send<T: Send>(_: impl FnOnce(Gaps, &'static Spec, &'static Params) -> T) {}
        is_send(|gaps, spec, params| async move { gaps.check(spec, params, &[]).await.is_ok() });
    }
}
