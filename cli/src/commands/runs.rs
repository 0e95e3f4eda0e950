//! `rankmill runs`: the runs of a cluster.

use rankmill_scheduler::proto::{
    CancelRunRequest, Event, GetRunRequest, ListRunsRequest, RetryRunRequest, Run, RunState,
    RunSummary,
};
use serde_json::{Value, json};

use super::submit::{exit_code, id_of, new_key, wait_for};
use crate::args::{Format, RunsArgs, RunsCommand, State};
use crate::cluster::{
    Cluster, Repeat, events_text, follow, run_json, run_text, runs_table, state_name, summary_json,
    time,
};
use crate::environment::Environment;
use crate::output;

/// The most that the API gives at once.
const PAGE: u32 = 1000;

pub(crate) async fn run(environment: &Environment, args: RunsArgs) -> anyhow::Result<u8> {
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    match args.command {
        RunsCommand::List { job, state, limit } => {
            let states: Vec<i32> = state
                .into_iter()
                .map(|s| RunState::from(s).into())
                .collect();
            let runs = list(&cluster, job.unwrap_or_default(), states, limit).await?;
            match environment.format {
                Format::Table => output::line(runs_table(&runs))?,
                Format::Json => output::line(runs.iter().map(summary_json).collect::<Value>())?,
            }
        }
        RunsCommand::Show { id } => {
            let run = show(&cluster, &id).await?;
            print(environment, &run, run_text(&run))?;
        }
        RunsCommand::Watch { id } => return wait_for(environment, &cluster, &id).await,
        RunsCommand::Logs { id, follow: false } => {
            let run = show(&cluster, &id).await?;
            print_events(environment, &run.events)?;
        }
        RunsCommand::Logs { id, follow: true } => {
            let mut told = Vec::new();
            let mut failed = Ok(());
            let run = follow(&cluster, &id, |run| {
                let new = unseen(&told, &run.events).to_vec();
                if failed.is_ok() {
                    failed = print_events(environment, &new);
                }
                told = run.events.clone();
            });
            let run = run.await?;
            failed?;
            return Ok(exit_code(&run));
        }
        RunsCommand::Cancel { id } => {
            let request = CancelRunRequest { id };
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.cancel_run(request).await
            });
            let run = answer.await?;
            let state = run.summary.as_ref().map(RunSummary::state);
            let text = match state.unwrap_or_default() {
                RunState::Cancelled => "cancelled".to_owned(),
                state if crate::cluster::is_final(state) => {
                    format!("it had {} already", state_name(state))
                }
                state => format!("{}; it is being stopped", state_name(state)),
            };
            print(environment, &run, format!("run {}: {text}", id_of(&run)))?;
        }
        RunsCommand::Retry { id, wait } => {
            let request = RetryRunRequest {
                id: id.clone(),
                idempotency_key: new_key(),
            };
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.retry_run(request).await
            });
            let run = answer.await?;
            if wait {
                if !environment.quiet {
                    eprintln!("run {}", id_of(&run));
                }
                return wait_for(environment, &cluster, id_of(&run)).await;
            }
            let text = format!("queued run {}, which repeats {id}", id_of(&run));
            print(environment, &run, text)?;
        }
    }
    Ok(0)
}

/// The newest runs, page after page.
async fn list(
    cluster: &Cluster,
    job: String,
    states: Vec<i32>,
    limit: u32,
) -> anyhow::Result<Vec<RunSummary>> {
    let mut runs = Vec::new();
    let mut page_token = String::new();
    while runs.len() < limit as usize {
        let request = ListRunsRequest {
            job: job.clone(),
            states: states.clone(),
            page_size: (limit - runs.len() as u32).min(PAGE),
            page_token,
        };
        let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
            client.list_runs(request).await
        });
        let page = answer.await?;
        runs.extend(page.runs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(runs)
}

pub(crate) async fn show(cluster: &Cluster, id: &str) -> anyhow::Result<Run> {
    let request = GetRunRequest { id: id.to_owned() };
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.get_run(request).await
    });
    Ok(answer.await?)
}

fn print(environment: &Environment, run: &Run, text: String) -> anyhow::Result<()> {
    match environment.format {
        Format::Table => output::line(text),
        Format::Json => output::line(run_json(run)),
    }
}

/// A line for each event: of text, or of JSON.
fn print_events(environment: &Environment, events: &[Event]) -> anyhow::Result<()> {
    for event in events {
        match environment.format {
            Format::Table => output::line(events_text([event]))?,
            Format::Json => {
                output::line(json!({ "at": time(event.at), "message": event.message }))?;
            }
        }
    }
    Ok(())
}

/// The events that are not known yet. Of a long run the oldest are dropped, so they can't be
/// counted from the front.
fn unseen<'a>(known: &[Event], events: &'a [Event]) -> &'a [Event] {
    let Some(last) = known.last() else {
        return events;
    };
    match events.iter().rposition(|event| event == last) {
        Some(at) => &events[at + 1..],
        None => events,
    }
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Publishing => Self::Publishing,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Fenced => Self::Fenced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_told_once() {
        let event = |message: &str| Event {
            at: None,
            message: message.to_owned(),
        };
        let all = ["a", "b", "c", "d"].map(event);
        assert_eq!(unseen(&[], &all), &all);
        assert_eq!(unseen(&all[..2], &all), &all[2..]);
        assert_eq!(unseen(&all, &all), &[]);
        // The first ones were dropped.
        assert_eq!(unseen(&all[..3], &all[2..]), &all[3..]);
    }
}
