//! What a user can type.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::human::{parse_bytes, parse_count, parse_duration};
use crate::load::LoadOptions;

mod cluster;
mod nodes;

pub(crate) use cluster::{
    BackfillArgs, ClusterChoice, ExecutorsArgs, GapsArgs, JobsArgs, JobsCommand, Only, Order,
    RunsArgs, RunsCommand, State, SubmitArgs,
};
pub(crate) use nodes::{DevArgs, ExecutorArgs, NodeTlsArgs, SchedulerArgs};

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
    #[arg(long, global = true, env = "RANKMILL_THREADS")]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// Memory that the process may take before sorts, joins and aggregations go to disk, such as 1GiB
    /// [default: no limit; of an executor, that its tasks hold no more than 70 % of the machine's].
    #[arg(long, global = true, env = "RANKMILL_MEMORY", value_parser = parse_bytes)]
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
    Generate(Box<GenerateArgs>),
    /// Computes a job's rankings for one or more dates and publishes them.
    Run(RunArgs),
    /// Shows published rankings, their history, and goes back to an earlier one.
    Rankings(RankingsArgs),
    /// Checks job specs; prints shipped ones and the JSON Schema.
    Spec(SpecArgs),
    /// Shows how a job would be computed.
    Explain(ExplainArgs),
    /// Registers, shows, pauses and removes the jobs of a cluster.
    Jobs(JobsArgs),
    /// Queues a run on a cluster.
    Submit(Box<SubmitArgs>),
    /// Lists, shows, follows, stops and repeats the runs of a cluster.
    Runs(RunsArgs),
    /// Shows what each date of a job needs: missing, stale, published or without source.
    Gaps(GapsArgs),
    /// Queues runs for the dates of a job that need it.
    Backfill(BackfillArgs),
    /// Lists the executors of a cluster.
    Executors(ExecutorsArgs),
    /// Shows hot keys and uneven tasks of a run, or the hot keys of any dataset.
    Skew(SkewArgs),
    /// Runs a scheduler: calendar, API, recovery.
    Scheduler(Box<SchedulerArgs>),
    /// Runs an executor, which computes for a scheduler.
    Executor(Box<ExecutorArgs>),
    /// Runs a whole cluster on this machine, to try it.
    Dev(DevArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SkewArgs {
    /// Id of a run of a cluster, or a file with what `run --format json` printed (- for the input).
    #[arg(required_unless_present = "source", conflicts_with = "source")]
    pub(crate) run: Option<String>,
    /// A folder, file or pattern to look into instead.
    #[arg(long, value_name = "PATH", requires = "column")]
    pub(crate) source: Option<String>,
    /// The column whose keys are counted.
    #[arg(long, value_name = "NAME", requires = "source")]
    pub(crate) column: Option<String>,
    /// How the files of the source are written.
    #[arg(long, value_enum, default_value_t = SkewFormat::Parquet, value_name = "FORMAT")]
    pub(crate) source_format: SkewFormat,
    /// Files of the source to read at most, evenly chosen.
    #[arg(long, default_value = "64")]
    pub(crate) files: std::num::NonZeroUsize,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SkewFormat {
    /// Apache Parquet.
    Parquet,
    /// Text with commas, and the columns' names in the first line.
    Csv,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Makes the lake anew even if it is there.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<GenerateCommand>,
    /// First day [default: 2026-06-01; with --rate, today].
    #[arg(long)]
    pub(crate) from: Option<NaiveDate>,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// Appends traffic as time goes by: so many clicks a second, in the mean of the days. Stopped
    /// and begun again, it goes on where it was.
    #[arg(long, value_parser = parse_count, value_name = "CLICKS", conflicts_with = "rows")]
    pub(crate) rate: Option<u64>,
    /// With --rate: the time of which each file holds the events [default: 60s].
    #[arg(
        long,
        value_parser = parse_duration,
        value_name = "SPAN",
        requires = "rate",
        conflicts_with = "seconds_per_file"
    )]
    pub(crate) every: Option<Duration>,
    /// With --rate: ends after so much time, counted from when nothing is overdue, not only with
    /// the last day.
    #[arg(long = "for", value_parser = parse_duration, value_name = "SPAN", requires = "rate")]
    pub(crate) at_most: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Compares a generated lake with its seed: names, sizes, footers and truth.json.
    Verify {
        /// The lake [default: that of --lake].
        #[arg(value_name = "LAKE")]
        path: Option<String>,
        /// Makes every file again and compares it byte for byte.
        #[arg(long)]
        deep: bool,
    },
    /// Draws a lake's clicks: by rank and by hour of the day, here and as a picture.
    Describe {
        /// The lake [default: that of --lake].
        #[arg(value_name = "LAKE")]
        path: Option<String>,
        /// Where the picture goes.
        #[arg(long, default_value = "lake.svg", value_name = "FILE")]
        svg: PathBuf,
        /// Files to read at most, evenly chosen.
        #[arg(long, default_value = "64")]
        files: std::num::NonZeroUsize,
    },
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
    /// Spec files, or names of shipped jobs (see `rankmill spec list`), to be done one after the
    /// other; one that fails doesn't keep the others from being done.
    #[arg(required = true, value_name = "SPEC")]
    pub(crate) specs: Vec<String>,
    /// Value of a placeholder in the specs; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
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
    /// Runs on a cluster instead of in this process: addresses of its schedulers.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub(crate) cluster: Vec<String>,
    /// With --cluster: a file that holds a token of its API [default: RANKMILL_TOKEN].
    #[arg(
        long,
        value_name = "FILE",
        env = "RANKMILL_TOKEN_FILE",
        help_heading = "Cluster"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// With --cluster: certificates (PEM) of the authority to trust.
    #[arg(
        long,
        value_name = "FILE",
        env = "RANKMILL_CA",
        help_heading = "Cluster"
    )]
    pub(crate) ca: Option<PathBuf>,
}

