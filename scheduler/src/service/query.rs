//! Lists and checks.

use std::collections::BTreeSet;

use chrono::{NaiveDate, Utc};

use super::submit::check_range;
use super::{Lead, RunFilter, RunPage};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::model::{DateStatus, RunId, RunState, RunSummary};

/// Runs on a page, unless asked for otherwise.
const PAGE: usize = 50;
/// Runs on a page at most.
const MAX_PAGE: usize = 1_000;

pub(super) fn runs(core: &Core, filter: &RunFilter) -> Result<RunPage> {
    let size = match filter.page_size as usize {
        0 => PAGE,
        size => size.min(MAX_PAGE),
    };
    let before = match filter.page_token.as_deref().filter(|t| !t.is_empty()) {
        None => None,
        Some(token) => Some(token.parse::<RunId>().map_err(|_| {
            Error::invalid("page_token", "it is not one that a page before has given")
        })?),
    };
    let wanted = |state: RunState| filter.states.is_empty() || filter.states.contains(&state);
    let now = Utc::now();
    core.with_index(|index| {
        let all = index.newest(filter.job.as_deref(), before);
        let mut found = all.filter(|run| wanted(run.state));
        let shown = found.by_ref().take(size).cloned();
        let runs: Vec<RunSummary> = shown.map(|run| run.at(now)).collect();
        let more = found.next().is_some();
        let last = runs.last().filter(|_| more);
        Ok(RunPage {
            next_page_token: last.map(|run| run.id.to_string()),
            runs,
        })
    })
}

pub(super) async fn gaps(
    lead: &Lead,
    job: &str,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<DateStatus>> {
    check_range(from, to)?;
    let entry = lead.core.job(job)?;
    let (spec, params) = entry.spec()?;
    let dates: Vec<NaiveDate> = from.iter_days().take_while(|date| *date <= to).collect();
    let mut statuses = lead.gaps.check(spec, params, &dates).await?;
    let dates: BTreeSet<NaiveDate> = dates.into_iter().collect();
    lead.core.with_index(|index| {
        let newest = index.newest_ended(job, &dates);
        for status in &mut statuses {
            let run = newest.get(&status.date);
            status.last_run_failed = run.is_some_and(|run| run.state == RunState::Failed);
        }
    });
    Ok(statuses)
}
