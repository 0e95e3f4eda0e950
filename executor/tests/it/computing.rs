//! What executors compute.

use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use rankmill_engine::JOINS_IN_PARTS;

use crate::process::Node;
use crate::support::{
    LONG_QUERY, QUERY, cluster, options, plan, rows, session, spawn, until, until_executors,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_executors_compute_what_one_process_computes() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    for _ in 0..2 {
        spawn(options(cluster.address().to_string(), folder.path()));
    }
    until_executors(&cluster, 2).await;
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);
    // Of the squares modulo 97 there are 49.
    assert_eq!(expected.lines().count(), 49 + 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fails_or_panics_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let mut executor = Node::executor(
        &options(cluster.address().to_string(), folder.path()),
        "executor",
    );
    until_executors(&cluster, 1).await;
    let id = cluster.executors().await[0].id.clone();
    let failing = "SELECT page, 1 / (bytes - bytes) AS x FROM clicks";
    let error = rows(&there, failing).await.unwrap_err().to_string();
    assert!(error.contains("DivideByZero"), "{error}");
    // A string of less than no length: DataFusion's capacity overflows.
    let panicking = "SELECT max(lpad(page, bytes - 9223372036854775807 - 2)) AS x FROM clicks
        WHERE bytes = 1";
    let error = rows(&there, panicking).await.unwrap_err().to_string();
    assert!(error.contains("panic"), "{error}");
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);
    assert!(executor.is_running());
    assert_eq!(cluster.executors().await[0].id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_without_enough_memory_fails_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let mut small = options(cluster.address().to_string(), folder.path());
    small.memory_bytes = Some(32 << 20);
    spawn(small);
    until_executors(&cluster, 1).await;
    // What a single group gathers can't be spilled.
    let large = "SELECT length(string_agg(repeat(page, 200) || \"user\", '')) FROM clicks";
    let error = rows(&there, large).await.unwrap_err().to_string();
    assert!(error.contains("ResourcesExhausted"), "{error}");
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_without_enough_memory_goes_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    // Of a task's part each side as a hash table takes more than its slot has.
    let side = "(SELECT \"user\" * 100000 + bytes * 16 + unnest(range(0, 16)) AS k, bytes AS b, \"user\" AS u
        FROM clicks)";
    let large =
        &format!("SELECT count(*), sum(l.b - r.u) FROM {side} l JOIN {side} r ON l.k = r.k");
    let expected = rows(&session, large).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let mut small = options(cluster.address().to_string(), folder.path());
    small.memory_bytes = Some(40 << 20);
    spawn(small);
    until_executors(&cluster, 1).await;
    let plan = plan(&there, large).await;
    let computed = there.execute("join", &plan, &|_| {}).await.unwrap();
    let found = pretty_format_batches(&computed.batches).unwrap();
    assert_eq!(found.to_string(), expected);
    let said = &computed.skew.decisions;
    assert!(said.iter().any(|said| said == JOINS_IN_PARTS), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_stops() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let (there, cluster) = cluster(&session, None).await;
    let executor = Node::executor(
        &options(cluster.address().to_string(), folder.path()),
        "executor",
    );
    until_executors(&cluster, 1).await;
    let plan = plan(&session, LONG_QUERY).await;
    let running = tokio::spawn(async move { there.execute("long", &plan, &|_| {}).await });
    until("a task", async || {
        cluster.executors().await[0].busy_slots > 0
    })
    .await;
    // It computes now: a second of work has been done in the process.
    let begun = ticks(executor.pid());
    until("work", async || ticks(executor.pid()) > begun + 100).await;
    running.abort();
    until("the work to stop", async || {
        let before = ticks(executor.pid());
        tokio::time::sleep(Duration::from_secs(1)).await;
        ticks(executor.pid()) < before + 10
    })
    .await;
}

/// Hundredths of a second of processor time that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
