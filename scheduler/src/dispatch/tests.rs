//! Runs over a small lake, with real computations.

mod attempts;
mod calendar;
mod cancels;
mod deaths;
mod house;
mod order;
mod repairs;

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::model::{Run, RunId, RunState};
use crate::testing::{Lake, Node, NodeOptions, day};

/// An instant.
pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The records of all runs, as they lie in the lake, oldest first.
fn records(lake: &Lake) -> Vec<Run> {
    let mut runs: Vec<Run> = files_below(lake.file("_rankmill/runs"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "json"))
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect();
    runs.sort_by_key(|run| run.id);
    runs
}

fn record(lake: &Lake, id: RunId) -> Run {
    records(lake).into_iter().find(|run| run.id == id).unwrap()
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = found.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(path),
            false => vec![path],
        })
        .collect()
}

#[tokio::test]
async fn a_submitted_run_publishes() {
    let lake = Lake::new([1, 2]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "2026-01-03").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    let outcomes: Vec<&str> = run.dates.iter().map(|date| date.outcome.as_str()).collect();
    assert_eq!(outcomes, ["published", "published", "gap"]);
    assert_eq!(lake.generation("top", day(1)), Some(1));
    assert_eq!(lake.generation("top", day(2)), Some(1));
    let said: Vec<&str> = run.events.iter().map(|e| e.message.as_str()).collect();
    assert!(said.contains(&"no input for 2026-01-03"), "{said:?}");
    // Again: nothing to do.
    let id = node.submit("top", "2026-01-01", "2026-01-02").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded);
    assert!(
        run.dates
            .iter()
            .all(|date| date.outcome == "already_current")
    );
    assert_eq!(lake.generation("top", day(1)), Some(1));
    node.stop().await;
}
