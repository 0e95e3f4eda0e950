//! Applied jobs.

use std::collections::BTreeMap;

use chrono::Utc;
use rankmill_jobs::spec::{Params, Schedule, Spec, parse};

use super::{Caller, Service};
use crate::calendar::next_firing;
use crate::core::{Core, JobEntry, no_job};
use crate::error::{Error, Result};
use crate::model::{Job, JobView};

pub(super) async fn apply(
    service: &Service,
    caller: &Caller,
    text: &str,
    set: BTreeMap<String, String>,
) -> Result<JobView> {
    let core = service.core()?;
    let params = Params::new(&core.lake, set.clone());
    let spec = parse_spec(text, "spec", &params)?;
    service.check_access(caller, &spec, &params)?;
    check_caller(service, &core, caller, &spec.name)?;
    let now = Utc::now();
    let entry = core
        .write_job(&spec.name, |before| {
            let same_schedule =
                |job: &&Job| schedule_of(&core, job).is_some_and(|before| before == spec.schedule);
            Ok(Job {
                name: spec.name.clone(),
                spec: text.to_owned(),
                set: set.clone(),
                paused: before.is_some_and(|job| job.paused),
                revision: before.map_or(0, |job| job.revision) + 1,
                applied_at: now,
                fired_until: before
                    .filter(same_schedule)
                    .map_or(now, |job| job.fired_until),
            })
        })
        .await?;
    tracing::info!(job = entry.job.name, by = caller.name, "applied");
    Ok(view(&core, &entry))
}

/// The schedule of a job as it was; none if it can't be told any more.
fn schedule_of(core: &Core, job: &Job) -> Option<Option<Schedule>> {
    let params = Params::new(&core.lake, job.set.clone());
    let spec = parse(&job.spec, &job.name, &params).ok()?;
    Some(spec.schedule)
}

pub(super) fn list(core: &Core) -> Vec<JobView> {
    let entries = core.jobs();
    entries.iter().map(|entry| view(core, entry)).collect()
}

pub(super) fn show(core: &Core, name: &str) -> Result<JobView> {
    Ok(view(core, &*core.job(name)?))
}

pub(super) async fn set_paused(
    service: &Service,
    caller: &Caller,
    name: &str,
    paused: bool,
) -> Result<JobView> {
    let core = service.core()?;
    check_caller(service, &core, caller, name)?;
    let now = Utc::now();
    let entry = core
        .write_job(name, |job| {
            let mut job = job.ok_or_else(|| no_job(name))?.clone();
            if job.paused && !paused {
                job.fired_until = job.fired_until.max(now);
            }
            job.paused = paused;
            Ok(job)
        })
        .await?;
    tracing::info!(job = name, paused, by = caller.name, "paused or resumed");
    Ok(view(&core, &entry))
}

pub(super) async fn delete(service: &Service, caller: &Caller, name: &str) -> Result<()> {
    let core = service.core()?;
    check_caller(service, &core, caller, name)?;
    core.remove_job(name).await?;
    tracing::info!(job = name, by = caller.name, "deleted");
    Ok(())
}

/// Whether a caller that is held to some places may change the job of a name, if there is one.
pub(super) fn check_caller(
    service: &Service,
    core: &Core,
    caller: &Caller,
    name: &str,
) -> Result<()> {
    if caller.access.is_none() {
        return Ok(());
    }
    match core.job(name) {
        Ok(entry) => {
            let (spec, params) = entry.spec()?;
            service.check_access(caller, spec, params)
        }
        Err(_) => Ok(()),
    }
}

/// Parses a spec that came with a request.
pub(super) fn parse_spec(text: &str, origin: &str, params: &Params) -> Result<Spec> {
    parse(text, origin, params).map_err(|error| Error::Job(error.into()))
}

fn view(core: &Core, entry: &JobEntry) -> JobView {
    let schedule = entry
        .spec()
        .ok()
        .and_then(|(spec, _)| spec.schedule.as_ref());
    let schedule = schedule.filter(|_| !entry.job.paused);
    let name = Some(entry.job.name.as_str());
    let last_run = core.with_index(|index| index.newest(name, None).next().cloned());
    let now = Utc::now();
    JobView {
        job: entry.job.clone(),
        next_at: schedule
            .and_then(|schedule| next_firing(schedule, now))
            .map(|firing| firing.at),
        last_run: last_run.map(|run| run.at(now)),
    }
}
