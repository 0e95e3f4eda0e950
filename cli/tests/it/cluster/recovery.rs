//! Schedulers that die, stop, or stand by.

use std::process::Stdio;

use serde_json::json;

use crate::node::{Node, free_address};
use crate::shipped::{DAYS, check, lake, oracle};
use crate::small::{DATE, JOB, SPEC, assert_sound, fill, written};
use crate::support::{Lake, Outcome};

/// Work for some seconds.
const LONG: [&str; 9] = [
    "submit",
    "--generate",
    "--rows",
    "3M",
    "--web-rows",
    "1k",
    "--days",
    "30",
    "--wait",
];

/// Killed in the middle of a run and started again at the same address: the run goes on, and
/// who waits for it goes on waiting.
#[test]
fn a_killed_scheduler_resumes_its_runs() {
    let lake = Lake::local();
    let address = free_address();
    let node = Node::embedded_at(&lake, &address, &[]);
    let waiting = [&LONG[..], &["--format", "json"]].concat();
    let waiter = node.command(&waiting).spawn().unwrap();
    let id = node.until(&["runs", "list"], |runs| {
        let running = runs[0]["state"] == "running";
        running.then(|| runs[0]["id"].as_str().unwrap().to_owned())
    });
    node.kill();

    let node = Node::embedded_at(&lake, &address, &[]);
    let done = Outcome::of(&waiting, waiter.wait_with_output().unwrap()).ok();
    let done: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&done["id"], &done["state"]),
        (&json!(id), &json!("succeeded"))
    );
    assert_eq!(done["attempts"], 2, "{done}");
    assert!(lake.get("truth.json").is_some());
    // What was known before is known still.
    let listed = node.json(&["runs", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

/// Asked to stop, it gives up its runs in order; they are done by the next one.
#[test]
fn a_stopped_scheduler_leaves_its_runs_to_the_next() {
    let lake = lake();
    let node = Node::embedded(&lake, &["--max-runs", "1"]);
    node.run(&["jobs", "apply", "age-date-ranking"]).ok();
    let dates = ["--from", DAYS[0], "--to", DAYS[3]];
    let submit = [&["submit", "age-date-ranking"], &dates[..]].concat();
    let id = node.json(&submit)["id"].as_str().unwrap().to_owned();
    let paused = node.json(&["jobs", "pause", "age-date-ranking"]);
    assert_eq!(paused["paused"], true);
    node.stop();

    let node = Node::embedded(&lake, &[]);
    node.run(&["runs", "watch", &id]).ok();
    for date in DAYS {
        check(&lake, oracle(), "age-date-ranking", date, 1);
    }
    assert_eq!(
        node.json(&["jobs", "show", "age-date-ranking"])["paused"],
        true
    );
}

/// A run that waits for its turn can be cancelled, and one that has begun.
#[test]
fn queued_and_running_runs_can_be_cancelled() {
    let lake = Lake::local();
    fill(&lake);
    let node = Node::embedded(&lake, &["--max-runs", "1"]);
    let (_folder, file) = written(SPEC);
    let first = node.json(&LONG[..LONG.len() - 1]);
    let first = first["id"].as_str().unwrap();
    node.until(&["runs", "show", first], |run| {
        (run["state"] == "running").then_some(())
    });
    let second = node.json(&["submit", "--spec", &file, "--date", DATE]);
    let second = second["id"].as_str().unwrap();
    assert_eq!(node.json(&["runs", "show", second])["state"], "queued");
    assert_eq!(node.json(&["runs", "cancel", second])["state"], "cancelled");
    node.run(&["runs", "retry", first]).fails(2, &[]);
    node.run(&["runs", "cancel", first]).ok();
    node.run(&["runs", "watch", first]).fails(1, &["cancelled"]);
    assert!(lake.published(JOB, DATE).is_none());
    // Cancelled is not for ever.
    node.run(&["runs", "retry", second, "--wait"]).ok();
    assert_sound(&lake);
}

/// Two schedulers on one lake: the second stands by, names the first, and takes over.
#[test]
fn a_standby_takes_over() {
    let lake = Lake::local();
    fill(&lake);
    let first = Node::embedded(&lake, &["--instance", "first"]);
    let (_folder, file) = written(SPEC);
    first.run(&["jobs", "apply", &file]).ok();
    let mut second = Node::embedded(&lake, &["--instance", "second"]);
    // Whoever asks the standby alone is sent to the leader.
    assert_eq!(second.json(&["jobs", "list"])[0]["name"], JOB);

    let both = format!("{},{}", first.url(), second.url());
    let waiting = [&LONG[..], &["--format", "json", "--cluster", &both]].concat();
    let waiter = lake.command(&waiting).stdin(Stdio::null()).spawn().unwrap();
    first.until(&["runs", "list"], |runs| {
        (runs[0]["state"] == "running").then_some(())
    });
    first.kill();
    let done = Outcome::of(&waiting, waiter.wait_with_output().unwrap()).ok();
    let done: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&done["state"], &done["attempts"]),
        (&json!("succeeded"), &json!(2))
    );

    second.client = vec!["--cluster".into(), both];
    second.run(&["submit", JOB, "--date", DATE, "--wait"]).ok();
    assert_sound(&lake);
}
