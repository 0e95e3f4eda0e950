//! `rankmill executor`: computes for a scheduler.

use rankmill_engine::SessionOptions;
use rankmill_executor::{Options, Stopped, run_until};

use crate::args::ExecutorArgs;
use crate::environment::Environment;
use crate::generator;
use crate::nodes::{Stop, start_anew, warn_of_open_ports};

pub(crate) async fn run(environment: &Environment, args: &ExecutorArgs) -> anyhow::Result<u8> {
    let stop = Stop::new(args.until_stdin_ends)?;
    warn_of_open_ports(args.bind, &args.node_tls);
    let slots = args.slots.map_or(environment.threads, |slots| slots.get());
    let options = Options {
        schedulers: args.scheduler.clone(),
        bind: args.bind,
        advertise: args.advertise.clone(),
        port: args.port,
        grpc_port: args.grpc_port,
        slots,
        memory_bytes: environment.operator_bytes(slots)?.map(|bytes| bytes as u64),
        work_dir: args.work_dir.clone(),
        tls: args.node_tls.files(),
        drain_timeout: args.drain_timeout,
        retry: SessionOptions::default().retry,
        workers: generator::workers(),
    };
    let run = |shutdown| Box::pin(run_until(options, shutdown));
    match stop.run(run).await.transpose()? {
        Some(Stopped::SchedulerLost) => {
            tracing::warn!("the scheduler is gone; starting anew to look for one");
            Err(start_anew())
        }
        // Shutdown, or asked for twice.
        Some(_) | None => Ok(0),
    }
}
