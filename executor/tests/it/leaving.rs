//! An executor is told to stop.

use std::time::Duration;

use crate::process::Node;
use crate::support::{
    LONG_QUERY, SLOW_QUERY, cluster, options, plan, rows, session, until, until_executors,
};

/// The scheduler counts a task as soon as it sends it: one that hasn't arrived keeps nobody from
/// leaving.
async fn arrived() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_that_one_of_two_executors_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let expected = rows(&session, SLOW_QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let options = options(cluster.address().to_string(), folder.path());
    let mut leaving = Node::executor(&options, "leaving");
    until_executors(&cluster, 1).await;
    let id = cluster.executors().await[0].id.clone();
    let mut staying = Node::executor(&options, "staying");
    until_executors(&cluster, 2).await;
    let running = tokio::spawn(async move { rows(&there, SLOW_QUERY).await });
    until("a task", async || {
        let executors = cluster.executors().await;
        executors.iter().any(|e| e.id == id && e.busy_slots > 0)
    })
    .await;
    arrived().await;
    leaving.signal("TERM");
    until("no tasks to be sent", async || {
        cluster.executors().await.iter().all(|e| e.id != id)
    })
    .await;
    assert_eq!(leaving.end().await.code(), Some(0));
    // It stayed until the run that needed it was over, and did so without being cut short.
    assert!(running.is_finished());
    assert!(!leaving.log().contains("although"), "{}", leaving.log());
    assert_eq!(running.await.unwrap().unwrap(), expected);
    assert!(staying.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_takes_no_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let (there, cluster) = cluster(&session, None).await;
    let mut options = options(cluster.address().to_string(), folder.path());
    options.drain_timeout = Duration::from_millis(500);
    let mut executor = Node::executor(&options, "executor");
    until_executors(&cluster, 1).await;
    let plan = plan(&session, LONG_QUERY).await;
    let running = tokio::spawn(async move { there.execute("long", &plan, &|_| {}).await });
    until("a task", async || {
        cluster.executors().await[0].busy_slots > 0
    })
    .await;
    arrived().await;
    executor.signal("TERM");
    assert_eq!(executor.end().await.code(), Some(0));
    assert!(!running.is_finished());
    assert!(
        executor.log().contains("although an unfinished job"),
        "{}",
        executor.log()
    );
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_executor_leaves_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let (_, cluster) = cluster(&session, None).await;
    let options = options(cluster.address().to_string(), folder.path());
    let mut executor = Node::executor(&options, "executor");
    until_executors(&cluster, 1).await;
    executor.signal("INT");
    assert_eq!(executor.end().await.code(), Some(0));
    until_executors(&cluster, 0).await;
}
