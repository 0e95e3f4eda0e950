//! Errors as a user reads them, and their exit codes.

use rankmill_datagen as datagen;
use rankmill_executor as executor;
use rankmill_jobs as jobs;
use rankmill_scheduler as scheduler;

use crate::cluster;

/// The job failed.
pub(crate) const FAILED: u8 = 1;
/// What the user typed or where it runs is at fault.
pub(crate) const USAGE: u8 = 2;

/// Ctrl-C while following a run; what a shell says of a command that it ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// A mistake in what the user typed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// An error with its causes in one line each, without repeating what a cause says already.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let lines = cause.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = line;
        } else if !text.contains(&line) {
            text.push_str("\n  because: ");
            text.push_str(&line);
        }
    }
    text
}

pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause
                .downcast_ref::<cluster::Error>()
                .is_some_and(cluster::Error::is_usage)
            || cause
                .downcast_ref::<scheduler::Error>()
                .is_some_and(is_setup)
            || matches!(
                cause.downcast_ref::<executor::Error>(),
                Some(
                    executor::Error::Option { .. }
                        | executor::Error::WorkDir { .. }
                        | executor::Error::Listen { .. }
                        | executor::Error::Setup(_)
                )
            )
            || cause
                .downcast_ref::<jobs::Error>()
                .is_some_and(jobs::Error::is_usage)
            || matches!(
                cause.downcast_ref::<datagen::Error>(),
                Some(
                    datagen::Error::Config { .. }
                        | datagen::Error::LakeExists { .. }
                        | datagen::Error::NoRoom { .. }
                        | datagen::Error::NoLake { .. }
                )
            )
            || matches!(
                unboxed::<rankmill_engine::Error>(cause),
                Some(
                    rankmill_engine::Error::Location { .. } | rankmill_engine::Error::Column { .. }
                )
            )
            || matches!(
                unboxed::<jobs::publication::Error>(cause),
                Some(jobs::publication::Error::ConditionalPutIgnored { .. })
            )
    });
    if usage { USAGE } else { FAILED }
}

/// Whether a scheduler can't run as it was told to.
fn is_setup(error: &scheduler::Error) -> bool {
    matches!(error, scheduler::Error::Setup { .. })
        || matches!(
            error.kind(),
            scheduler::ErrorKind::Invalid | scheduler::ErrorKind::Forbidden
        )
}

/// An error of type `E`; the jobs' errors hold their causes in boxes.
fn unboxed<'a, E: std::error::Error + 'static>(
    cause: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let boxed = || cause.downcast_ref::<Box<E>>().map(Box::as_ref);
    cause.downcast_ref::<E>().or_else(boxed)
}
