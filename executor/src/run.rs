//! The life of an executor.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ballista_executor::executor_server::TERMINATING;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};
use crate::executor::{Member, Process};
use crate::link::{self, Link};
use crate::options::Options;
use crate::sweep;

/// Pause after a scheduler that answered could not be joined.
const JOIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why an executor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// It was told to, and has left its cluster in order.
    Shutdown,
    /// The scheduler is gone, or believes this executor dead. Start the process anew (`exec`):
    /// tasks of jobs that nobody waits for may still be running in this one.
    SchedulerLost,
}

/// Joins a cluster and computes until SIGTERM or SIGINT, or until the scheduler is lost.
///
/// A second signal ends it at once.
///
/// # Errors
/// Those of [`run_until`].
pub async fn run(options: Options) -> Result<Stopped> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let running = run_until(options, async move {
        let _ = told.await;
    });
    let twice = async {
        signalled().await;
        let _ = tell.send(());
        signalled().await;
    };
    tokio::select! {
        stopped = Box::pin(running) => stopped,
        () = twice => Ok(Stopped::Shutdown),
    }
}

/// Joins a cluster and computes until `shutdown`, or until the scheduler is lost.
///
/// # Errors
/// Options that make no sense, certificates or a working folder that can't be used, a port that
/// is taken. A scheduler that is away is none: it is waited for.
pub async fn run_until(
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Stopped> {
    let mut shutdown = pin!(shutdown);
    let process = Process::start(options)?;
    TERMINATING.store(false, Ordering::Release);
    let (link, member) = tokio::select! {
        () = &mut shutdown => return Ok(Stopped::Shutdown),
        joined = join(&process) => joined?,
    };
    tracing::info!(
        scheduler = link.scheduler(),
        id = process.work_dir.id(),
        slots = process.options.slots,
        "joined"
    );
    Ok(stay(&process, link, member, shutdown).await)
}

async fn join(process: &Process) -> Result<(Link, Member)> {
    loop {
        let link = link::find(&process.options.schedulers, process.tls.as_ref()).await;
        match process.join(&link).await {
            Ok(member) => return Ok((link, member)),
            Err(e) if e.retryable() => {
                tracing::warn!("{e}");
                tokio::time::sleep(JOIN_AGAIN_AFTER).await;
            }
            Err(e) => return Err(e),
        }
    }
}

async fn stay(
    process: &Process,
    mut link: Link,
    mut member: Member,
    shutdown: impl Future<Output = ()>,
) -> Stopped {
    let scheduler = link.scheduler().to_owned();
    let sweeping = sweep::run(member.scheduler.clone(), process.shuffle());
    let mut gone = pin!(link.lost());
    let lost = tokio::select! {
        () = shutdown => None,
        reason = &mut gone => Some(reason),
        _ = member.sent_away.recv() => Some("it sent this executor away".to_owned()),
        _ = member.gave_up.recv() => Some("it does not take heartbeats".to_owned()),
        Some(ended) = member.services.join_next() => Some(format!("{ended:?}")),
        () = sweeping => None,
    };
    let stopped = if let Some(reason) = lost {
        tracing::error!(scheduler, "the scheduler is lost: {reason}");
        Stopped::SchedulerLost
    } else {
        tokio::select! {
            () = member.leave(process) => {}
            reason = gone => tracing::warn!(scheduler, "lost while leaving: {reason}"),
        }
        Stopped::Shutdown
    };
    // Ballista's loops; the listeners end with the member.
    let _ = member.shutdown.send(());
    stopped
}
