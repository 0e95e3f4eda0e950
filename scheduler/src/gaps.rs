//! What each date of a job needs.

use chrono::NaiveDate;
use serde::Serialize;
use utoipa::ToSchema;

/// Where a date stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
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

// Placeholder: until the gap check is there.

use rankmill_engine::Session;
use rankmill_jobs::spec::{Params, Spec};

use crate::error::Result;
use crate::model::{BackfillOnly, BackfillOrder};

/// Placeholder.
#[derive(Clone)]
pub struct Gaps;

impl Gaps {
    /// Placeholder.
    pub fn new(_session: Session) -> Self {
        Self
    }

    /// Placeholder: everything is missing.
    pub async fn check(
        &self,
        _spec: &Spec,
        _params: &Params,
        dates: &[NaiveDate],
    ) -> Result<Vec<DateStatus>> {
        Ok(dates
            .iter()
            .map(|date| DateStatus {
                date: *date,
                state: DateState::Missing,
                reason: None,
                generation: None,
                last_run_failed: false,
            })
            .collect())
    }
}

/// Placeholder: all of them.
pub fn choose(
    statuses: &[DateStatus],
    _only: BackfillOnly,
    order: BackfillOrder,
) -> Vec<DateStatus> {
    let mut chosen = statuses.to_vec();
    if order == BackfillOrder::Newest {
        chosen.reverse();
    }
    chosen
}
