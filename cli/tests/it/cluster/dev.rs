//! `rankmill dev`: schedulers and executors as processes of their own.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Node, PATIENCE};
use crate::shipped::{DAYS, JOBS, check, lake, lake_on_s3, oracle};

fn kill(pid: &Value) {
    let pid = pid.as_u64().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
}

fn ids(executors: &Value) -> Vec<String> {
    let executors = executors["executors"].as_array().unwrap().iter();
    executors
        .map(|e| e["id"].as_str().unwrap().to_owned())
        .collect()
}

fn wait_for_end_of(pids: &Value) {
    let deadline = Instant::now() + PATIENCE;
    for (role, pid) in pids.as_object().unwrap() {
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "{role} is still there");
            sleep(Duration::from_millis(20));
        }
    }
}

/// The rankings are those of one process, an executor that dies is replaced, and nothing is left.
#[test]
fn a_cluster_on_one_machine() {
    let lake = lake_on_s3();
    let node = Node::cluster(&lake, &["--executors", "2"]);
    let before = ids(&node.json(&["executors"]));
    assert_eq!(before.len(), 2);
    node.run(&[&["jobs", "apply"], &JOBS[..]].concat()).ok();
    for job in JOBS {
        let dates = ["--from", DAYS[0], "--to", DAYS[3]];
        let ran = node.run(&[&["run", job], &dates[..]].concat()).ok();
        assert!(
            ran.stderr.contains("4 of 4 dates published"),
            "{}",
            ran.stderr
        );
        for date in DAYS {
            check(&lake, oracle(), job, date, 1);
        }
    }

    kill(&node.announced["pids"]["executor 1"]);
    node.until(&["executors"], |executors| {
        let now = ids(executors);
        let new = now.iter().filter(|id| !before.contains(id)).count();
        (now.len() == 2 && new == 1).then_some(())
    });
    assert!(
        node.said().contains("the executor 1 died"),
        "{}",
        node.said()
    );
    let again = ["submit", JOBS[1], "--date", DAYS[0], "--force", "--wait"];
    node.run(&again).ok();
    check(&lake, oracle(), JOBS[1], DAYS[0], 2);

    let pids = node.announced["pids"].clone();
    node.stop();
    wait_for_end_of(&pids);
}

/// The standby takes over from a scheduler that dies; killed itself, `dev` leaves nobody behind.
#[test]
fn a_cluster_with_a_standby() {
    let lake = lake();
    let node = Node::cluster(&lake, &["--executors", "1", "--standby"]);
    node.run(&["jobs", "apply", JOBS[0]]).ok();
    // Whichever of them leads.
    let pids = node.announced["pids"].clone();
    kill(&pids["scheduler"]);
    let submit = ["submit", JOBS[0], "--date", DAYS[0], "--wait"];
    node.run(&submit).ok();
    check(&lake, oracle(), JOBS[0], DAYS[0], 1);
    node.kill();
    wait_for_end_of(&pids);
}
