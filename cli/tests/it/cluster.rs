//! The client's verbs against a scheduler that computes in its own process.

mod backfills;
mod dev;
mod loads;
mod recovery;
mod security;

use serde_json::{Value, json};

use crate::node::Node;
use crate::shipped::{DAYS, JOBS, check, lake, oracle};
use crate::small::{DATE, FILE, JOB, SPEC, assert_sound, fill, log, published, run, written};
use crate::support::Lake;

const SCHEDULED: &str = "schedule: { cron: \"10 0 1 1 *\", timezone: Asia/Seoul }\n";

#[test]
fn jobs_are_applied_shown_paused_and_deleted() {
    let lake = Lake::local();
    fill(&lake);
    let node = Node::embedded(&lake, &[]);
    assert_eq!(node.json(&["jobs", "list"]), json!([]));

    let (_folder, file) = written(&format!("{SPEC}{SCHEDULED}"));
    let applied = &node.json(&["jobs", "apply", &file, "daily-popularity"]);
    let fields: Vec<_> = applied[0].as_object().unwrap().keys().collect();
    let expected = [
        "applied_at",
        "fired_until",
        "last_run",
        "name",
        "next_at",
        "paused",
        "revision",
        "set",
        "spec",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        (&applied[0]["name"], &applied[0]["revision"]),
        (&json!(JOB), &json!(1))
    );
    assert_eq!(applied[1]["name"], "daily-popularity");
    // New Year's Day in Seoul, ten past midnight.
    let next = applied[0]["next_at"].as_str().unwrap();
    assert!(next.ends_with("-12-31T15:10:00Z"), "{next}");

    assert_eq!(node.json(&["jobs", "apply", &file])[0]["revision"], 2);
    let listed = node.json(&["jobs", "list"]);
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|j| &j["name"])
        .collect();
    assert_eq!(names, ["daily-popularity", JOB]);
    let shown = node.run(&["jobs", "show", JOB]).ok().stdout;
    assert!(
        shown.contains("revision 2") && shown.contains("item: item"),
        "{shown}"
    );

    let paused = node.json(&["jobs", "pause", JOB]);
    assert_eq!(
        (&paused["paused"], &paused["next_at"]),
        (&json!(true), &Value::Null)
    );
    let resumed = node.json(&["jobs", "resume", JOB]);
    assert_eq!(resumed["paused"], false);
    assert_eq!(resumed["next_at"], applied[0]["next_at"]);

    node.run(&["jobs", "delete", JOB]).ok();
    node.run(&["jobs", "show", JOB]).fails(2, &[JOB]);
    // Nothing is applied where one of them is wrong, and the line is named.
    let (_folder, wrong) = written(&SPEC.replace("hits desc", "hit desc"));
    node.run(&["jobs", "apply", &file, &wrong])
        .fails(2, &["spec.yaml", "hit"]);
    assert_eq!(node.json(&["jobs", "list"]).as_array().unwrap().len(), 1);
    node.stop();
}

