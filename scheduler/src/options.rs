//! What a scheduler is started with.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rankmill_engine::SessionOptions;

use crate::api;
use crate::backend::BackendOptions;
use crate::generate::LoadGenerator;

/// What a scheduler is started with.
pub struct Options {
    /// Value of `{lake}` in specs; its records lie below `{lake}/_rankmill/`.
    pub lake: String,
    /// Names this scheduler to people, such as its host's name.
    pub instance: String,
    /// Where and how the API is served.
    pub api: api::Options,
    /// URL under which clients reach this scheduler's API, told by standbys; by default made of
    /// the address it is bound to.
    pub advertise: Option<String>,
    /// Where plans are computed.
    pub backend: BackendOptions,
    /// For planning, and for computing in this process.
    pub session: SessionOptions,
    /// What runs at once, how long, how often.
    pub limits: Limits,
    /// How leadership changes hands.
    pub lease: LeaseOptions,
    /// Where specs may read and write; the lake if empty.
    pub allowed_prefixes: Vec<String>,
    /// Makes skewed logs.
    pub generator: Arc<dyn LoadGenerator>,
    /// Told the addresses once the API listens.
    pub announce: Option<Box<dyn FnOnce(Addresses) + Send>>,
}

/// Where a scheduler listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The API.
    pub api: SocketAddr,
}

/// Why [`run`](crate::run) came back without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to; what ran is queued again.
    Shutdown,
    /// Another scheduler has taken over, or may have: start anew, as a standby.
    LostLeadership,
}

/// What runs at once, how long, how often.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs at once that a schedule or somebody asked for.
    pub runs: usize,
    /// Runs of backfills and repairs at once, besides those.
    pub background_runs: usize,
    /// Runs of one job at once, of each of the two kinds. Runs of a backfill are limited by what
    /// the backfill says instead.
    pub runs_per_job: usize,
    /// Attempts of a run that may fail by themselves.
    pub max_attempts: u32,
    /// Attempts that an executor's loss or a scheduler's death may end.
    pub max_interruptions: u32,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub first_backoff: Duration,
    /// The longest wait.
    pub longest_backoff: Duration,
    /// An attempt that takes longer has failed.
    pub run_timeout: Duration,
    /// See [`rankmill_jobs::RunRequest::dates_per_pass`].
    pub dates_per_pass: Option<NonZeroUsize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            runs: 4,
            background_runs: 2,
            runs_per_job: 1,
            max_attempts: 4,
            max_interruptions: 10,
            first_backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
            run_timeout: Duration::from_secs(6 * 60 * 60),
            dates_per_pass: None,
        }
    }
}

/// How leadership changes hands.
#[derive(Debug, Clone, Copy)]
pub struct LeaseOptions {
    /// A leader that has not been heard of for so long has lost its place.
    pub ttl: Duration,
    /// How often a leader makes itself heard, and a standby listens.
    pub renew_every: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            renew_every: Duration::from_secs(2),
        }
    }
}
