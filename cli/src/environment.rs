//! From what the user typed to what it resolves to.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use anyhow::{Context, bail};
use chrono::{Days, NaiveDate, Utc};
use rankmill_engine::functions::TimeZone;
use rankmill_engine::{Location, Session, SessionOptions};
use rankmill_jobs::shipped;
use rankmill_jobs::spec::{Params, Spec, parse};

use crate::args::{DateChoice, Format, Global, SpecChoice};
use crate::human;
use crate::outcome::Usage;

/// Dates of one command.
const MAX_DATES: i64 = 3_660;
/// Of a node's log, what rankmill says itself; of Ballista's, what is wrong.
const SERVING: &str = "warn,rankmill=info,rankmill_scheduler=info,rankmill_executor=info,\
                       rankmill_engine=info,rankmill_jobs=info,object_store::client::retry=info";

/// What every command works with.
pub(crate) struct Environment {
    pub(crate) lake: String,
    pub(crate) format: Format,
    pub(crate) threads: usize,
    pub(crate) quiet: bool,
    memory_bytes: Option<u64>,
    verbose: u8,
}

/// A job with the values of its placeholders.
pub(crate) struct Job {
    pub(crate) spec: Spec,
    pub(crate) params: Params,
}

/// Resident memory of a process with nothing in its operators' hands: code and metadata. Measured.
const PROCESS_BYTES: usize = 64 << 20;
/// What a thread holds beside its operators' states: pages being read and decoded, and what the
/// allocator keeps. Measured.
const THREAD_BYTES: usize = 48 << 20;

/// What a process takes besides what its operators hold.
fn bytes_beside(threads: usize) -> usize {
    let of_threads = threads.saturating_mul(THREAD_BYTES);
    of_threads.saturating_add(PROCESS_BYTES)
}

/// What operators may hold in a process that may take `bytes`: a quarter at least.
fn operator_bytes(bytes: usize, threads: usize) -> usize {
    let left = bytes.saturating_sub(bytes_beside(threads));
    if left < bytes / 4 {
        tracing::warn!(
            "with {threads} threads the process takes about {} besides what it computes with: \
             --memory {} can't be kept to",
            human::bytes(bytes_beside(threads) as u64),
            human::bytes(bytes as u64)
        );
    }
    left.max(bytes / 4)
}

impl Environment {
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        if global.lake.trim().is_empty() {
            bail!(Usage("--lake (or RANKMILL_LAKE) is empty".to_owned()));
        }
        let available = std::thread::available_parallelism();
        let threads = match global.threads {
            Some(threads) => threads.get(),
            None => available.map_or(1, std::num::NonZero::get),
        };
        Ok(Self {
            lake: global.lake.clone(),
            format: global.format,
            threads,
            quiet: global.quiet,
            memory_bytes: global.memory,
            verbose: global.verbose,
        })
    }

    pub(crate) fn session(&self) -> anyhow::Result<Session> {
        Ok(Session::new(&self.session_options()?)?)
    }

    pub(crate) fn session_options(&self) -> anyhow::Result<SessionOptions> {
        Ok(SessionOptions {
            threads: Some(self.threads),
            memory_bytes: self.operator_bytes(self.threads)?,
            ..SessionOptions::default()
        })
    }

    /// What of `--memory` is left for operators in so many threads; none if there is no limit.
    pub(crate) fn operator_bytes(&self, threads: usize) -> anyhow::Result<Option<usize>> {
        let bytes = self.memory_bytes.map(usize::try_from).transpose();
        let bytes = bytes.context("--memory")?;
        Ok(bytes.map(|bytes| operator_bytes(bytes, threads)))
    }

    /// The options that a process started by this one is to have too.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--lake".to_owned(), self.lake.clone()];
        if let Some(bytes) = self.memory_bytes {
            arguments.extend(["--memory".to_owned(), bytes.to_string()]);
        }
        if self.quiet {
            arguments.push("--quiet".to_owned());
        }
        arguments.extend((0..self.verbose).map(|_| "--verbose".to_owned()));
        arguments
    }

    /// `--memory` as given.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    pub(crate) fn lake_location(&self) -> anyhow::Result<Location> {
        Location::parse(&self.lake).map_err(|e| Usage(e.to_string()).into())
    }

    /// Loads a spec file or a shipped spec.
    pub(crate) fn job(&self, choice: &SpecChoice) -> anyhow::Result<Job> {
        self.parse(&choice.spec, &choice.set)
    }

    /// The same, with the values of its placeholders.
    pub(crate) fn parse(&self, choice: &str, set: &[(String, String)]) -> anyhow::Result<Job> {
        let set: BTreeMap<String, String> = set.iter().cloned().collect();
        let params = Params::new(&self.lake, set);
        let spec = parse(&spec_text(choice)?, choice, &params);
        let spec = spec.map_err(rankmill_jobs::Error::from)?;
        Ok(Job { spec, params })
    }
}

