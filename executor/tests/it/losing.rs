//! The scheduler goes away.

use std::net::SocketAddr;

use crate::process::Node;
use crate::support::{free_port, options, until};

/// Starts a scheduler and an executor, does `what` to the scheduler, and wants the executor to end
/// with "scheduler lost".
async fn after(what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let scheduler = Node::scheduler(address, folder.path());
    let mut executor = Node::executor(&options(address.to_string(), folder.path()), "executor");
    until("joining", async || executor.log().contains("joined")).await;
    scheduler.signal(what);
    let ended = executor.end().await;
    assert_eq!(ended.code(), Some(3), "{}", executor.log());
    // Nothing is left of it.
    let left = std::fs::read_dir(folder.path().join("work"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_killed_scheduler_is_lost() {
    after("KILL").await;
}

#[tokio::test]
async fn a_frozen_scheduler_is_lost() {
    after("STOP").await;
}

#[tokio::test]
async fn an_executor_waits_for_a_scheduler_and_can_be_stopped_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut executor = Node::executor(&options(address.to_string(), folder.path()), "executor");
    let mut other = Node::executor(&options(address.to_string(), folder.path()), "other");
    for executor in [&executor, &other] {
        until("waiting", async || {
            executor.log().contains("no scheduler yet")
        })
        .await;
    }
    other.signal("TERM");
    assert_eq!(other.end().await.code(), Some(0));
    let _scheduler = Node::scheduler(address, folder.path());
    until("joining", async || executor.log().contains("joined")).await;
    assert!(executor.is_running());
}
