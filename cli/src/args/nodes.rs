//! What a user can type to start the processes of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::human::parse_duration;

/// Certificates between the nodes of a cluster (mTLS).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "TLS between nodes (give all three, on every node)")]
pub(crate) struct NodeTlsArgs {
    /// Certificates (PEM) of the authority that signed the nodes' certificates.
    #[arg(
        long,
        env = "RANKMILL_NODE_CA",
        value_name = "FILE",
        requires = "node_cert"
    )]
    pub(crate) node_ca: Option<PathBuf>,
    /// This node's certificate (PEM).
    #[arg(
        long,
        env = "RANKMILL_NODE_CERT",
        value_name = "FILE",
        requires = "node_key"
    )]
    pub(crate) node_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(
        long,
        env = "RANKMILL_NODE_KEY",
        value_name = "FILE",
        requires = "node_ca"
    )]
    pub(crate) node_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SchedulerArgs {
    /// Computes in its own process; needs no executors.
    #[arg(long, env = "RANKMILL_EMBEDDED")]
    pub(crate) embedded: bool,
    /// Name of this scheduler among those of the lake [default: host and process].
    #[arg(long, env = "RANKMILL_INSTANCE", value_name = "NAME")]
    pub(crate) instance: Option<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(flatten)]
    pub(crate) ballista: BallistaArgs,
    #[command(flatten)]
    pub(crate) node_tls: NodeTlsArgs,
    #[command(flatten)]
    pub(crate) runs: RunLimitArgs,
    /// Stops when standard input ends: for the process that started this one.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API")]
pub(crate) struct ApiArgs {
    /// Where the API listens.
    #[arg(
        long,
        env = "RANKMILL_BIND",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) bind: SocketAddr,
    /// Tokens that may use the API, a line for each: NAME ROLE TOKEN [PREFIX …]; the role is
    /// read, submit or admin. Without it anybody may, and --bind must be a loopback address.
    #[arg(long, env = "RANKMILL_TOKENS", value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Certificate (PEM) of the API.
    #[arg(
        long,
        env = "RANKMILL_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(
        long,
        env = "RANKMILL_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<PathBuf>,
    /// URL under which clients reach this API, told by standbys [default: where it listens].
    #[arg(long, env = "RANKMILL_ADVERTISE_URL", value_name = "URL")]
    pub(crate) advertise_url: Option<String>,
    /// More requests in a second are turned away.
    #[arg(
        long,
        env = "RANKMILL_MAX_REQUESTS_PER_SECOND",
        value_name = "N",
        default_value_t = 200
    )]
    pub(crate) max_requests_per_second: u32,
    /// Prefix under which specs may read and write; may be repeated [default: the lake].
    #[arg(
        long,
        env = "RANKMILL_ALLOW_PREFIX",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    pub(crate) allow_prefix: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Executors")]
pub(crate) struct BallistaArgs {
    /// Address on which executors are served; a private one.
    #[arg(
        long,
        env = "RANKMILL_CLUSTER_BIND",
        value_name = "ADDRESS",
        default_value = "127.0.0.1"
    )]
    pub(crate) cluster_bind: IpAddr,
    /// Port on which executors are served.
    #[arg(
        long,
        env = "RANKMILL_CLUSTER_PORT",
        value_name = "PORT",
        default_value_t = 7450
    )]
    pub(crate) cluster_port: u16,
    /// Host name or address under which executors reach this scheduler [default: --cluster-bind].
    #[arg(long, env = "RANKMILL_ADVERTISE", value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// An executor not heard of for so long counts as lost.
    #[arg(long, env = "RANKMILL_EXECUTOR_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "15s")]
    pub(crate) executor_timeout: Duration,
    /// A run of which no task ended for so long is begun anew, with twice as long the next time.
    #[arg(long, env = "RANKMILL_STALL_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub(crate) stall_timeout: Duration,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Runs")]
