//! `rankmill explain`: how a job would be computed.

use rankmill_jobs::explain;

use crate::args::{ExplainArgs, Format};
use crate::environment::Environment;
use crate::output;

pub(crate) async fn run(environment: &Environment, args: &ExplainArgs) -> anyhow::Result<u8> {
    let job = environment.job(&args.job)?;
    let dates = job.dates(&args.dates)?;
    let session = environment.session()?;
    let plan = explain(&session, &job.spec, &job.params, &dates).await?;
    match environment.format {
        Format::Table => output::line(format_args!("{plan}"))?,
        Format::Json => output::line(format_args!(
            "{}",
            serde_json::json!({ "job": job.spec.name, "plan": plan })
        ))?,
    }
    Ok(0)
}
