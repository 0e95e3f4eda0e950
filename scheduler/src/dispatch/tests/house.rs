//! Records in order: segments of the index, and what a start reads.

use crate::model::{Run, RunId, RunState};
use crate::service::{RunFilter, Service};
use crate::testing::{Flaky, Lake, Node, NodeOptions};

async fn listed(service: &Service) -> Vec<RunId> {
    let mut ids = Vec::new();
    let mut filter = RunFilter {
        page_size: 100,
        ..RunFilter::default()
    };
    loop {
        let page = service.runs(&filter).await.unwrap();
        ids.extend(page.runs.iter().map(|run| run.id));
        match page.next_page_token {
            None => return ids,
            token => filter.page_token = token,
        }
    }
}

#[tokio::test]
async fn many_ended_runs_are_read_at_once() {
    let lake = Lake::new([1]);
    let mut runs: Vec<Run> = (0..450)
        .map(|_| Lake::run_of("a", RunState::Succeeded))
        .collect();
    runs.push(Lake::run_of("a", RunState::Queued));
    runs.iter().for_each(|run| lake.write_run(run));
    let mut newest: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    newest.reverse();

    let store = Flaky::on_disk();
    let options = |epoch| NodeOptions::over(&store, epoch);
    let reads = || std::mem::take(&mut store.faults.lock().unwrap().reads);
    let node = Node::idle(&lake, options(1)).await.unwrap();
    assert_eq!(reads(), 451);
    assert_eq!(listed(&node.service).await, newest);
    // A list costs no request.
    assert_eq!(reads(), 0);
    node.core.index_ended().await.unwrap();
    node.core.index_ended().await.unwrap();

    let node = Node::idle(&lake, options(2)).await.unwrap();
    let read = reads();
    assert!(read <= 1 + 199 + 3, "{read} reads");
    assert_eq!(listed(&node.service).await, newest);
    // What is in a segment can still be looked at, and is not queued again.
    let first = node.service.run(runs[0].id).await.unwrap();
    assert_eq!(first.summary, runs[0].summary());
    let going_on: Vec<RunId> = node.core.items().iter().map(|(item, _)| item.id).collect();
    assert_eq!(going_on, [runs[450].id]);
}

/// A segment whose writing fails is written later.
#[tokio::test]
async fn a_segment_that_fails_is_not_forgotten() {
    let lake = Lake::new([1]);
    let runs: Vec<Run> = (0..200)
        .map(|_| Lake::run_of("a", RunState::Failed))
        .collect();
    runs.iter().for_each(|run| lake.write_run(run));
    let store = Flaky::on_disk();
    let options = |epoch| NodeOptions::over(&store, epoch);
    let node = Node::idle(&lake, options(1)).await.unwrap();
    store.faults.lock().unwrap().fail_writes = 3;
    assert!(node.core.index_ended().await.is_err());
    assert!(!lake.file("_rankmill/index").exists());
    node.core.index_ended().await.unwrap();
    store.faults.lock().unwrap().reads = 0;
    let node = Node::idle(&lake, options(2)).await.unwrap();
    assert_eq!(store.faults.lock().unwrap().reads, 1);
    assert_eq!(listed(&node.service).await.len(), 200);
}