impl RunArgs {
    /// The jobs, in order.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = SpecChoice> {
        self.specs.iter().map(|spec| SpecChoice {
            spec: spec.clone(),
            set: self.set.clone(),
        })
    }

    /// The cluster, if one is to be used.
    pub(crate) fn cluster_choice(&self) -> Option<ClusterChoice> {
        (!self.cluster.is_empty()).then(|| ClusterChoice {
            cluster: self.cluster.clone(),
            token_file: self.token_file.clone(),
            ca: self.ca.clone(),
        })
    }
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

pub(crate) fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words = ["rankmill"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
        Ok(cli.command)
    }

    /// What can be said, and what can't: a verb's options contradict each other in its help.
    #[test]
    fn lines_that_are_ones() {
        Cli::command().debug_assert();
        for line in [
            "jobs apply a.yaml b.yaml --set city=Seoul",
            "generate --rows 4M --profile brutal --uneven 0.5 --replace",
            "generate --rate 500 --every 10s --for 1h --days 2",
            "generate verify --deep",
            "generate verify s3://a/b --lake c",
            "generate describe ./lake --svg a.svg --files 3",
            "jobs list --cluster http://a:1,http://b:2 --token-file t --ca ca.pem",
            "submit shop --date yesterday --wait",
            "submit shop --from 2026-01-01 --to today --force --allow-empty --idempotency-key k",
            "submit --spec shop.yaml --date 2026-01-01 --set city=Seoul",
            "submit --generate --rows 4M --from 2026-01-01 --days 2 --replace",
            "runs list --job shop --state failed,cancelled --state queued --limit 5",
            "runs logs 0190 --follow",
            "gaps shop --from 2026-01-01 --to 2026-02-01",
            "backfill shop --from 2026-01-01 --to today --only all --order oldest --max-parallel 3",
            "executors --format json",
            "run shop.yaml --date today --cluster https://a:1",
            "scheduler --embedded --run-timeout 90m --max-runs 2 --allow-prefix s3://a/,/b",
            "scheduler --node-ca a --node-cert b --node-key c --tls-cert d --tls-key e",
            "executor --scheduler a:1,b:2 --port 0 --grpc-port 0 --drain-timeout 5s",
            "dev --executors 3 --standby --slots 1",
        ] {
            if let Err(error) = parsed(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn lines_that_are_none() {
        for (line, word) in [
            ("submit shop --spec shop.yaml", "cannot be used with"),
            ("submit shop --generate", "cannot be used with"),
            ("submit --generate --date 2026-01-01", "cannot be used with"),
            (
                "submit shop --date today --from today",
                "cannot be used with",
            ),
            ("generate --rate 5 --rows 5", "cannot be used with"),
            ("generate --for 5s", "--rate"),
            ("generate --every 5s", "--rate"),
            ("generate --profile odd", "possible values"),
            ("generate --rows 5 verify", "cannot be used with"),
            ("runs list --state done", "possible values"),
            ("gaps shop --from 2026-01-01", "--to"),
            ("backfill shop --from a --to b --max-parallel 0", "0"),
            (
                "backfill shop --from a --to b --dry-run --wait",
                "cannot be used with",
            ),
            ("scheduler --run-timeout 90", "span of time"),
            ("scheduler --tls-cert a", "--tls-key"),
            ("executor --node-cert a --node-key b", "--node-ca"),
        ] {
            match parsed(line) {
                Ok(command) => panic!("{line}: {command:?}"),
                Err(error) => assert!(error.contains(word), "{line}: {error}"),
            }
        }
    }

    #[test]
    fn options_reach_their_fields() {
        let Ok(Command::Submit(submit)) = parsed("submit --generate --rows 4M --from 2026-01-01")
        else {
            panic!("not a submit");
        };
        assert!(submit.generate && submit.load.is_given());
        assert_eq!(submit.load.rows, Some(4_000_000));
        assert_eq!(submit.from.as_deref(), Some("2026-01-01"));
        let Ok(Command::Scheduler(scheduler)) = parsed("scheduler --bind [::1]:0") else {
            panic!("not a scheduler");
        };
        assert_eq!(scheduler.api.bind.port(), 0);
        assert_eq!(scheduler.runs.run_timeout.as_secs(), 6 * 60 * 60);
        assert_eq!(scheduler.ballista.cluster_port, 7450);
    }
}
