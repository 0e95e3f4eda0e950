//! `rankmill backfill`: queues runs for the dates of a job that need it.

use rankmill_scheduler::proto::{self, BackfillOnly, BackfillResponse};
use serde_json::{Value, json};

use super::submit::{exit_code, new_key};
use crate::args::{BackfillArgs, Format, Only, Order};
use crate::cluster::{
    Cluster, Followed, Repeat, Watcher, date_status_json, dates_table, follow_aloud, run_json,
    state_name,
};
use crate::environment::Environment;
use crate::outcome::{FAILED, INTERRUPTED};
use crate::output;

pub(crate) async fn run(environment: &Environment, args: BackfillArgs) -> anyhow::Result<u8> {
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    let request = proto::BackfillRequest {
        job: args.job.clone(),
        from: args.from,
        to: args.to,
        only: BackfillOnly::from(args.only).into(),
        oldest_first: args.order == Order::Oldest,
        max_parallel: args.max_parallel,
        dry_run: args.dry_run,
        idempotency_key: new_key(),
    };
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.backfill(request).await
    });
    let plan = answer.await?;
    if args.wait && !plan.run_ids.is_empty() {
        return wait(environment, &cluster, &plan).await;
    }
    match environment.format {
        Format::Json => output::line(to_json(&plan))?,
        Format::Table => {
            if !plan.dates.is_empty() {
                output::line(dates_table(&plan.dates))?;
            }
            let dates = match plan.dates.len() {
                0 => "no date needs it".to_owned(),
                1 => "1 date".to_owned(),
                dates => format!("{dates} dates"),
            };
            let job = &args.job;
            output::line(match (plan.run_ids.is_empty(), plan.id.as_str()) {
                (true, _) => format!("{job}: {dates}; nothing was queued"),
                (false, "") => format!("{job}: {dates}, under way already; nothing was queued"),
                (false, id) => format!("{job}: {dates} queued as backfill {id}"),
            })?;
            if plan.in_order && plan.dates.len() > 1 {
                output::line(format_args!(
                    "{job} compares ranks with the day before: one date after the other, from the \
                     earliest on, and with them the published ones that follow"
                ))?;
            }
        }
    }
    Ok(0)
}

/// Follows the runs one after the other: they end in about this order.
async fn wait(
    environment: &Environment,
    cluster: &Cluster,
    plan: &BackfillResponse,
) -> anyhow::Result<u8> {
    let mut code = 0;
    let mut runs = Vec::new();
    for (id, date) in plan.run_ids.iter().zip(&plan.dates) {
        if !environment.quiet {
            eprintln!("{}: run {id}", date.date);
        }
        let mut watcher = Watcher::new(environment.quiet);
        let Followed::Ended(run) = follow_aloud(cluster, id, &mut watcher).await? else {
            return Ok(INTERRUPTED);
        };
        if exit_code(&run) != 0 {
            code = FAILED;
        }
        if environment.format == Format::Table {
            let state = run.summary.as_ref().map(|summary| summary.state());
            let state = state_name(state.unwrap_or_default());
            output::line(format_args!("{}  {id}  {state}", date.date))?;
        }
        runs.push(run_json(&run));
    }
    if environment.format == Format::Json {
        let mut value = to_json(plan);
        value["runs"] = runs.into();
        output::line(value)?;
    }
    Ok(code)
}

fn to_json(plan: &BackfillResponse) -> Value {
    json!({
        "id": (!plan.id.is_empty()).then_some(&plan.id),
        "dates": plan.dates.iter().map(date_status_json).collect::<Value>(),
        "run_ids": plan.run_ids,
        "in_order": plan.in_order,
    })
}

impl From<Only> for BackfillOnly {
    fn from(only: Only) -> Self {
        match only {
            Only::Needed => Self::Needed,
            Only::Missing => Self::Missing,
            Only::Stale => Self::Stale,
            Only::Failed => Self::Failed,
            Only::All => Self::All,
        }
    }
}