#[test]
fn a_run_is_queued_followed_and_repeated() {
    let lake = Lake::local();
    fill(&lake);
    let node = Node::embedded(&lake, &[]);
    let (_folder, file) = written(SPEC);
    node.run(&["jobs", "apply", &file]).ok();

    let of_date = ["submit", JOB, "--date", DATE];
    let done = node.json(&[&of_date[..], &["--wait"]].concat());
    assert_sound(&lake);
    assert_eq!(done["state"], "succeeded");
    assert_eq!(
        (&done["job"], &done["trigger"]),
        (&json!(JOB), &json!("manual"))
    );
    assert_eq!((&done["from"], &done["to"]), (&json!(DATE), &json!(DATE)));
    let dates = json!([{ "date": DATE, "outcome": "published", "generation": 1, "rows": 5 }]);
    assert_eq!(done["dates"], dates);
    assert_eq!(
        (&done["attempts"], &done["error"]),
        (&json!(1), &Value::Null)
    );

    let skew = node.json(&["skew", done["id"].as_str().unwrap()]);
    assert_eq!(skew["columns"][0]["column"], "item");
    assert!(
        skew["stages"][0]["tasks"][0]["rows"].as_u64() > Some(0),
        "{skew}"
    );
    let text = node
        .run(&["skew", done["id"].as_str().unwrap()])
        .ok()
        .stdout;
    for part in ["item (group key)", "aggregate: ", "decisions"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // The same request under the same key is the same run.
    let keyed = [&of_date[..], &["--force", "--idempotency-key", "once"]].concat();
    let first = node.json(&keyed);
    assert_eq!(node.json(&keyed)["id"], first["id"]);
    let first = first["id"].as_str().unwrap();
    let outcome = node.run(&["runs", "watch", first]).ok();
    assert!(outcome.stdout.contains("succeeded"), "{}", outcome.stdout);
    assert!(
        outcome.stderr.contains("as generation 2"),
        "{}",
        outcome.stderr
    );
    let again = node.json(&[&of_date[..], &["--wait"]].concat());
    assert_eq!(again["dates"][0]["outcome"], "already_current");

    // A date without input fails; when it has some, the run can be repeated.
    let missing = ["submit", JOB, "--date", "2026-01-03", "--wait"];
    node.run(&missing).fails(1, &["gap"]);
    let failed = node.json(&["runs", "list", "--state", "failed"]);
    assert_eq!(failed.as_array().unwrap().len(), 1);
    let failed = failed[0]["id"].as_str().unwrap();
    node.run(&["runs", "retry", failed, "--wait"])
        .fails(1, &["gap"]);
    lake.put_rows(&FILE.replace(DATE, "2026-01-03"), log());
    let repeated = node.json(&["runs", "retry", failed, "--wait"]);
    assert_eq!(repeated["retry_of"], failed);
    assert_eq!(
        (&repeated["state"], &repeated["trigger"]),
        (&json!("succeeded"), &json!("retry"))
    );

    let listed = node.json(&["runs", "list", "--job", JOB]);
    let states: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["state"])
        .collect();
    // Newest first.
    let expected = [
        "succeeded",
        "failed",
        "failed",
        "succeeded",
        "succeeded",
        "succeeded",
    ];
    assert_eq!(states, expected);
    let few = node.json(&["runs", "list", "--limit", "2"]);
    assert_eq!(few.as_array().unwrap(), &listed.as_array().unwrap()[..2]);
    let table = node.run(&["runs", "list"]).ok().stdout;
    assert!(table.contains(failed) && table.contains("retry"), "{table}");

    let shown = node.json(&["runs", "show", failed]);
    assert_eq!(shown["dates"][0]["outcome"], "gap");
    let logs = node.run(&["runs", "logs", failed]).ok().stdout;
    assert_eq!(
        logs.lines().count(),
        shown["events"].as_array().unwrap().len()
    );
    assert!(!logs.is_empty());
    let followed = node.run(&["runs", "logs", failed, "--follow"]);
    assert_eq!((followed.code, followed.stdout), (Some(1), logs));
    // What has ended stays as it is.
    assert_eq!(node.json(&["runs", "cancel", failed])["state"], "failed");

    node.run(&["submit", "nothing", "--date", DATE])
        .fails(2, &["nothing"]);
    node.run(&["submit", JOB]).fails(2, &["--date"]);
    node.run(&["submit", JOB, "--date", "someday"])
        .fails(2, &["someday"]);
    node.run(&["submit", JOB, "--date", DATE, "--rows", "5"])
        .fails(2, &["--generate"]);
    let unknown = "01900000-0000-7000-8000-000000000000";
    for verb in ["show", "watch", "logs", "cancel", "retry"] {
        node.run(&["runs", verb, unknown]).fails(2, &[unknown]);
    }
}

