//! What a user can type to a cluster's scheduler.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::parse_set;
use crate::load::LoadOptions;

/// Which cluster, and how to speak to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterChoice {
    /// Addresses of its schedulers; the one that leads is found.
    #[arg(
        long,
        global = true,
        env = "RANKMILL_CLUSTER",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7400"
    )]
    pub(crate) cluster: Vec<String>,
    /// A file that holds a token of its API [default: RANKMILL_TOKEN].
    #[arg(long, global = true, env = "RANKMILL_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates (PEM) of the authority to trust, instead of the system's.
    #[arg(long, global = true, env = "RANKMILL_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Registers jobs from their specs, or replaces those of the same names.
    Apply {
        /// Spec files, or names of shipped jobs.
        #[arg(required = true)]
        specs: Vec<String>,
        /// Value of a placeholder in the specs; may be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
        set: Vec<(String, String)>,
    },
    /// Lists all jobs.
    List,
    /// Shows a job with its spec.
    Show {
        /// Its name.
        name: String,
    },
    /// Keeps the schedule from starting a job.
    Pause {
        /// Its name.
        name: String,
    },
    /// Lets the schedule start a job again.
    Resume {
        /// Its name.
        name: String,
    },
    /// Removes a job; its runs and rankings stay.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Name of a job that was applied.
    pub(crate) job: Option<String>,
    /// A spec file, or the name of a shipped job, to run once without applying it.
    #[arg(long, value_name = "FILE", conflicts_with = "job")]
    pub(crate) spec: Option<String>,
    /// Generates a lake on the cluster, with the options of `rankmill generate`.
    #[arg(
        long,
        conflicts_with_all = ["job", "spec", "set", "date", "to", "force", "allow_empty"]
    )]
    pub(crate) generate: bool,
    /// Value of a placeholder in the spec; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<(String, String)>,
    /// One date: 2026-01-31, today or yesterday (in the time zone of the job's schedule).
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) date: Option<String>,
    /// First of many dates; with --generate, the first day to make.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Last of many dates.
    #[arg(long, requires = "from")]
    pub(crate) to: Option<String>,
    /// Publishes again even if the same is current.
    #[arg(long)]
    pub(crate) force: bool,
    /// Publishes an empty ranking for a date without input, instead of calling it a gap.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Follows the run until it has ended.
    #[arg(long)]
    pub(crate) wait: bool,
    /// The same key again gives the run of the first time instead of another.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten, next_help_heading = "With --generate")]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Lists runs, newest first.
    List {
        /// Of one job.
        #[arg(long)]
        job: Option<String>,
        /// In one of these states; may be repeated.
        #[arg(long, value_enum, value_delimiter = ',')]
        state: Vec<State>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Shows a run: attempts, dates, what happened.
    Show {
        /// Its id.
        id: String,
    },
    /// Follows a run until it has ended.
    Watch {
        /// Its id.
        id: String,
    },
    /// Prints what happened to a run.
    Logs {
        /// Its id.
        id: String,
        /// Goes on until the run has ended.
        #[arg(long)]
        follow: bool,
    },
    /// Stops a run.
    Cancel {
        /// Its id.
        id: String,
    },
    /// Queues a new run like one that has ended.
    Retry {
        /// Its id.
        id: String,
        /// Follows the new run until it has ended.
        #[arg(long)]
        wait: bool,
    },
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Waits for its turn.
    Queued,
    /// Computes.
    Running,
    /// Writes a ranking and its commit point.
    Publishing,
    /// Every date is current.
    Succeeded,
    /// It will not be tried again by itself.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// Another run published something newer first.
    Fenced,
}

#[derive(Debug, Args)]
pub(crate) struct GapsArgs {
    /// Name of a job that was applied.
    pub(crate) job: String,
    /// First date: 2026-01-31, today or yesterday (in the time zone of the job's schedule).
    #[arg(long)]
    pub(crate) from: String,
    /// Last date.
    #[arg(long)]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// Name of a job that was applied.
    pub(crate) job: String,
    /// First date: 2026-01-31, today or yesterday (in the time zone of the job's schedule).
    #[arg(long)]
    pub(crate) from: String,
    /// Last date.
    #[arg(long)]
    pub(crate) to: String,
    /// Which dates.
    #[arg(long, value_enum, default_value_t = Only::Needed)]
    pub(crate) only: Only,
    /// Which dates go first.
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    pub(crate) order: Order,
    /// Runs of this backfill at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: u32,
    /// Only says what would be queued.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Waits until all its runs have ended.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}

/// Which dates of a range a backfill takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Missing and stale ones.
    Needed,
    /// Those with input and nothing published.
    Missing,
    /// Those published from other input, or by another spec or engine.
    Stale,
    /// Those whose newest run has failed.
    Failed,
    /// All that have input; current ones are published again.
    All,
}

/// Which dates go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// The latest date first.
    Newest,
    /// The earliest date first.
    Oldest,
}

#[derive(Debug, Args)]
pub(crate) struct ExecutorsArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterChoice,
}
