//! `rankmill skew`: hot keys and uneven tasks, of a run or of any dataset.

use std::path::Path;

use anyhow::Context;
use rankmill_engine::skew::{SkewReport, skew_of_source};
use rankmill_engine::source::{Format as SourceFormat, SourcePath};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runs::show;
use crate::args::{Format, SkewArgs, SkewFormat};
use crate::cluster::Cluster;
use crate::environment::Environment;
use crate::outcome::{Usage, describe};
use crate::output;
use crate::skew::{full, of_source};

pub(crate) async fn run(environment: &Environment, args: &SkewArgs) -> anyhow::Result<u8> {
    match (&args.run, &args.source, &args.column) {
        (Some(run), _, _) => of_run(environment, args, run).await?,
        (None, Some(source), Some(column)) => {
            of_dataset(environment, args, source, column).await?;
        }
        // The parser lets nothing else pass.
        _ => {}
    }
    Ok(0)
}

async fn of_run(environment: &Environment, args: &SkewArgs, run: &str) -> anyhow::Result<()> {
    if run == "-" || is_file(run) {
        return of_printed(environment, run);
    }
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    let run = show(&cluster, run).await?;
    let report = report_of(&run.skew)?;
    match environment.format {
        Format::Table => output::line(full(&report.unwrap_or_default())),
        Format::Json => output::line(report.map_or(Value::Null, |report| json!(report))),
    }
}

/// Whether a file is meant: ids of runs have neither folders nor endings.
fn is_file(run: &str) -> bool {
    run.contains(['/', '.']) || Path::new(run).exists()
}

/// A run in one process leaves no record: what it printed is one, a JSON object for each job.
fn of_printed(environment: &Environment, path: &str) -> anyhow::Result<()> {
    let text = match path {
        "-" => std::io::read_to_string(std::io::stdin()).context("the input"),
        path => std::fs::read_to_string(path).with_context(|| path.to_owned()),
    };
    let text = text.map_err(|e| usage(&e))?;
    let mut reports = Vec::new();
    for printed in serde_json::Deserializer::from_str(&text).into_iter::<Printed>() {
        let printed =
            printed.with_context(|| format!("{path}: not what `run --format json` prints"));
        reports.push(printed.map_err(|e| usage(&e))?);
    }
    if reports.is_empty() {
        return Err(Usage(format!("{path} is empty")).into());
    }
    let single = reports.len() == 1;
    for Printed { job, skew } in reports {
        if environment.format == Format::Json {
            output::line(json!(skew))?;
            continue;
        }
        let text = full(&skew.unwrap_or_default());
        match single {
            true => output::line(text)?,
            false => output::line(format_args!("{job}\n\n{text}\n"))?,
        }
    }
    Ok(())
}

/// What is looked at of what a run prints.
#[derive(Deserialize)]
struct Printed {
    job: String,
    skew: Option<SkewReport>,
}

fn usage(error: &anyhow::Error) -> anyhow::Error {
    Usage(describe(error)).into()
}

/// What a run's record says; none before anything was computed.
pub(crate) fn report_of(json: &str) -> anyhow::Result<Option<SkewReport>> {
    match json {
        "" => Ok(None),
        json => serde_json::from_str(json).context("the scheduler's skew report"),
    }
}

async fn of_dataset(
    environment: &Environment,
    args: &SkewArgs,
    source: &str,
    column: &str,
) -> anyhow::Result<()> {
    let format = match args.source_format {
        SkewFormat::Parquet => SourceFormat::Parquet,
        SkewFormat::Json => SourceFormat::Json,
        SkewFormat::Csv => SourceFormat::Csv {
            delimiter: b',',
            header: true,
        },
    };
    let session = environment.session()?;
    let path = SourcePath::parse(source)?;
    let files = args.files.get();
    let skew = skew_of_source(&session, &path, format, column, files).await?;
    match environment.format {
        Format::Table => output::line(of_source(&skew)),
        Format::Json => output::line(json!({
            "found": skew.found,
            "zipf_exponent": skew.found.zipf_exponent(),
            "files_read": skew.files_read,
            "files": skew.files,
            "advice": skew.advice,
        })),
    }
}
