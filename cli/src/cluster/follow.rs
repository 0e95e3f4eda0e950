//! Follows a run until it has ended, whichever scheduler leads meanwhile.

use std::time::Duration;

use rankmill_scheduler::proto::{Run, RunState, WatchRunRequest};

use super::client::{Cluster, Repeat};
use super::error::Error;
use super::verdict::{Verdict, judge};
use super::watcher::Watcher;

/// Before a broken stream is opened anew.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether nothing more will happen to a run.
pub(crate) fn is_final(state: RunState) -> bool {
    use RunState::{Cancelled, Failed, Fenced, Succeeded};
    matches!(state, Succeeded | Failed | Cancelled | Fenced)
}

/// How following a run ended.
pub(crate) enum Followed {
    /// The run has ended.
    Ended(Box<Run>),
    /// The user wants to see no more; the run goes on.
    LetGo,
}

/// Follows a run until it has ended; `seen` is told each of its states.
pub(crate) async fn follow(
    cluster: &Cluster,
    id: &str,
    mut seen: impl FnMut(&Run),
) -> Result<Run, Error> {
    loop {
        let request = WatchRunRequest { id: id.to_owned() };
        let mut stream = cluster
            .call(Repeat::Safe, request, async |mut client, request| {
                client.watch_run(request).await
            })
            .await?;
        loop {
            match stream.message().await {
                Ok(Some(run)) => {
                    seen(&run);
                    let state = run.summary.as_ref().map(|summary| summary.state());
                    if state.is_some_and(is_final) {
                        return Ok(run);
                    }
                }
                // A scheduler that stops, or no longer leads, ends its streams.
                Ok(None) => break,
                Err(status) => match judge(&status) {
                    Verdict::Final => {
                        let status = Box::new(status);
                        return Err(Error::Refused { status });
                    }
                    Verdict::Lost { .. } | Verdict::Elsewhere { .. } => break,
                },
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same with progress on stderr. Ctrl-C lets go of the run, which goes on.
pub(crate) async fn follow_aloud(
    cluster: &Cluster,
    id: &str,
    watcher: &mut Watcher,
) -> Result<Followed, Error> {
    let ended = {
        let following = follow(cluster, id, |run| watcher.seen(run));
        tokio::select! {
            ended = following => Some(ended?),
            _ = tokio::signal::ctrl_c() => None,
        }
    };
    watcher.finish();
    Ok(match ended {
        Some(run) => Followed::Ended(Box::new(run)),
        None => {
            eprintln!(
                "the run goes on; `rankmill runs watch {id}` follows it again, `rankmill runs \
                 cancel {id}` stops it"
            );
            Followed::LetGo
        }
    })
}
