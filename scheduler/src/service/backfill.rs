//! Queuing runs for many dates.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{Days, NaiveDate, Utc};
use rankmill_jobs::spec::Spec;

use super::keys::{self, LedTo, Queued};
use super::submit::{MAX_DATES, check_range, date_of};
use super::{Caller, Lead, Service, query};
use crate::core::{Core, JobEntry};
use crate::error::Result;
use crate::gaps::{choose, with_followers};
use crate::model::{
    BackfillId, BackfillOnly, BackfillOrder, BackfillPlan, BackfillRequest, DateStatus, Run, RunId,
    RunKind, Trigger,
};

/// Days after the last one that are looked at together.
const DAYS_AHEAD: u64 = 31;

pub(super) async fn backfill(
    service: &Service,
    caller: &Caller,
    request: &BackfillRequest,
    key: Option<String>,
) -> Result<BackfillPlan> {
    let lead = service.leading()?;
    let entry = lead.core.job(&request.job)?;
    let (spec, params) = entry.spec()?;
    service.check_access(caller, spec, params)?;
    let Some(key) = key.filter(|_| !request.dry_run) else {
        let planned = plan(&lead, &entry, request).await?;
        if request.dry_run || planned.dates.is_empty() {
            return Ok(BackfillPlan {
                id: None,
                run_ids: Vec::new(),
                ..planned.into()
            });
        }
        return queue(&lead.core, &entry, caller, request, planned).await;
    };
    keys::check(&key)?;
    let digest = keys::digest(&("backfill", request))?;
    let core = &lead.core;
    let led_to = match keys::find(core, caller, &key, &digest).await? {
        Some(led_to) => led_to,
        None => {
            let planned = LedTo::Backfill(plan(&lead, &entry, request).await?);
            keys::claim(core, caller, &key, &digest, planned).await?
        }
    };
    let planned = match led_to {
        LedTo::Backfill(planned) => planned,
        LedTo::Run { run_id } => return Err(keys::used(&key, &run_id)),
    };
    queue(core, &entry, caller, request, planned).await
}

/// What is to be done.
async fn plan(lead: &Lead, entry: &JobEntry, request: &BackfillRequest) -> Result<Queued> {
    let (spec, _) = entry.spec()?;
    let in_order = spec.compares_ranks();
    let dates = dates(lead, spec, request).await?;
    let under_way = match in_order {
        // Runs of others don't keep its order.
        true => Vec::new(),
        false => same_work(&lead.core, entry, request),
    };
    let mut new = Vec::new();
    let run_of = |date: NaiveDate| {
        let known = under_way.iter().find(|run| covers(run, date));
        known.map_or_else(
            || {
                let id = RunId::new();
                new.push(id);
                id
            },
            |run| run.id,
        )
    };
    let run_ids = dates.iter().map(|status| status.date).map(run_of).collect();
    Ok(Queued {
        id: BackfillId::new(),
        in_order,
        run_ids,
        new,
        dates,
    })
}

/// The dates to do, in their order.
async fn dates(lead: &Lead, spec: &Spec, request: &BackfillRequest) -> Result<Vec<DateStatus>> {
    let from = date_of(spec, "from", &request.from)?;
    let to = date_of(spec, "to", &request.to)?;
    check_range(from, to)?;
    let job = &request.job;
    let mut statuses = query::gaps(lead, job, from, to).await?;
    if !spec.compares_ranks() {
        return Ok(choose(&statuses, request.only, request.order));
    }
    let chosen = choose(&statuses, request.only, BackfillOrder::Oldest);
    loop {
        let taken = with_followers(&statuses, &chosen);
        let last = statuses.last().map(|status| status.date);
        let reaches_the_end = last.is_some() && taken.last().map(|status| status.date) == last;
        let next = last.filter(|_| reaches_the_end && (statuses.len() as i64) < MAX_DATES);
        let Some(next) = next.and_then(|last| last.succ_opt()) else {
            return Ok(taken);
        };
        let until = next.checked_add_days(Days::new(DAYS_AHEAD - 1));
        statuses.extend(query::gaps(lead, job, next, until.unwrap_or(next)).await?);
    }
}

/// Runs that have not ended and do what the backfill would do for their dates.
fn same_work(core: &Core, entry: &JobEntry, request: &BackfillRequest) -> Vec<Arc<Run>> {
    let force = request.only == BackfillOnly::All;
    let same = |run: &Arc<Run>| match &run.kind {
        RunKind::Ranking {
            job,
            spec,
            set,
            force: forced,
            ..
        } => {
            let of_job = (job, spec, set) == (&entry.job.name, &entry.job.spec, &entry.job.set);
            of_job && (*forced || !force) && !run.cancel_requested
        }
        RunKind::Generate { .. } => false,
    };
    core.unfinished().into_iter().filter(same).collect()
}

/// Whether a run is still to come to a date.
fn covers(run: &Run, date: NaiveDate) -> bool {
    let is_done = run.dates.iter().any(|done| done.date == date);
    match &run.kind {
        RunKind::Ranking { from, to, .. } => (*from..=*to).contains(&date) && !is_done,
        RunKind::Generate { .. } => false,
    }
}

/// Queues what was planned, save what is there already.
async fn queue(
    core: &Core,
    entry: &JobEntry,
    caller: &Caller,
    request: &BackfillRequest,
    planned: Queued,
) -> Result<BackfillPlan> {
    let now = Utc::now();
    let new: HashSet<RunId> = planned.new.iter().copied().collect();
    let places = planned.dates.iter().zip(&planned.run_ids).zip(0..);
    let missing = places
        .filter(|((_, id), _)| new.contains(*id) && !core.with_index(|index| index.contains(**id)));
    let runs = missing.map(|((status, id), sequence)| {
        let kind = RunKind::Ranking {
            job: entry.job.name.clone(),
            spec: entry.job.spec.clone(),
            set: entry.job.set.clone(),
            from: status.date,
            to: status.date,
            force: request.only == BackfillOnly::All,
            allow_empty: false,
        };
        let trigger = Trigger::Backfill {
            id: planned.id,
            max_parallel: match planned.in_order {
                true => 1,
                false => request.max_parallel.max(1),
            },
            sequence,
        };
        Run {
            id: *id,
            submitted_by: caller.name.clone(),
            ..Run::new(kind, trigger, now)
        }
    });
    // One that exists already was queued when the same was asked before.
    core.queue_all(runs.collect()).await?;
    Ok(planned.into())
}

impl From<Queued> for BackfillPlan {
    fn from(planned: Queued) -> Self {
        Self {
            id: (!planned.new.is_empty()).then_some(planned.id),
            in_order: planned.in_order,
            dates: planned.dates,
            run_ids: planned.run_ids,
        }
    }
}
