//! Who may change the records of jobs.

use crate::error::{Error, Result};
use crate::model::{JobRecord, JobView};
use crate::service::Caller;
use crate::testing::{Lake, Node, NodeOptions};

fn epoch(epoch: u64) -> NodeOptions {
    NodeOptions {
        epoch,
        ..NodeOptions::default()
    }
}

fn record(lake: &Lake) -> JobRecord {
    let text = std::fs::read(lake.file("_rankmill/jobs/a.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

async fn pause(node: &Node, paused: bool) -> Result<JobView> {
    let caller = Caller::default();
    node.service.set_paused(&caller, "a", paused).await
}

fn is_fenced<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Fenced { epoch: 2 }))
}

#[tokio::test]
async fn a_leader_that_wakes_late_changes_no_job() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    old.apply("a").await;
    assert_eq!(record(&lake).epoch, 1);
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    pause(&new, true).await.unwrap();
    assert_eq!(record(&lake).epoch, 2);
    assert!(is_fenced(pause(&old, false).await));
    assert_eq!(*old.core.fenced().borrow(), Some(2));
    assert!(record(&lake).job.paused);
}

#[tokio::test]
async fn nor_removes_one() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    old.apply("a").await;
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    pause(&new, true).await.unwrap();
    assert!(is_fenced(old.core.remove_job("a").await));
    assert!(record(&lake).job.paused);
}

#[tokio::test]
async fn it_hears_of_its_successor_when_it_looks() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    old.apply("a").await;
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    pause(&new, true).await.unwrap();
    assert!(is_fenced(old.core.refresh_jobs(&mut Vec::new()).await));
}

/// Records of before epochs were written to them.
#[tokio::test]
async fn a_record_without_an_epoch_is_the_oldest() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, epoch(1)).await.unwrap();
    node.apply("a").await;
    let old = serde_json::to_vec(&record(&lake).job).unwrap();
    std::fs::write(lake.file("_rankmill/jobs/a.json"), old).unwrap();
    assert_eq!(record(&lake).epoch, 0);
    let node = Node::idle(&lake, epoch(2)).await.unwrap();
    pause(&node, true).await.unwrap();
    let known = record(&lake);
    assert!(known.job.paused && known.epoch == 2);
}
