//! The folder of shuffle files and spills.

use std::path::Path;
use std::process::Command;

use crate::process::Node;
use crate::support::{QUERY, cluster, options, rows, session, until, until_executors};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_killed_executor_are_swept_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let options = options(cluster.address().to_string(), folder.path());
    std::fs::create_dir_all(options.work_dir.join("somebody-else")).unwrap();
    let mut killed = Node::executor(&options, "killed");
    until_executors(&cluster, 1).await;
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);
    let dead = cluster.executors().await[0].id.clone();
    killed.signal("KILL");
    killed.end().await;
    let of_dead = options.work_dir.join(format!("executor-{dead}"));
    assert!(of_dead.join("shuffle").is_dir());
    let _first = Node::executor(&options, "first");
    let _second = Node::executor(&options, "second");
    until("two living executors", async || {
        let executors = cluster.executors().await;
        executors.iter().filter(|e| e.id != dead).count() == 2
    })
    .await;
    assert!(!of_dead.exists());
    assert!(options.work_dir.join("somebody-else").is_dir());
    assert_eq!(rows(&there, QUERY).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_run_clearly_and_the_executor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    if !can_mount() {
        println!("skipped: no file system can be mounted in a namespace of its own");
        return;
    }
    let session = session(folder.path()).await;
    let expected = rows(&session, QUERY).await.unwrap();
    let (there, cluster) = cluster(&session, None).await;
    let options = options(cluster.address().to_string(), folder.path());
    std::fs::create_dir_all(&options.work_dir).unwrap();
    let mut executor = Node::executor_by(on_small_disk(&options.work_dir), &options, "executor");
    until_executors(&cluster, 1).await;
    let large = "SELECT \"user\", page, count(*) AS n, max(repeat(page, 20)) AS m FROM clicks
        GROUP BY 1, 2 ORDER BY 1, 2";
    let error = rows(&there, large).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no space left in"), "{text}");
    assert!(text.contains("/work/executor-"), "{text}");
    assert!(error.retryable(), "{text}");
    // The files of the failed run are removed soon, and there is space again.
    until("space", async || {
        let again = rows(&there, QUERY).await;
        again
            .inspect_err(|e| println!("{e}"))
            .is_ok_and(|rows| rows == expected)
    })
    .await;
    assert!(executor.is_running());
}

/// Runs this binary where the folder is a file system of 1 MiB.
fn on_small_disk(folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder)
        .arg(std::env::current_exe().unwrap());
    command
}

fn can_mount() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$0\"";
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .output();
    tried.is_ok_and(|output| output.status.success())
}
