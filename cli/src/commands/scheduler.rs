//! `rankmill scheduler`: calendar, API and recovery of a cluster, or of one process.

use std::net::SocketAddr;
use std::sync::Arc;

use rankmill_scheduler::{
    Addresses, BackendOptions, LeaseOptions, Limits, Options, Stopped, api, cluster,
};
use serde_json::json;

use crate::args::{Format, SchedulerArgs};
use crate::environment::Environment;
use crate::generator::Generator;
use crate::nodes::{Stop, announce, host_name, start_anew, warn_of_open_ports};

/// Of one request to the API: a spec is a page of text.
const MAX_REQUEST_BYTES: usize = 4 << 20;

pub(crate) async fn run(environment: &Environment, args: &SchedulerArgs) -> anyhow::Result<u8> {
    // Before anything is begun that would have to be ended.
    let stop = Stop::new(args.until_stdin_ends)?;
    let options = options(environment, args)?;
    let run = |shutdown| Box::pin(rankmill_scheduler::run(options, shutdown));
    match stop.run(run).await.transpose()? {
        Some(Stopped::Shutdown) | None => Ok(0),
        Some(Stopped::LostLeadership) => {
            tracing::warn!("another scheduler leads now; starting anew as a standby");
            Err(start_anew())
        }
    }
}

fn options(environment: &Environment, args: &SchedulerArgs) -> anyhow::Result<Options> {
    let session = environment.session_options()?;
    let tls = args.api.tls_cert.clone().zip(args.api.tls_key.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let generator = Generator {
        threads: environment.threads,
    };
    let runs = &args.runs;
    Ok(Options {
        lake: environment.lake.clone(),
        instance: args
            .instance
            .clone()
            .unwrap_or_else(|| format!("{}-{}", host_name(), std::process::id())),
        api: api::Options {
            bind: args.api.bind,
            tokens: args.api.tokens.clone(),
            tls: tls.map(|(cert, key)| api::TlsFiles { cert, key }),
            max_request_bytes: MAX_REQUEST_BYTES,
            requests_per_second: args.api.max_requests_per_second,
        },
        advertise: args.api.advertise_url.clone(),
        backend: backend(args),
        session,
        limits: Limits {
            runs: runs.max_runs,
            background_runs: runs.max_background_runs,
            runs_per_job: runs.max_runs_per_job,
            max_attempts: runs.max_attempts,
            run_timeout: runs.run_timeout,
            dates_per_pass: runs.dates_per_pass,
            ..Limits::default()
        },
        lease: LeaseOptions::default(),
        allowed_prefixes: args.api.allow_prefix.clone(),
        generator: Arc::new(generator),
        announce: Some(Box::new(announcement(environment, scheme))),
    })
}

fn backend(args: &SchedulerArgs) -> BackendOptions {
    if args.embedded {
        return BackendOptions::Embedded;
    }
    let ballista = &args.ballista;
    warn_of_open_ports(ballista.cluster_bind, &args.node_tls);
    BackendOptions::Cluster(cluster::Options {
        bind: SocketAddr::new(ballista.cluster_bind, ballista.cluster_port),
        advertise: ballista.advertise.clone(),
        executor_timeout: ballista.executor_timeout,
        stall_timeout: ballista.stall_timeout,
        tls: args.node_tls.files(),
        ..cluster::Options::default()
    })
}

/// One line on stdout once the API listens.
fn announcement(
    environment: &Environment,
    scheme: &'static str,
) -> impl FnOnce(Addresses) + Send + use<> {
    let (lake, format) = (environment.lake.clone(), environment.format);
    move |addresses| {
        let api = format!("{scheme}://{}", addresses.api);
        match format {
            Format::Table => announce(format_args!("the API is at {api}; the lake is '{lake}'")),
            Format::Json => announce(json!({ "api": api, "lake": lake })),
        }
    }
}