pub(crate) struct RunLimitArgs {
    /// Runs at once.
    #[arg(long, env = "RANKMILL_MAX_RUNS", value_name = "N", default_value_t = 4)]
    pub(crate) max_runs: usize,
    /// Backfills and repairs at once, besides those.
    #[arg(
        long,
        env = "RANKMILL_MAX_BACKGROUND_RUNS",
        value_name = "N",
        default_value_t = 2
    )]
    pub(crate) max_background_runs: usize,
    /// Runs of one job at once.
    #[arg(
        long,
        env = "RANKMILL_MAX_RUNS_PER_JOB",
        value_name = "N",
        default_value_t = 1
    )]
    pub(crate) max_runs_per_job: usize,
    /// Starts of a run before it counts as failed.
    #[arg(
        long,
        env = "RANKMILL_MAX_ATTEMPTS",
        value_name = "N",
        default_value_t = 4
    )]
    pub(crate) max_attempts: u32,
    /// Dates of a run that are computed and published before the next ones begin: what is repeated
    /// when an executor is lost [default: by their size].
    #[arg(long, env = "RANKMILL_DATES_PER_PASS", value_name = "N")]
    pub(crate) dates_per_pass: Option<NonZeroUsize>,
    /// A run that takes longer is stopped.
    #[arg(long, env = "RANKMILL_RUN_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "6h")]
    pub(crate) run_timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExecutorArgs {
    /// Where schedulers serve executors; all of the cluster's.
    #[arg(
        long,
        env = "RANKMILL_SCHEDULER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7450"
    )]
    pub(crate) scheduler: Vec<String>,
    /// Address to listen on; a private one.
    #[arg(
        long,
        env = "RANKMILL_EXECUTOR_BIND",
        value_name = "ADDRESS",
        default_value = "127.0.0.1"
    )]
    pub(crate) bind: IpAddr,
    /// Host name or address under which the other nodes reach it [default: --bind].
    #[arg(long, env = "RANKMILL_ADVERTISE", value_name = "HOST")]
    pub(crate) advertise: Option<String>,
    /// Port that gives out intermediate results; 0 is any that is free.
    #[arg(
        long,
        env = "RANKMILL_EXECUTOR_PORT",
        value_name = "PORT",
        default_value_t = 7460
    )]
    pub(crate) port: u16,
    /// Port on which the scheduler reaches it; 0 is any that is free.
    #[arg(
        long,
        env = "RANKMILL_EXECUTOR_GRPC_PORT",
        value_name = "PORT",
        default_value_t = 7461
    )]
    pub(crate) grpc_port: u16,
    /// Tasks to work on at once [default: --threads].
    #[arg(long, env = "RANKMILL_SLOTS", value_name = "N")]
    pub(crate) slots: Option<std::num::NonZeroUsize>,
    /// Folder for intermediate results; needs room for a run's.
    #[arg(
        long,
        env = "RANKMILL_WORK_DIR",
        value_name = "FOLDER",
        default_value = "./rankmill-work"
    )]
    pub(crate) work_dir: PathBuf,
    /// When asked to stop, waits so long for its tasks.
    #[arg(long, env = "RANKMILL_DRAIN_TIMEOUT", value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    pub(crate) drain_timeout: Duration,
    #[command(flatten)]
    pub(crate) node_tls: NodeTlsArgs,
    /// Stops when standard input ends: for the process that started this one.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Executors to start.
    #[arg(long, default_value_t = 2)]
    pub(crate) executors: usize,
    /// Tasks each executor works on at once [default: the processors, shared out].
    #[arg(long)]
    pub(crate) slots: Option<std::num::NonZeroUsize>,
    /// Starts a second scheduler, which takes over when the first one dies.
    #[arg(long)]
    pub(crate) standby: bool,
    /// Port of the API; the next free one where it is taken, any with 0.
    #[arg(long, default_value_t = 7400)]
    pub(crate) port: u16,
    /// Folder for the executors' intermediate results [default: one that is removed at the end].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Stops when standard input ends.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}
