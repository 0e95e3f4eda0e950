//! `rankmill generate`: skewed logs to try things on.

use std::sync::Arc;

use rankmill_datagen::{Config, Plan, Report, Table, generate};

use crate::args::{Format, GenerateArgs};
use crate::environment::Environment;
use crate::human;
use crate::load::LoadOptions;
use crate::output;
use crate::progress::Progress;

pub(crate) async fn run(environment: &Environment, args: &GenerateArgs) -> anyhow::Result<u8> {
    let load = LoadOptions {
        from: args.from,
        ..args.load.clone()
    };
    let report = generate_lake(environment, load.config(), load.replace).await?;
    match environment.format {
        Format::Table => {
            output::line(format_args!("{}", summary(environment, &report).trim_end()))?
        }
        Format::Json => output::line(format_args!(
            "{}",
            serde_json::json!({
                "lake": environment.lake,
                "already_there": report.already_there,
                "elapsed_seconds": report.elapsed.as_secs_f64(),
                "tables": report.tables,
            })
        ))?,
    }
    Ok(0)
}

/// Makes a lake with a progress bar; does nothing where the same lake is already.
pub(crate) async fn generate_lake(
    environment: &Environment,
    config: Config,
    replace: bool,
) -> anyhow::Result<Report> {
    let plan = Plan::new(&config)?;
    let place = environment.lake_location()?;
    let store = environment.session()?.stores().of(&place)?;
    let threads = environment.threads;
    let progress = Arc::new(Progress::new(environment.quiet).with_bar(plan.total_rows()));
    let observer = Arc::clone(&progress);
    let runtime = tokio::runtime::Handle::current();
    let generated = tokio::task::spawn_blocking(move || {
        let prefix = place.path();
        generate(
            &plan,
            store,
            prefix,
            threads,
            &runtime,
            replace,
            observer.as_ref(),
        )
    })
    .await?;
    progress.finish();
    Ok(generated?)
}

/// What was made, in a few lines.
pub(crate) fn summary(environment: &Environment, report: &Report) -> String {
    if report.already_there {
        return format!("the same lake is at '{}' already\n", environment.lake);
    }
    let mut text = String::new();
    let mut rows = 0;
    for table in Table::ALL {
        if let Some(totals) = report.tables.get(&table) {
            rows += totals.rows;
            text.push_str(&format!(
                "{:<20} {:>9} rows  {:>10}  {} files\n",
                table.folder(),
                human::count(totals.rows),
                human::bytes(totals.bytes),
                totals.files
            ));
        }
    }
    let seconds = report.elapsed.as_secs_f64();
    let rate = human::count((rows as f64 / seconds.max(1e-9)) as u64);
    text.push_str(&format!(
        "at '{}' in {seconds:.1} s, {rate} rows/s; the right answers are in truth.json\n",
        environment.lake
    ));
    text
}