/// The YAML of a spec file or a shipped spec.
pub(crate) fn spec_text(choice: &str) -> anyhow::Result<String> {
    match shipped::find(choice) {
        // A file of that name goes first: it is what the user sees.
        Some(shipped) if !std::path::Path::new(choice).is_file() => Ok(shipped.yaml.to_owned()),
        _ => read_spec(choice),
    }
}

fn read_spec(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let names: Vec<&str> = shipped::SHIPPED.iter().map(|s| s.name).collect();
        Usage(format!(
            "cannot read the spec '{path}': {error}; give a file, or a shipped job: {}",
            names.join(", ")
        ))
        .into()
    })
}

impl Job {
    /// The dates that the user chose, in order.
    pub(crate) fn dates(&self, choice: &DateChoice) -> anyhow::Result<Vec<NaiveDate>> {
        let (first, last) = match (&choice.date, &choice.from, &choice.to) {
            (Some(date), _, _) => {
                let date = self.date(date)?;
                (date, date)
            }
            (None, Some(from), Some(to)) => (self.date(from)?, self.date(to)?),
            _ => bail!(Usage("give --date, or --from and --to".to_owned())),
        };
        if last < first {
            bail!(Usage(format!("--to {last} lies before --from {first}")));
        }
        if (last - first).num_days() >= MAX_DATES {
            bail!(Usage(format!("more than {MAX_DATES} dates at once")));
        }
        Ok(first.iter_days().take_while(|date| *date <= last).collect())
    }

    /// Parses a date, `today` or `yesterday`.
    pub(crate) fn date(&self, text: &str) -> anyhow::Result<NaiveDate> {
        let zone = match &self.spec.schedule {
            Some(schedule) => schedule.timezone.parse().unwrap_or(TimeZone::UTC),
            None => TimeZone::Asia__Seoul,
        };
        let today = Utc::now().with_timezone(&zone).date_naive();
        match text {
            "today" => Ok(today),
            "yesterday" => Ok(today.checked_sub_days(Days::new(1)).unwrap_or(today)),
            _ => text.parse().map_err(|_| {
                let wrong = format!("'{text}' is not a date such as 2026-01-31 or yesterday");
                Usage(wrong).into()
            }),
        }
    }
}

/// Leaves out of the log what stores and libraries say of keys and signatures. A line of the log
/// comes in one piece.
struct Scrubbed<W>(W);

impl<W: Write> Write for Scrubbed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0
            .write_all(rankmill_scheduler::scrub(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Logs to stderr. Retries against a store are always told, with their reason. A process that
/// goes on for ever (`serves`) says more, and when.
pub(crate) fn init_logging(verbose: u8, quiet: bool, serves: bool) {
    let default = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) if serves => SERVING,
        (false, 0) => "warn,object_store::client::retry=info",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Scrubbed(std::io::stderr()))
        .with_ansi(colours)
        .with_target(false);
    // systemd's journal knows the time.
    match serves && std::env::var_os("JOURNAL_STREAM").is_none() {
        true => log.init(),
        false => log.without_time().init(),
    }
}
