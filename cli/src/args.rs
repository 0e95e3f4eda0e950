//! What a user can type.

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::human::{parse_bytes, parse_count};

/// Turns skewed click and web logs into daily rankings: whole or not at all.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the data lies: a folder or s3://bucket/prefix. The value of {lake} in specs.
    #[arg(
        long,
        global = true,
        env = "RANKMILL_LAKE",
        default_value = "./rankmill-data"
    )]
    pub(crate) lake: String,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Threads to compute with [default: one for each processor].
    #[arg(long, global = true)]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// Memory that sorts, joins and aggregations may hold before they spill, such as 1GiB
    /// [default: no limit].
    #[arg(long, global = true, value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
    /// Says more on stderr; twice for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No progress and no summary.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a small lake, runs the four shipped jobs on it and shows what they publish.
    Quickstart(QuickstartArgs),
    /// Makes skewed click and web logs, with users, performances and the right answers.
    Generate(GenerateArgs),
    /// Computes a job's rankings for one or more dates and publishes them.
    Run(RunArgs),
    /// Shows published rankings, their history, and goes back to an earlier one.
    Rankings(RankingsArgs),
    /// Checks job specs; prints shipped ones and the JSON Schema.
    Spec(SpecArgs),
    /// Shows how a job would be computed.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Makes the lake anew even if it is there.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Clicks to make over all days, such as 400M.
    #[arg(long, value_parser = parse_count, default_value = "5M")]
    pub(crate) rows: u64,
    /// Web requests to make over all days.
    #[arg(long, value_parser = parse_count, default_value = "1M")]
    pub(crate) web_rows: u64,
    /// Users of the dimension.
    #[arg(long, value_parser = parse_count, default_value = "200k")]
    pub(crate) users: u64,
    /// Performances of the dimension.
    #[arg(long, value_parser = parse_count, default_value = "20k")]
    pub(crate) performances: u64,
    /// First day.
    #[arg(long, default_value = "2026-06-01")]
    pub(crate) from: NaiveDate,
    /// Number of days.
    #[arg(long, default_value_t = 3)]
    pub(crate) days: u32,
    /// The same seed and options give the same bytes.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Zipf exponent of the performances' popularity; 0 is uniform.
    #[arg(long, default_value_t = 1.1)]
    pub(crate) zipf_items: f64,
    /// Zipf exponent of the users' activity; 0 is uniform.
    #[arg(long, default_value_t = 0.6)]
    pub(crate) zipf_users: f64,
    /// How much the popularity of performances changes from day to day; 0 is not at all.
    #[arg(long, default_value_t = 0.8)]
    pub(crate) drift: f64,
    /// Share of sessions without a user.
    #[arg(long, default_value_t = 0.2)]
    pub(crate) anonymous_share: f64,
    /// Share of sessions whose user is not in the dimension.
    #[arg(long, default_value_t = 0.005)]
    pub(crate) unknown_user_share: f64,
    /// Share of clicks by a few bots.
    #[arg(long, default_value_t = 0.02)]
    pub(crate) bot_share: f64,
    /// Removes what was generated there before.
    #[arg(long)]
    pub(crate) replace: bool,
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct SpecChoice {
    /// A spec file, or the name of a shipped job (see `rankmill spec list`).
    pub(crate) spec: String,
    /// Value of a placeholder in the spec; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
}

/// One date, or many.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct DateChoice {
    /// One date: 2026-01-31, today or yesterday (in the time zone of the job's schedule).
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) date: Option<String>,
    /// First of many dates.
    #[arg(long, requires = "to")]
    pub(crate) from: Option<String>,
    /// Last of many dates.
    #[arg(long, requires = "from")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: SpecChoice,
    #[command(flatten)]
    pub(crate) dates: DateChoice,
    /// Publishes again even if the same is current.
    #[arg(long)]
    pub(crate) force: bool,
    /// Publishes an empty ranking for a date without input, instead of calling it a gap.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Ranks of each ranking to print; 0 prints none.
    #[arg(long, default_value_t = 10)]
    pub(crate) show: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RankingsArgs {
    #[command(subcommand)]
    pub(crate) command: RankingsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RankingsCommand {
    /// Prints a published ranking.
    Show {
        #[command(flatten)]
        job: SpecChoice,
        /// Its date; without it, the latest published.
        #[arg(long)]
        date: Option<String>,
        /// Only rows with this value in a column; may be repeated.
        #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = parse_set)]
        filters: Vec<(String, String)>,
        /// Ranks of each ranking to print.
        #[arg(long)]
        show: Option<usize>,
    },
    /// Lists the dates that are published.
    List {
        #[command(flatten)]
        job: SpecChoice,
    },
    /// Lists all publications of a date, newest first.
    History {
        #[command(flatten)]
        job: SpecChoice,
        /// The date.
        #[arg(long)]
        date: String,
    },
    /// Makes an earlier publication of a date current again, as a new generation.
    Rollback {
        #[command(flatten)]
        job: SpecChoice,
        /// The date.
        #[arg(long)]
        date: String,
        /// The generation to go back to (see `rankings history`).
        #[arg(long)]
        to: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    #[command(subcommand)]
    pub(crate) command: SpecCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpecCommand {
    /// Checks a spec; with a date also against the data.
    Check {
        #[command(flatten)]
        job: SpecChoice,
        /// A date with input.
        #[arg(long)]
        date: Option<String>,
    },
    /// Prints the JSON Schema of specs, for editors.
    Schema,
    /// Lists the shipped jobs.
    List,
    /// Prints a shipped job's spec, to start one's own from.
    Show {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) job: SpecChoice,
    #[command(flatten)]
    pub(crate) dates: DateChoice,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}
