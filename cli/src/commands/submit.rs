//! `rankmill submit`: queues a run on a cluster.

use anyhow::bail;
use rankmill_scheduler::proto::submit_run_request::What;
use rankmill_scheduler::proto::{Run, RunState, SubmitRunRequest};

use crate::args::{Format, SubmitArgs};
use crate::cluster::{Cluster, Followed, Repeat, Watcher, follow_aloud, run_json, run_text};
use crate::environment::{Environment, spec_text};
use crate::load::LoadOptions;
use crate::outcome::{FAILED, INTERRUPTED, Usage};
use crate::output;

pub(crate) async fn run(environment: &Environment, args: &SubmitArgs) -> anyhow::Result<u8> {
    let request = request(environment, args)?;
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    let queued = submit(&cluster, request).await?;
    let id = id_of(&queued);
    if args.wait {
        if !environment.quiet {
            eprintln!("run {id}");
        }
        return wait_for(environment, &cluster, id).await;
    }
    match environment.format {
        Format::Table => output::line(format_args!("queued run {id}"))?,
        Format::Json => output::line(run_json(&queued))?,
    }
    Ok(0)
}

/// Queues a run. An answer that gets lost is asked for again: the idempotency key, which is made
/// up where the user gave none, keeps the run from being queued twice.
pub(crate) async fn submit(
    cluster: &Cluster,
    mut request: SubmitRunRequest,
) -> anyhow::Result<Run> {
    if request.idempotency_key.is_empty() {
        request.idempotency_key = new_key();
    }
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.submit_run(request).await
    });
    Ok(answer.await?)
}

/// A key that no other request has. With it, a request whose answer got lost can be asked again.
pub(crate) fn new_key() -> String {
    rankmill_scheduler::model::RunId::new().to_string()
}

pub(crate) fn id_of(run: &Run) -> &str {
    run.summary.as_ref().map_or("", |summary| &summary.id)
}

/// Follows a run until it has ended, and prints how.
pub(crate) async fn wait_for(
    environment: &Environment,
    cluster: &Cluster,
    id: &str,
) -> anyhow::Result<u8> {
    let mut watcher = Watcher::new(environment.quiet);
    let Followed::Ended(run) = follow_aloud(cluster, id, &mut watcher).await? else {
        return Ok(INTERRUPTED);
    };
    match environment.format {
        Format::Table => output::line(run_text(&run))?,
        Format::Json => output::line(run_json(&run))?,
    }
    Ok(exit_code(&run))
}

/// 1 if the run didn't succeed.
pub(crate) fn exit_code(run: &Run) -> u8 {
    let state = run.summary.as_ref().map(|summary| summary.state());
    match state {
        Some(RunState::Succeeded) => 0,
        _ => FAILED,
    }
}

fn request(environment: &Environment, args: &SubmitArgs) -> anyhow::Result<SubmitRunRequest> {
    if args.load.is_given() && !args.generate {
        bail!(Usage(
            "options of a generation, such as --rows, go with --generate".to_owned()
        ));
    }
    let what = match (&args.job, &args.spec) {
        _ if args.generate => What::Generate(generation(args)?),
        (_, Some(spec)) => {
            environment.parse(spec, &args.set)?;
            What::Spec(spec_text(spec)?)
        }
        (Some(job), None) => What::Job(job.clone()),
        (None, None) => bail!(Usage("give a job, --spec FILE or --generate".to_owned())),
    };
    let (from, to) = match (&args.date, &args.from, &args.to) {
        _ if args.generate => Default::default(),
        (Some(date), _, _) => (date.clone(), date.clone()),
        (None, Some(from), Some(to)) => (from.clone(), to.clone()),
        _ => bail!(Usage("give --date, or --from and --to".to_owned())),
    };
    Ok(SubmitRunRequest {
        what: Some(what),
        set: args.set.iter().cloned().collect(),
        from,
        to,
        force: args.force,
        allow_empty: args.allow_empty,
        idempotency_key: args.idempotency_key.clone().unwrap_or_default(),
    })
}

fn generation(args: &SubmitArgs) -> anyhow::Result<String> {
    let from = args.from.as_ref().map(|from| {
        let wrong = || Usage(format!("--from: '{from}' is not a date such as 2026-06-01"));
        from.parse().map_err(|_| wrong())
    });
    let load = LoadOptions {
        from: from.transpose()?,
        ..args.load.clone()
    };
    Ok(serde_json::to_string(&load)?)
}
