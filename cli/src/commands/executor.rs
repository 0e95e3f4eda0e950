//! `rankmill executor`: computes for a scheduler.

use rankmill_executor::{Options, Stopped, run_until};

use crate::args::ExecutorArgs;
use crate::environment::Environment;
use crate::generator;
use crate::nodes::{Stop, start_anew, warn_of_open_ports};

pub(crate) async fn run(environment: &Environment, args: &ExecutorArgs) -> anyhow::Result<u8> {
    let stop = Stop::new(args.until_stdin_ends)?;
    warn_of_open_ports(args.bind, &args.node_tls);
    let session = environment.session_options()?;
    let options = Options {
        schedulers: args.scheduler.clone(),
        bind: args.bind,
        advertise: args.advertise.clone(),
        port: args.port,
        grpc_port: args.grpc_port,
        slots: args.slots.map_or(environment.threads, |slots| slots.get()),
        // Of its tasks, by its slots: the rest of the machine is not this process's alone.
        memory_bytes: environment.memory_bytes(),
        work_dir: args.work_dir.clone(),
        tls: args.node_tls.files(),
        drain_timeout: args.drain_timeout,
        retry: session.retry,
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
