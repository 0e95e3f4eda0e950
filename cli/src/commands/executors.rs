//! `rankmill executors`: what a cluster computes with.

use rankmill_scheduler::proto::ListExecutorsRequest;
use serde_json::{Value, json};

use crate::args::{ExecutorsArgs, Format};
use crate::cluster::{Cluster, Repeat, executor_json, executors_table};
use crate::environment::Environment;
use crate::output;

pub(crate) async fn run(environment: &Environment, args: ExecutorsArgs) -> anyhow::Result<u8> {
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    let request = ListExecutorsRequest {};
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.list_executors(request).await
    });
    let answer = answer.await?;
    match environment.format {
        Format::Json => output::line(json!({
            "embedded": answer.embedded,
            "executors": answer.executors.iter().map(executor_json).collect::<Value>(),
        }))?,
        Format::Table if answer.embedded => {
            output::line("none: the scheduler computes in its own process")?;
        }
        Format::Table if answer.executors.is_empty() => {
            output::line("none yet; start one with `rankmill executor`")?;
        }
        Format::Table => output::line(executors_table(&answer.executors))?,
    }
    Ok(0)
}
