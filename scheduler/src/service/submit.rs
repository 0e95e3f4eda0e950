//! Queuing, repeating and stopping runs.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate, Utc};
use rankmill_engine::functions::TimeZone;
use rankmill_jobs::spec::{Params, Spec};
use serde::Serialize;

use super::jobs::{check_caller, parse_spec};
use super::keys::{self, LedTo};
use super::{Caller, Service};
use crate::core::{Core, Stop, happened};
use crate::error::{Error, Result};
use crate::model::{GENERATE, Run, RunId, RunKind, RunState, RunView, SubmitRun, Trigger};

/// Dates of one run or backfill.
pub(super) const MAX_DATES: i64 = 3_660;

pub(super) async fn submit(
    service: &Service,
    caller: &Caller,
    request: SubmitRun,
    key: Option<String>,
) -> Result<RunView> {
    let core = service.core()?;
    let new = || {
        let kind = kind_of(service, &core, caller, &request)?;
        Ok(Run::new(kind, Trigger::Manual, Utc::now()))
    };
    queue(&core, caller, key, &request, new).await
}

/// Queues a new run, or gives the one that the request has led to under its key.
async fn queue(
    core: &Core,
    caller: &Caller,
    key: Option<String>,
    request: &impl Serialize,
    new: impl Fn() -> Result<Run>,
) -> Result<RunView> {
    let Some(key) = key else {
        let run = Run {
            submitted_by: caller.name.clone(),
            ..new()?
        };
        return queue_once(core, run).await;
    };
    keys::check(&key)?;
    let digest = keys::digest(request)?;
    let known = core.with_index(|index| {
        let run = index.by_key(caller.name.as_deref(), &key)?;
        Some((run.summary.id, run.request_sha256.clone()))
    });
    if let Some((id, known)) = known {
        return match known.as_ref() == Some(&digest) {
            true => core.view(id).await,
            false => Err(keys::used(&key, &id)),
        };
    }
    // Only now: a date such as `yesterday` may be another one since the first request.
    let run = new()?;
    let led_to = LedTo::Run { run_id: run.id };
    let run_id = match keys::claim(core, caller, &key, &digest, led_to).await? {
        LedTo::Run { run_id } => run_id,
        LedTo::Backfill(other) => return Err(keys::used(&key, &other.id)),
    };
    let run = Run {
        id: run_id,
        idempotency_key: Some(key),
        request_sha256: Some(digest),
        submitted_by: caller.name.clone(),
        ..run
    };
    queue_once(core, run).await
}

/// Queues a run, or gives what there is of its id.
async fn queue_once(core: &Core, run: Run) -> Result<RunView> {
    let id = run.id;
    match core.queue(run).await? {
        Some(cell) => Ok(cell.now()),
        None => core.view(id).await,
    }
}

/// Checks a request and resolves what it leaves open.
fn kind_of(
    service: &Service,
    core: &Core,
    caller: &Caller,
    request: &SubmitRun,
) -> Result<RunKind> {
    let (text, set) = match (&request.job, &request.spec, &request.generate) {
        (Some(job), None, None) => {
            let entry = core.job(job)?;
            let mut set = entry.job.set.clone();
            set.extend(request.set.clone());
            (entry.job.spec.clone(), set)
        }
        (None, Some(spec), None) => (spec.clone(), request.set.clone()),
        (None, None, Some(options)) => {
            let unused = request.from.is_some() || request.to.is_some() || !request.set.is_empty();
            if unused {
                let reason = "dates and placeholders are for rankings; leave them out";
                return Err(Error::invalid(GENERATE, reason));
            }
            service.check_generation(caller, &core.lake, options)?;
            return Ok(RunKind::Generate {
                options: options.clone(),
            });
        }
        _ => {
            let reason = "give one of 'job', 'spec' and 'generate'";
            return Err(Error::invalid("job", reason));
        }
    };
    let origin = request.job.as_deref().unwrap_or("spec");
    let params = Params::new(&core.lake, set.clone());
    let spec = parse_spec(&text, origin, &params)?;
    service.check_access(caller, &spec, &params)?;
    if request.spec.is_some() {
        // It would count as a run of that job, and keep others from its dates.
        check_caller(service, core, caller, &spec.name)?;
    }
    let (from, to) = dates(&spec, request.from.as_deref(), request.to.as_deref())?;
    Ok(RunKind::Ranking {
        job: spec.name,
        spec: text,
        set,
        from,
        to,
        force: request.force,
        allow_empty: request.allow_empty,
    })
}

