//! The commands around a run: looking at rankings and going back, specs, plans, generating.

use rankmill_datagen::truth;
use serde_json::{Value, json};

use crate::s3;
use crate::shipped::{DAYS, JOBS, add_clicks, lake, lake_on_s3};
use crate::support::{Lake, scratch};

#[test]
fn published_rankings_can_be_shown_listed_and_rolled_back() {
    for lake in [lake(), lake_on_s3()] {
        let job = "age-date-ranking";
        let date = ["run", job, "--date", DAYS[0]];
        lake.run(&["run", job, "--from", DAYS[0], "--to", DAYS[1]])
            .ok();
        let first = lake.published(job, DAYS[0]).unwrap().rows;
        add_clicks(&lake, DAYS[0]);
        lake.run(&date).ok();
        let second = lake.published(job, DAYS[0]).unwrap().rows;
        assert_ne!(first, second);

        let of_first_day = ["rankings", "show", job, "--date", DAYS[0]];
        let shown = lake.json(&of_first_day);
        assert_eq!(
            (&shown["generation"], &shown["rows"]),
            (&json!(2), &second.objects())
        );
        let filtered = ["--where", "age_band=20s", "--show", "3"];
        let shown = lake.json(&[&of_first_day[..], &filtered].concat());
        let bands = shown["rows"].as_array().unwrap().iter();
        let bands: Vec<_> = bands.map(|row| (&row["age_band"], &row["rank"])).collect();
        let twenties = json!("20s");
        let expected = [json!(1), json!(2), json!(3)];
        assert!(
            bands
                .into_iter()
                .eq(expected.iter().map(|rank| (&twenties, rank)))
        );
        assert_eq!(lake.json(&["rankings", "show", job])["date"], DAYS[1]);

        let generations = |list: Value| -> Vec<(String, u64)> {
            let commit = |c: &Value| {
                (
                    c["date"].as_str().unwrap().to_owned(),
                    c["generation"].as_u64().unwrap(),
                )
            };
            list.as_array().unwrap().iter().map(commit).collect()
        };
        let listed = generations(lake.json(&["rankings", "list", job]));
        assert_eq!(listed, [(DAYS[0].to_owned(), 2), (DAYS[1].to_owned(), 1)]);

        let rolled = ["rankings", "rollback", job, "--date", DAYS[0], "--to", "1"];
        assert_eq!(lake.json(&rolled)["generation"], 3);
        assert_eq!(lake.published(job, DAYS[0]).unwrap().rows, first);
        // The next scheduled run leaves it so.
        let again = lake.json(&date);
        assert_eq!(again["dates"][0]["outcome"], "already_current");
        assert_eq!(lake.published(job, DAYS[0]).unwrap().rows, first);
        lake.run(&[&date[..], &["--force"]].concat()).ok();
        assert_eq!(lake.published(job, DAYS[0]).unwrap().rows, second);
        let history = generations(lake.json(&["rankings", "history", job, "--date", DAYS[0]]));
        assert_eq!(
            history,
            [4, 3, 2, 1].map(|generation| (DAYS[0].to_owned(), generation))
        );

        lake.run(&["rankings", "rollback", job, "--date", DAYS[0], "--to", "9"])
            .fails(1, &["no generation 9", "4"]);
        lake.run(&["rankings", "show", job, "--date", DAYS[2]])
            .fails(1, &["not published"]);
    }
}

#[test]
fn specs_and_plans_can_be_looked_at() {
    let lake = lake();
    let names = lake.run(&["spec", "list"]).ok().stdout;
    for job in JOBS {
        assert!(names.lines().any(|name| name == job), "{names}");
        // What `show` prints is a spec to start one's own from.
        let yaml = lake.run(&["spec", "show", job]).ok().stdout;
        let file = scratch().join(format!("{job}-copy.yaml"));
        std::fs::write(&file, yaml).unwrap();
        let file = file.to_str().unwrap();
        let checked = lake.json(&["spec", "check", file, "--date", DAYS[0]]);
        assert_eq!(checked, json!({ "job": job, "ok": true }));
        let plan = lake.json(&["explain", file, "--date", DAYS[0]]);
        let plan = plan["plan"].as_str().unwrap();
        assert!(
            plan.contains("Physical plan") && plan.contains("DataSourceExec"),
            "{plan}"
        );
    }
    let schema = lake.run(&["spec", "schema"]).ok().stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["ranking"].is_object());
    lake.run(&["spec", "show", "nothing"])
        .fails(2, &["nothing", "daily-popularity"]);
    let table = lake
        .run(&["run", "daily-web-pages", "--date", DAYS[0], "--show", "2"])
        .ok();
    assert!(
        table.stdout.contains("p95_latency_ms") && table.stdout.contains("│"),
        "{}",
        table.stdout
    );
    let summary = ["1 of 1 dates published", "rows/s", "peak memory"];
    assert!(
        summary.iter().all(|part| table.stderr.contains(part)),
        "{}",
        table.stderr
    );
}

#[test]
fn a_lake_can_be_generated_from_the_command_line() {
    let options = [
        "generate",
        "--rows",
        "4k",
        "--web-rows",
        "500",
        "--users",
        "200",
        "--performances",
        "40",
    ];
    let [first, second, bucket] = [Lake::local(), Lake::local(), s3::bucket()];
    for (lake, threads) in [(&first, "1"), (&second, "2"), (&bucket, "2")] {
        let made = lake.json(&[&options[..], &["--threads", threads]].concat());
        assert_eq!(made["already_there"], false);
        assert_eq!(made["tables"]["ticket_clicks"]["rows"], 4_000);
    }
    assert_eq!(first.json(&options)["already_there"], true);
    first.run(&["generate", "--rows", "5k"]).fails(2, &[]);
    let is_data = |path: &String| path.ends_with(".parquet") || path == truth::FILE;
    for path in first.list("").into_iter().filter(is_data) {
        assert!(
            first.get(&path) == second.get(&path),
            "{path}: the bytes depend on the threads"
        );
        assert!(
            first.get(&path) == bucket.get(&path),
            "{path}: the bytes depend on the store"
        );
    }
}

