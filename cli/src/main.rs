//! The `rankmill` binary: arguments to configuration, one call each, and printing.
//!
//! Exit codes: 0 done, 1 the job failed, 2 usage or environment.

mod args;
mod charts;
mod cluster;
mod commands;
mod environment;
mod generator;
mod human;
mod load;
mod nodes;
mod outcome;
mod output;
mod progress;
mod skew;
mod space;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::environment::Environment;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; they are no errors.
            let code = if error.use_stderr() {
                outcome::USAGE
            } else {
                0
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let serves = matches!(
        cli.command,
        Command::Scheduler(_) | Command::Executor(_) | Command::Dev(_)
    );
    environment::init_logging(cli.global.verbose, cli.global.quiet, serves);
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", outcome::describe(&error));
            ExitCode::from(outcome::exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    let environment = Environment::new(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment.threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Quickstart(args) => commands::quickstart::run(&environment, &args).await,
            Command::Generate(args) => commands::generate::run(&environment, &args).await,
            Command::Run(args) => commands::run::run(&environment, &args).await,
            Command::Rankings(args) => commands::rankings::run(&environment, args).await,
            Command::Spec(args) => commands::spec::run(&environment, args).await,
            Command::Explain(args) => commands::explain::run(&environment, &args).await,
            Command::Jobs(args) => commands::jobs::run(&environment, args).await,
            Command::Submit(args) => commands::submit::run(&environment, &args).await,
            Command::Runs(args) => commands::runs::run(&environment, args).await,
            Command::Gaps(args) => commands::gaps::run(&environment, args).await,
            Command::Backfill(args) => commands::backfill::run(&environment, args).await,
            Command::Executors(args) => commands::executors::run(&environment, args).await,
            Command::Skew(args) => commands::skew::run(&environment, &args).await,
            Command::Scheduler(args) => commands::scheduler::run(&environment, &args).await,
            Command::Executor(args) => commands::executor::run(&environment, &args).await,
            Command::Dev(args) => commands::dev::run(&environment, &args).await,
        }
    })
}
