//! `rankmill quickstart`: the whole of it on one machine, in one command.

use anyhow::Context;
use chrono::{Days, NaiveDate};
use rankmill_datagen::Config;
use rankmill_jobs::shipped::SHIPPED;
use rankmill_jobs::{RunRequest, read_ranking, target_of};

use super::generate::{generate_lake, summary};
use super::run::run_and_summarise;
use crate::args::{QuickstartArgs, SpecChoice};
use crate::environment::Environment;
use crate::output;
use crate::table;

const CLICK_ROWS: u64 = 5_000_000;
const WEB_ROWS: u64 = 1_000_000;
const DAYS: u32 = 3;
const SHOWN: usize = 10;
/// Of the rankings by age, the bands shown: their tastes differ most.
const SHOWN_BANDS: [&str; 2] = ["20s", "50s"];

pub(crate) async fn run(environment: &Environment, args: &QuickstartArgs) -> anyhow::Result<u8> {
    let config = Config {
        click_rows: CLICK_ROWS,
        web_rows: WEB_ROWS,
        days: DAYS,
        ..Config::default()
    };
    let first = config.from;
    let last = first
        .checked_add_days(Days::new(u64::from(DAYS) - 1))
        .context("the last day is out of range")?;
    eprintln!("making {CLICK_ROWS} clicks and {WEB_ROWS} web requests over {DAYS} days");
    let report = generate_lake(environment, config, args.replace).await?;
    eprint!("{}", summary(environment, &report));

    let session = environment.session()?;
    let mut folders = Vec::new();
    for shipped in SHIPPED {
        let job = environment.job(&SpecChoice {
            spec: shipped.name.to_owned(),
            set: Vec::new(),
        })?;
        eprintln!("\nrankmill run {} --from {first} --to {last}", shipped.name);
        let request = RunRequest {
            dates: first.iter_days().take(DAYS as usize).collect(),
            force: false,
            allow_empty: false,
            dates_per_pass: None,
        };
        run_and_summarise(environment, &session, &job, &request).await?;
        let target = target_of(&session, &job.spec, &job.params)?;
        let published = read_ranking(&target, shipped.name, last).await?;
        let (_, rows) = published.with_context(|| format!("{last} is not published"))?;
        if rows.column_by_name("age_band").is_some() {
            for band in SHOWN_BANDS {
                let filter = [("age_band".to_owned(), band.to_owned())];
                print_top(shipped.name, last, table::filtered(rows.clone(), &filter)?)?;
            }
        } else {
            print_top(shipped.name, last, rows)?;
        }
        folders.push(format!(
            "{}date={last}/",
            job.spec.fill(&job.params, last).output.path
        ));
    }
    output::line(format_args!("\nThe rankings lie in, for example,"))?;
    for folder in folders {
        output::line(format_args!("  {folder}"))?;
    }
    output::line(format_args!(
        "where current.json names the files of the day: Parquet, and ranking.json to serve."
    ))?;
    Ok(0)
}

fn print_top(
    name: &str,
    date: NaiveDate,
    rows: datafusion::arrow::array::RecordBatch,
) -> anyhow::Result<()> {
    output::line(format_args!("\n{name} {date}"))?;
    output::line(format_args!(
        "{}",
        table::render(&table::top(&rows, SHOWN)?)?
    ))?;
    Ok(())
}
