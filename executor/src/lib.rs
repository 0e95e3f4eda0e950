//! The process that computes a cluster's tasks: Ballista's executor with rankmill's functions,
//! operators and object stores, and with what Ballista leaves to its user.
//!
//! [`run`] joins a cluster and computes until it is told to stop ([`Stopped::Shutdown`]) or the
//! scheduler is gone ([`Stopped::SchedulerLost`]). In the second case the process should start
//! anew, by `exec`: a fresh process has no tasks left over from jobs that nobody waits for.
//!
//! - **Joining**: the schedulers are tried in turn, for ever. Only one that answers
//!   `GET /healthz` in time is taken, so that a frozen former leader isn't.
//! - **Staying**: the same question is asked every second on the same connection. No answer for
//!   five seconds, or a broken connection, means that the scheduler is lost. Ballista reports
//!   the end of a task once and never again, so after a cut its jobs can't be trusted anyway.
//! - **Leaving**: on SIGTERM or SIGINT the executor asks for no more tasks, finishes those it
//!   has, and goes on to serve shuffle files until no unfinished job of the scheduler has any
//!   here, at most for [`Options::drain_timeout`].
//! - **Disk**: each start works in a folder of its own below [`Options::work_dir`], locked for
//!   the life of the process; folders whose lock is free are of dead executors and are removed.
//!   Files of jobs that the scheduler doesn't know any more are removed once a minute.
//! - **Tasks**: a cancelled task stops at its next batch (Ballista lets its shuffle writers run
//!   to the end), a panic fails the task alone, a full disk or an object store that doesn't
//!   answer fails the task as something to try again.
//!
//! One process is one executor: the flag by which Ballista tells of draining is global.

mod cancel;
mod client_pool;
mod error;
mod executor;
mod failure;
mod leave;
mod link;
mod listen;
mod memory;
mod options;
mod run;
mod sweep;
mod work_dir;

pub use error::{Error, Result};
pub use memory::default_memory_bytes;
pub use options::Options;
pub use run::{Stopped, run, run_until};
