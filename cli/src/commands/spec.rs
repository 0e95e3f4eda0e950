//! `rankmill spec`: checks and prints specs.

use rankmill_jobs::explain;
use rankmill_jobs::shipped::{self, SHIPPED};
use rankmill_jobs::spec::json_schema;
use serde_json::json;

use crate::args::{Format, SpecArgs, SpecCommand};
use crate::environment::Environment;
use crate::outcome::Usage;
use crate::output;

pub(crate) async fn run(environment: &Environment, args: SpecArgs) -> anyhow::Result<u8> {
    match args.command {
        SpecCommand::Check { job: choice, date } => {
            let job = environment.job(&choice)?;
            if let Some(date) = date {
                let dates = [job.date(&date)?];
                // Planning touches every column and expression of the spec.
                explain(&environment.session()?, &job.spec, &job.params, &dates).await?;
            }
            match environment.format {
                Format::Table => output::line(format_args!("{}: ok", job.spec.name))?,
                Format::Json => output::line(format_args!(
                    "{}",
                    json!({ "job": job.spec.name, "ok": true })
                ))?,
            }
        }
        SpecCommand::Schema => output::line(format_args!("{:#}", json_schema()))?,
        SpecCommand::List => {
            for shipped in SHIPPED {
                output::line(format_args!("{}", shipped.name))?;
            }
        }
        SpecCommand::Show { name } => match shipped::find(&name) {
            Some(shipped) => output::line(format_args!("{}", shipped.yaml.trim_end()))?,
            None => {
                let names = SHIPPED.map(|shipped| shipped.name).join(", ");
                let wrong = format!("there is no shipped job '{name}'; shipped are {names}");
                return Err(Usage(wrong).into());
            }
        },
    }
    Ok(0)
}