/// `run --cluster` is `run`, done elsewhere.
#[test]
fn a_run_says_the_same_here_and_there() {
    let here = published();
    let there = Lake::local();
    fill(&there);
    let node = Node::embedded(&there, &[]);
    let (_folder, file) = written(SPEC);
    let of_date = ["run", &file, "--date", DATE, "--force"];
    let embedded = run(&here, SPEC, &["--force"]).ok();
    let cluster = node.run(&of_date).ok();
    // `published` had published once before.
    node.run(&of_date).ok();
    assert_eq!(cluster.stdout, embedded.stdout);
    assert!(
        cluster.stderr.contains("1 of 1 dates published"),
        "{}",
        cluster.stderr
    );
    let [here_json, there_json] = [here.json(&of_date), node.json(&of_date)];
    for field in ["job", "dates", "rows_read", "files_read"] {
        assert_eq!(there_json[field], here_json[field], "{field}");
    }
    let gap = ["run", &file, "--date", "2026-01-09"];
    here.run(&gap).fails(1, &["gap"]);
    node.run(&gap).fails(1, &["gap"]);
    // The lake of the client is another one: its rankings are not shown as the cluster's.
    let elsewhere = Lake::local();
    let mut command = elsewhere.command(&of_date);
    let output = command.args(&node.client).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn every_shipped_job_runs_from_the_scheduler() {
    let lake = lake();
    let node = Node::embedded(&lake, &[]);
    node.run(&[&["jobs", "apply"], &JOBS[..]].concat()).ok();
    for job in JOBS {
        let dates = ["--from", DAYS[0], "--to", DAYS[3], "--wait"];
        node.run(&[&["submit", job], &dates[..]].concat()).ok();
        for date in DAYS {
            check(&lake, oracle(), job, date, 1);
        }
    }
    let executors = node.json(&["executors"]);
    assert_eq!(executors, json!({ "embedded": true, "executors": [] }));
}

#[test]
fn load_is_generated_and_stopped() {
    let lake = Lake::local();
    let node = Node::embedded(&lake, &[]);
    let few = ["--rows", "4k", "--web-rows", "500", "--users", "200"];
    let few = [&few[..], &["--performances", "40", "--days", "2"]].concat();
    let made = node.json(&[&["submit", "--generate", "--wait"], &few[..]].concat());
    assert_eq!(
        (&made["job"], &made["state"]),
        (&Value::Null, &json!("succeeded"))
    );
    // The same bytes as those of the command.
    let other = Lake::local();
    other.run(&[&["generate"], &few[..]].concat()).ok();
    for path in other.list("stage") {
        assert!(lake.get(&path) == other.get(&path), "{path}");
    }

    let many = [
        "submit",
        "--generate",
        "--rows",
        "500M",
        "--days",
        "30",
        "--replace",
    ];
    let id = node.json(&many)["id"].as_str().unwrap().to_owned();
    node.until(&["runs", "show", &id], |run| {
        (run["state"] == "running").then_some(())
    });
    node.run(&["runs", "cancel", &id]).ok();
    node.run(&["runs", "watch", &id]).fails(1, &["cancelled"]);
    assert!(lake.get("truth.json").is_none());
    node.run(&["submit", "--generate", "--days", "0"])
        .fails(2, &["days"]);
}

#[test]
fn nobody_is_there() {
    let lake = Lake::local();
    let cluster = ["--cluster", "http://127.0.0.1:1,127.0.0.1:2"];
    for verb in [
        &["jobs", "list"][..],
        &["submit", "a", "--date", DATE],
        &["executors"],
    ] {
        let words = [
            "http://127.0.0.1:1 (",
            "http://127.0.0.1:2 (",
            "rankmill scheduler",
        ];
        lake.run(&[verb, &cluster].concat()).fails(2, &words);
    }
    lake.run(&["executors", "--cluster", "ftp://a"])
        .fails(2, &["ftp://a"]);
}
