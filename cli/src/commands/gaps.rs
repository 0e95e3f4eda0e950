//! `rankmill gaps`: what each date of a job needs.

use rankmill_scheduler::proto::CheckGapsRequest;
use serde_json::Value;

use crate::args::{Format, GapsArgs};
use crate::cluster::{Cluster, Repeat, date_status_json, dates_table};
use crate::environment::Environment;
use crate::output;

pub(crate) async fn run(environment: &Environment, args: GapsArgs) -> anyhow::Result<u8> {
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    let request = CheckGapsRequest {
        job: args.job,
        from: args.from,
        to: args.to,
    };
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.check_gaps(request).await
    });
    let dates = answer.await?.dates;
    match environment.format {
        Format::Table => output::line(dates_table(&dates))?,
        Format::Json => output::line(dates.iter().map(date_status_json).collect::<Value>())?,
    }
    Ok(0)
}