#[test]
fn many_jobs_run_one_after_the_other() {
    let lake = lake();
    let both = [
        "run",
        "daily-popularity",
        "daily-web-pages",
        "--date",
        DAYS[0],
        "--show",
        "1",
    ];
    let ran = lake.run(&both).ok();
    for part in ["daily-popularity: 1 of 1", "daily-web-pages: 1 of 1"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    // A line of JSON for each.
    let again = lake.run(&[&both[..], &["--format", "json"]].concat()).ok();
    let jobs = again.stdout.lines().map(|line| {
        let report: Value = serde_json::from_str(line).unwrap();
        assert_eq!(report["dates"][0]["outcome"], "already_current");
        report["job"].as_str().unwrap().to_owned()
    });
    assert_eq!(
        jobs.collect::<Vec<_>>(),
        ["daily-popularity", "daily-web-pages"]
    );

    // A mistake in any keeps all from beginning; a failure of one doesn't.
    let fresh = ["--date", DAYS[1], "--show", "0"];
    lake.run(&[&["run", "daily-popularity", "nothing"][..], &fresh].concat())
        .fails(2, &["nothing"]);
    assert!(lake.published("daily-popularity", DAYS[1]).is_none());
    lake.delete("dim/users/part-00000.parquet");
    let ran = lake.run(&[&["run", "age-date-ranking", "daily-popularity"][..], &fresh].concat());
    let ran = ran.fails(1, &["age-date-ranking", "dim/users"]);
    assert!(
        ran.stderr.contains("daily-popularity: 1 of 1"),
        "{}",
        ran.stderr
    );
    assert!(lake.published("daily-popularity", DAYS[1]).is_some());
}

#[test]
fn hot_keys_of_a_dataset_are_found() {
    let lake = lake();
    let root = lake.folder().to_str().unwrap();
    let clicks = format!("{root}/stage/ticket_clicks");
    let of_items = ["skew", "--source", &clicks, "--column", "performance_id"];
    let skew = lake.json(&of_items);
    let truth = &skew["found"]["rows"];
    assert!(truth.as_u64().unwrap() > 0, "{skew}");
    let hottest = skew["found"]["keys"][0]["key"].as_str().unwrap();
    let advice = &skew["advice"];
    assert_eq!(advice["shuffled"][2]["tasks"], 256, "{advice}");
    let longest = advice["shuffled"][2]["longest_by_mean"].as_f64();
    assert!(longest > Some(1.5), "{advice}");
    let straggles_from = advice["straggles_from_tasks"].as_u64();
    assert!(straggles_from.is_some_and(|tasks| tasks < 256), "{advice}");
    assert_eq!(advice["groups"], "dense");
    assert_eq!(advice["join"], "looked_up");
    assert!(advice["broadcast_share"].as_f64() > Some(0.0), "{advice}");
    let text = lake.run(&of_items).ok().stdout;
    for part in [
        "performance_id",
        hottest,
        "Zipf exponent",
        "x with 256",
        "looked up",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let one = [&of_items[..], &["--files", "1"]].concat();
    let one = lake.json(&one);
    assert_eq!(one["files_read"], 1);
    assert!(one["files"].as_u64() > Some(1), "{one}");

    // Each row has its own: said to be even.
    let times = ["skew", "--source", &clicks, "--column", "clicked_at"];
    let advice = &lake.json(&times)["advice"];
    assert_eq!(advice["straggles_from_tasks"], serde_json::Value::Null);
    assert_eq!(advice["groups"], "hashed");
    let text = lake.run(&times).ok().stdout;
    assert!(text.contains("no key is hot enough"), "{text}");

    lake.run(&["skew", "--source", &clicks, "--column", "performance"])
        .fails(2, &["'performance'", "performance_id"]);
    // What a run printed is its record.
    let ran = lake.json(&["run", "daily-popularity", "--force", "--date", DAYS[1]]);
    let file = scratch().join("printed.json");
    std::fs::write(&file, ran.to_string()).unwrap();
    let of_file = ["skew", file.to_str().unwrap()];
    assert_eq!(lake.json(&of_file), ran["skew"]);
    let text = lake.run(&of_file).ok().stdout;
    for part in [hottest, "min / median / p95 / max", "decisions"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    std::fs::write(&file, format!("{ran}\n{ran}\n")).unwrap();
    let text = lake.run(&of_file).ok().stdout;
    assert_eq!(text.matches("daily-popularity\n").count(), 2, "{text}");
    for (wrong, part) in [("", "empty"), ("{}", "--format json")] {
        std::fs::write(&file, wrong).unwrap();
        lake.run(&of_file).fails(2, &["printed.json", part]);
    }
    lake.run(&["skew", "./nowhere.json"])
        .fails(2, &["nowhere.json"]);

    lake.run(&["skew", "--source", &clicks])
        .fails(2, &["--column"]);
    lake.run(&["skew"]).fails(2, &["RUN"]);
    let nowhere = format!("{root}/nowhere");
    lake.run(&["skew", "--source", &nowhere, "--column", "a"])
        .fails(1, &["nowhere"]);
}
