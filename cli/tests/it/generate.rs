//! Generating, as a user does it: lakes looked at, killed halfway, appended to, too large.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rankmill_datagen::truth;
use serde_json::{Value, json};

use crate::s3;
use crate::support::{Lake, runtime};

const SMALL: [&str; 11] = [
    "generate",
    "--rows",
    "200k",
    "--web-rows",
    "20k",
    "--users",
    "5k",
    "--days",
    "2",
    "--uneven",
    "0",
];

#[test]
fn a_lake_is_verified_and_described() {
    for lake in [Lake::local(), s3::bucket()] {
        lake.run(&SMALL).ok();
        for deep in [
            &["generate", "verify"][..],
            &["generate", "verify", "--deep"],
        ] {
            let said = lake.json(deep);
            assert_eq!(
                (&said["faults"], &said["rows"]),
                (&json!([]), &json!(220_000))
            );
        }
        let svg = tempfile::NamedTempFile::new().unwrap();
        let svg = svg.path().to_str().unwrap();
        let described = lake.json(&["generate", "describe", "--svg", svg]);
        assert_eq!(described["clicks"], 200_000);
        let exponent = described["item_exponent"].as_f64().unwrap();
        assert!((1.0..1.2).contains(&exponent), "{exponent}");
        let hours = described["hours"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap());
        assert_eq!(hours.sum::<u64>(), 200_000);
        assert!(std::fs::read_to_string(svg).unwrap().contains("</svg>"));
        let text = lake
            .run(&["generate", "describe", "--svg", svg])
            .ok()
            .stdout;
        assert!(
            text.contains("Zipf exponent 1.") && text.contains("21:00 ###"),
            "{text}"
        );

        let path = "stage/ticket_clicks/date=2026-06-01/part-00000.parquet";
        let bytes = lake.get(path).unwrap();
        lake.put(path, bytes.slice(..bytes.len() / 2));
        let verified = lake.run(&["generate", "verify"]);
        assert_eq!(verified.code, Some(1));
        assert!(verified.stdout.contains(path), "{}", verified.stdout);
    }
}

#[test]
fn there_must_be_a_lake_to_look_at() {
    let lake = Lake::local();
    lake.run(&["generate", "verify"]).fails(2, &["truth.json"]);
    lake.run(&["generate", "describe"])
        .fails(2, &["ticket_clicks"]);
    lake.run(&["generate", "verify", "gs://a/b"])
        .fails(2, &["gs"]);
}

#[test]
fn a_killed_generation_goes_on_where_it_was() {
    let options = [
        "generate",
        "--rows",
        "3M",
        "--web-rows",
        "0",
        "--rows-per-file",
        "50k",
    ];
    for lake in [Lake::local(), s3::bucket()] {
        let whole = match lake.folder {
            Some(_) => Lake::local(),
            None => s3::bucket(),
        };
        whole.run(&options).ok();
        let mut process = lake
            .command(&options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while lake.list("stage/ticket_clicks").len() < 5 {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(
            lake.get("truth.json").is_none(),
            "killed too late to test anything"
        );
        lake.run(&[&options[..], &["--seed", "9"]].concat())
            .fails(2, &["--replace"]);
        let report = lake.json(&options);
        let kept = report["kept_files"].as_u64().unwrap();
        assert!(kept >= 5, "{kept}");
        for path in whole.list("") {
            assert!(lake.get(&path) == whole.get(&path), "{path}");
        }
        assert_eq!(lake.list("").len(), whole.list("").len());
        assert_eq!(lake.json(&options)["already_there"], true);
    }
}

#[test]
fn traffic_is_appended_until_it_is_stopped() {
    let lake = Lake::local();
    let options = [
        "generate",
        "--rate",
        "200",
        "--every",
        "1s",
        "--users",
        "1k",
        "--daily-curve",
        "0",
        "--days",
        "2",
    ];
    let first = lake.json(&[&options[..], &["--for", "3s"]].concat());
    assert_eq!(first["is_whole"], false);
    let files = lake.list("stage/ticket_clicks").len();
    assert!(files > 2, "{files}");
    // Interrupted by Ctrl-C, it says what it did.
    let process = lake.command(&options).spawn().unwrap();
    let begun = Instant::now();
    while lake.list("stage/ticket_clicks").len() <= files {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is appended"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let pid = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("goes on with it"), "{said}");
    assert!(lake.get("truth.json").is_none());
    let note: Value = serde_json::from_slice(&lake.get("_generating.json").unwrap()).unwrap();
    assert_eq!(note["config"]["seconds_per_file"], 1);
    // Other traffic doesn't mix with it.
    lake.run(&["generate", "--rate", "300", "--for", "1s"])
        .fails(2, &["--replace"]);
    lake.run(&["generate", "--rate", "5", "--every", "1500ms"])
        .fails(2, &["whole seconds"]);
}

#[test]
fn more_than_the_disk_holds_is_refused_before_anything_is_lost() {
    let lake = Lake::local();
    lake.run(&SMALL).ok();
    let before = lake.list("");
    let truth = lake.get("truth.json");
    let much = [
        "generate",
        "--rows",
        "1T",
        "--days",
        "300",
        "--rows-per-file",
        "64M",
    ];
    lake.run(&much).fails(2, &["--replace"]);
    lake.run(&[&much[..], &["--replace"]].concat())
        .fails(2, &["free"]);
    assert_eq!(lake.list(""), before);
    assert!(lake.get("truth.json") == truth);
    Lake::local().run(&much).fails(2, &["GB", "free"]);
}

#[test]
fn profiles_differ_in_skew_and_defects() {
    let truths = ["uniform", "realistic", "brutal"].map(|profile| {
        let lake = Lake::local();
        lake.run(&[&SMALL[..], &["--profile", profile]].concat())
            .ok();
        let root = Default::default();
        let read = truth::read(lake.store.as_ref(), &root);
        runtime().block_on(read).unwrap().unwrap()
    });
    let tops = truths
        .each_ref()
        .map(|truth| truth.daily_popularity[0].top[0].clicks);
    assert!(tops[0] < tops[1] && tops[1] < tops[2], "{tops:?}");
    let late = truths.each_ref().map(|truth| truth.defects.late_clicks);
    assert!(late[0] == 0 && late[1] > 0 && late[1] < late[2], "{late:?}");
}