/// The first and the last date of a request.
pub(super) fn dates(
    spec: &Spec,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(NaiveDate, NaiveDate)> {
    let text = from.filter(|text| !text.is_empty()).ok_or_else(|| {
        let reason = "which date? Give one such as 2026-01-31, or today or yesterday";
        Error::invalid("from", reason)
    })?;
    let from = date_of(spec, "from", text)?;
    let to = match to.filter(|text| !text.is_empty()) {
        Some(text) => date_of(spec, "to", text)?,
        None => from,
    };
    check_range(from, to)?;
    Ok((from, to))
}

/// Whether a range of dates is one, and not too long.
pub(super) fn check_range(from: NaiveDate, to: NaiveDate) -> Result<()> {
    if to < from {
        let reason = format!("{to} lies before the first date, {from}");
        return Err(Error::invalid("to", reason));
    }
    if (to - from).num_days() >= MAX_DATES {
        let reason = format!("more than {MAX_DATES} dates at once");
        return Err(Error::invalid("to", reason));
    }
    Ok(())
}

/// Parses a date, `today` or `yesterday` in the zone of a spec.
pub(super) fn date_of(spec: &Spec, field: &str, text: &str) -> Result<NaiveDate> {
    let schedule = spec.schedule.as_ref();
    let zone = schedule.map_or(TimeZone::Asia__Seoul, |schedule| schedule.zone());
    let today = Utc::now().with_timezone(&zone).date_naive();
    match text {
        "today" => Ok(today),
        "yesterday" => Ok(today.checked_sub_days(Days::new(1)).unwrap_or(today)),
        _ => text.parse().map_err(|_| {
            let reason = format!("'{text}' is not a date such as 2026-01-31, today or yesterday");
            Error::invalid(field, reason)
        }),
    }
}

pub(super) async fn cancel(service: &Service, caller: &Caller, id: RunId) -> Result<RunView> {
    let core = service.core()?;
    let Some(cell) = core.active(id) else {
        check_run(service, &core, caller, &*core.read_run(id).await?)?;
        return core.view(id).await;
    };
    check_run(service, &core, caller, &cell.run())?;
    core.check_open()?;
    let now = Utc::now();
    let by = caller
        .name
        .as_deref()
        .map_or(String::new(), |name| format!(" by {name}"));
    let run = core
        .update(&cell, |run| {
            if run.state.is_final() || run.cancel_requested {
                return;
            }
            run.cancel_requested = true;
            happened(run, now, format!("cancel requested{by}"));
            if run.state == RunState::Queued {
                run.state = RunState::Cancelled;
                run.finished_at = Some(now);
            }
        })
        .await?;
    cell.stop.send_replace(Some(Stop::Cancel));
    Ok(run.view(cell.progress(), Utc::now()))
}

pub(super) async fn retry(
    service: &Service,
    caller: &Caller,
    id: RunId,
    key: Option<String>,
) -> Result<RunView> {
    let core = service.core()?;
    let run = core.read_run(id).await?;
    check_run(service, &core, caller, &run)?;
    if !run.state.is_final() {
        let reason = format!("run {id} goes on; cancel it first, or wait for its end");
        return Err(Error::Conflict { reason });
    }
    if let RunKind::Generate { options } = &run.kind {
        service.check_generation(caller, &core.lake, options)?;
    }
    let again = || {
        let trigger = Trigger::Retry { of: id };
        Ok(Run::new(run.kind.clone(), trigger, Utc::now()))
    };
    queue(&core, caller, key, &("retry", id), again).await
}

/// Whether a caller may repeat or stop a run: what it touches must be what the caller may touch.
fn check_run(service: &Service, core: &Core, caller: &Caller, run: &Run) -> Result<()> {
    let RunKind::Ranking { job, spec, set, .. } = &run.kind else {
        return service.check_lake(caller, &core.lake);
    };
    let set: BTreeMap<String, String> = set.clone();
    let params = Params::new(&core.lake, set);
    let spec = parse_spec(spec, job, &params)?;
    service.check_access(caller, &spec, &params)
}
