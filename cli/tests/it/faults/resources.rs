//! Executors without room: on the disk, and in memory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::topology::Topology;
use super::until;
use crate::shipped::DAYS;
use crate::small::written;

/// A program that runs rankmill's executors where the work folder is a file system of 32 KiB.
fn on_small_disk(folder: &Path) -> String {
    let work = folder.join("small");
    std::fs::create_dir(&work).unwrap();
    let (bin, work) = (env!("CARGO_BIN_EXE_rankmill"), work.display());
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = executor ] || exec '{bin}' \"$@\"\n\
         exec unshare --user --map-root-user --mount sh -c \\\n    \
             'mount -t tmpfs -o size=32k tmpfs {work} && exec {bin} \"$@\"' sh \"$@\"\n"
    );
    let file = folder.join("rankmill-on-small-disk");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    file.to_str().unwrap().to_owned()
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

/// The reason is told; the executor lives on; and with an executor that has room the run ends.
#[test]
fn a_full_disk() {
    if !can_mount() {
        println!("skipped: no file system can be mounted in a namespace of its own");
        return;
    }
    let topology = Topology::new(&[("RANKMILL_LOCAL_STANDBY", "0")]);
    topology.start(&["scheduler"]);
    let small = on_small_disk(topology.folder.path());
    let work = topology.folder.path().join("small");
    let options = format!("--work-dir {}", work.display());
    let through = [
        ("RANKMILL_BIN", &*small),
        ("RANKMILL_LOCAL_EXECUTOR_OPTIONS", &*options),
    ];
    topology.start_with(&["executor-1"], &through);
    let ranking = topology.rank();
    topology.until_run(&ranking.id, "reason that names the disk", |run| {
        let mut attempts = run["attempts_made"].as_array()?.iter();
        let named = |reason: &str| reason.contains("no space left in");
        attempts
            .any(|a| a["reason"].as_str().is_some_and(named))
            .then_some(())
    });
    assert!(topology.runs("executor-1"));
    assert!(topology.lake.published(&ranking.job, DAYS[0]).is_none());
    topology.start(&["executor-2"]);
    topology.stop(&["executor-1"]);
    topology.ranked(&ranking);
}

/// What a single group gathers, which can't go to disk, is far larger than the memory of an executor.
const HUNGRY: &str = r#"version: 1
name: hungry
sources:
  clicks: { path: "{lake}/stage/ticket_clicks/", date: { partition: date } }
sql: |
  SELECT 'all' AS action, length(string_agg(repeat(platform, 300), '')) AS gathered FROM clicks
output: { path: "{lake}/rankings/hungry/", key: [action] }
"#;

/// With too little memory a job spills, or fails and says why; the others go on.
#[test]
fn little_memory() {
    let topology = Topology::new(&[("RANKMILL_LOCAL_STANDBY", "0")]);
    topology.start(&["scheduler"]);
    topology.start_with(&["executor-1"], &[("RANKMILL_MEMORY", "64MiB")]);
    let (_folder, hungry) = written(HUNGRY);
    topology.apply(&[&hungry]);
    let id = topology.submit("hungry", &DAYS[..1], &[]);
    let other = topology.rank();
    let run = topology.ended(&id);
    assert_eq!(run["state"], "failed", "{run:#}");
    let error = run["error"].as_str().unwrap();
    assert!(error.contains("memory"), "{error}");
    assert!(topology.lake.published("hungry", DAYS[0]).is_none());
    topology.ranked(&other);

    topology.start(&["executor-2"]);
    topology.stop(&["executor-1"]);
    let retried = topology.json(&["runs", "retry", &id]);
    topology.succeeded(retried["id"].as_str().unwrap());
    assert_eq!(
        topology
            .lake
            .published("hungry", DAYS[0])
            .unwrap()
            .generation,
        1
    );
}

/// The kernel gives an executor no more memory, and it dies of that.
#[test]
fn out_of_memory() {
    let topology = Topology::without_standby(&[]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    // Less than it has: the next time that it asks, it gets none.
    let pid = topology.pid("executor-1").to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, "--as=1048576"])
        .status();
    assert!(limited.unwrap().success());
    until("an executor to die of it", || {
        (!topology.runs("executor-1")).then_some(())
    });
    // It may say so by a panic.
    topology.forget_log("executor-1");
    topology.ranked(&ranking);
}
