//! Queuing runs for many dates.

use chrono::Utc;

use super::submit::{check_range, date_of};
use super::{Caller, Service, query};
use crate::error::Result;
use crate::gaps::choose;
use crate::model::{
    BackfillId, BackfillOnly, BackfillPlan, BackfillRequest, Run, RunId, RunKind, Trigger,
};

pub(super) async fn backfill(
    service: &Service,
    caller: &Caller,
    request: &BackfillRequest,
) -> Result<BackfillPlan> {
    let lead = service.leading()?;
    let entry = lead.core.job(&request.job)?;
    let (spec, params) = entry.spec()?;
    service.check_access(caller, spec, params)?;
    let from = date_of(spec, "from", &request.from)?;
    let to = date_of(spec, "to", &request.to)?;
    check_range(from, to)?;
    let statuses = query::gaps(&lead, &request.job, from, to).await?;
    let dates = choose(&statuses, request.only, request.order);
    if request.dry_run || dates.is_empty() {
        return Ok(BackfillPlan {
            id: None,
            dates,
            run_ids: Vec::new(),
        });
    }
    let id = BackfillId::new();
    let now = Utc::now();
    let runs = dates.iter().zip(0..).map(|(status, sequence)| {
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
            id,
            max_parallel: request.max_parallel.max(1),
            sequence,
        };
        Run {
            submitted_by: caller.name.clone(),
            ..Run::new(kind, trigger, now)
        }
    });
    let runs: Vec<Run> = runs.collect();
    let run_ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    lead.core.queue_all(runs).await?;
    Ok(BackfillPlan {
        id: Some(id),
        dates,
        run_ids,
    })
}
