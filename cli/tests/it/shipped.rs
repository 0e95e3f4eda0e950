//! The four shipped jobs on generated lakes: the oracle's rows, on disk and on S3, however the
//! work was split.

use std::sync::OnceLock;

use rankmill_datagen::{Config, truth};
use serde_json::{Value, json};

use crate::oracle::{Oracle, assert_near};
use crate::s3;
use crate::support::{Lake, day, runtime};

pub(crate) const DAYS: [&str; 4] = ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04"];
pub(crate) const JOBS: [&str; 4] = [
    "daily-popularity",
    "age-date-ranking",
    "daily-web-pages",
    "frequent-visitors",
];
/// The stated error of a percentile: 1/129.
const PERCENTILE_ERROR: f64 = 0.0078;

fn config() -> Config {
    Config {
        seed: 7,
        click_rows: 60_000,
        web_rows: 15_000,
        users: 3_000,
        performances: 500,
        from: day(DAYS[0]),
        days: DAYS.len() as u32,
        // Several files a day, several groups a file: work to split.
        rows_per_file: 6_000,
        rows_per_row_group: 2_500,
        ..Config::default()
    }
}

/// The generated lake in a folder of its own. The files are shared: replace them, don't write
/// into them.
pub(crate) fn lake() -> Lake {
    let lake = Lake::local();
    for path in base().list("") {
        let link = lake.folder().join(&path);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::fs::hard_link(base().folder().join(&path), link).unwrap();
    }
    lake
}

/// The same lake in a bucket.
pub(crate) fn lake_on_s3() -> Lake {
    let lake = s3::bucket();
    lake.generate(&config());
    lake
}

pub(crate) fn oracle() -> &'static Oracle {
    static ORACLE: OnceLock<Oracle> = OnceLock::new();
    ORACLE.get_or_init(|| Oracle::of(base()))
}

fn base() -> &'static Lake {
    static BASE: OnceLock<Lake> = OnceLock::new();
    BASE.get_or_init(|| {
        let lake = Lake::local();
        lake.generate(&config());
        lake
    })
}

/// What is published for a date is what the oracle says.
pub(crate) fn check(lake: &Lake, oracle: &Oracle, job: &str, date: &str, generation: u64) {
    let published = lake
        .published(job, date)
        .unwrap_or_else(|| panic!("no {job} of {date}"));
    assert_eq!(published.generation, generation, "{job} {date}");
    let expected = oracle.table(job, day(date));
    match job {
        "daily-web-pages" => {
            assert_near(
                &published.rows,
                &expected,
                "p95_latency_ms",
                PERCENTILE_ERROR,
            );
        }
        _ => published
            .rows
            .assert_eq(&expected, &format!("{job} {date}")),
    }
}

/// Adds clicks to a date: those of its first file come in once more.
pub(crate) fn add_clicks(lake: &Lake, date: &str) {
    let folder = format!("stage/ticket_clicks/date={date}");
    let first = lake.get(&format!("{folder}/part-00000.parquet")).unwrap();
    lake.put(&format!("{folder}/part-99999.parquet"), first);
}

fn all_days(job: &str) -> [&str; 6] {
    ["run", job, "--from", DAYS[0], "--to", DAYS[3]]
}

#[test]
fn every_job_equals_the_oracle_on_disk() {
    let (two, one, daily) = (lake(), lake(), lake());
    for job in JOBS {
        two.run(&[&all_days(job)[..], &["--threads", "2"]].concat())
            .ok();
        one.run(&[&all_days(job)[..], &["--threads", "1"]].concat())
            .ok();
        for date in DAYS {
            daily.run(&["run", job, "--date", date]).ok();
            check(&two, oracle(), job, date, 1);
            let bytes = |lake: &Lake| lake.published(job, date).unwrap().parquet;
            assert!(
                bytes(&two) == bytes(&one),
                "{job} {date}: the bytes depend on the threads"
            );
            assert!(
                bytes(&two) == bytes(&daily),
                "{job} {date}: the bytes depend on the dates"
            );
        }
    }
    // Where a job has a say in how much is ranked, there was more than enough to rank.
    let rows = |job, date| two.published(job, date).unwrap().rows.rows.len();
    assert_eq!(rows("daily-popularity", DAYS[0]), 100);
    assert!(rows("age-date-ranking", DAYS[0]) > 600);
    assert_eq!(
        [
            rows("frequent-visitors", DAYS[1]),
            rows("frequent-visitors", DAYS[3])
        ],
        [0, 1000]
    );
}

#[test]
fn every_job_equals_the_oracle_on_s3() {
    let lake = lake_on_s3();
    for job in JOBS {
        lake.run(&all_days(job)).ok();
        for date in DAYS {
            check(&lake, oracle(), job, date, 1);
        }
    }
    // Little memory and small files change nothing.
    let job = JOBS[1];
    let before = lake.published(job, DAYS[3]).unwrap().parquet;
    let tight = ["--memory", "100MB", "--threads", "1", "--force"];
    lake.run(&[&["run", job, "--date", DAYS[3]][..], &tight].concat())
        .ok();
    let after = lake.published(job, DAYS[3]).unwrap();
    assert_eq!(after.generation, 2);
    assert!(before == after.parquet);
}

#[test]
fn the_oracle_agrees_with_the_truth_file() {
    let root = object_store::path::Path::default();
    let read = truth::read(base().store.as_ref(), &root);
    let truth = runtime().block_on(read).unwrap().unwrap();
    let rows = |job: &str, date, columns: &[&str]| -> Vec<Value> {
        let table = oracle().table(job, date);
        let index = |name: &&str| table.columns.iter().position(|c| c == name).unwrap();
        let wanted: Vec<usize> = columns.iter().map(index).collect();
        let chosen = |row: &Vec<Value>| wanted.iter().map(|&i| row[i].clone()).collect();
        table.rows.iter().map(chosen).collect()
    };
    let items = ["performance_id", "visitors", "clicks"];
    for day in &truth.daily_popularity {
        let top = day
            .top
            .iter()
            .map(|row| json!([row.item, row.visitors, row.clicks]));
        assert_eq!(
            rows("daily-popularity", day.date, &items),
            top.collect::<Vec<_>>()
        );
    }
    for date in DAYS.map(day) {
        let bands = truth
            .age_date_ranking
            .iter()
            .filter(|band| band.date == date);
        let mut top: Vec<Value> = bands
            .flat_map(|band| {
                let name = band.age_band.as_str();
                band.top
                    .iter()
                    .map(move |r| json!([name, r.item, r.visitors, r.clicks]))
            })
            .collect();
        let bands = ["age_band", "performance_id", "visitors", "clicks"];
        // Stable: within a band the order is that of the ranks.
        top.sort_by(|a, b| a[0].as_str().cmp(&b[0].as_str()));
        assert_eq!(rows("age-date-ranking", date, &bands), top);
    }
    let pages = ["path", "hits", "visitors", "failed_share"];
    for day in &truth.daily_web_pages {
        let top = day.top.iter().map(|row| {
            let share = row.errors_5xx as f64 / row.hits as f64;
            json!([row.path, row.hits, row.visitors, share])
        });
        assert_eq!(
            rows("daily-web-pages", day.date, &pages),
            top.collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_same_again_is_no_work_unless_forced() {
    for lake in [lake(), lake_on_s3()] {
        for job in JOBS {
            let date = ["run", job, "--date", DAYS[3]];
            let first = lake.json(&date);
            assert_eq!(first["dates"][0]["outcome"], "published");
            assert_eq!(
                (&first["job"], &first["dates"][0]["date"]),
                (&job.into(), &DAYS[3].into())
            );
            assert!(first["rows_read"].as_u64().unwrap() > 0);
            let again = lake.json(&date);
            let already =
                json!([{ "date": DAYS[3], "outcome": "already_current", "generation": 1 }]);
            assert_eq!(again["dates"], already);
            assert_eq!(again["rows_read"], 0);
            let said = lake.run(&date).ok().stderr;
            assert!(said.contains("nothing to do"), "{said}");
            let forced = lake.json(&[&date[..], &["--force"]].concat());
            assert_eq!(forced["dates"][0]["generation"], 2);
        }
        // A new file is new input.
        add_clicks(&lake, DAYS[3]);
        let changed = lake.json(&["run", JOBS[1], "--date", DAYS[3]]);
        assert_eq!(changed["dates"][0]["generation"], 3);
        let oracle = Oracle::of(&lake);
        check(&lake, &oracle, JOBS[1], DAYS[3], 3);
        let unmatched = oracle.unmatched_views(day(DAYS[3]));
        assert!(unmatched > 0);
        assert_eq!(changed["unmatched"][0]["rows"], unmatched);
    }
}

#[test]
fn the_day_before_decides_rank_changes() {
    let lake = lake();
    // Without the day before there is nothing to compare with …
    lake.run(&["run", "daily-popularity", "--date", DAYS[1]])
        .ok();
    let alone = Oracle::of(&lake).only_clicks(|date| date >= day(DAYS[1]));
    check(&lake, &alone, "daily-popularity", DAYS[1], 1);
    // … and when it comes, or changes, that is new input of the next.
    lake.run(&["run", "daily-popularity", "--date", DAYS[0]])
        .ok();
    lake.run(&["run", "daily-popularity", "--date", DAYS[1]])
        .ok();
    check(&lake, oracle(), "daily-popularity", DAYS[1], 2);
    add_clicks(&lake, DAYS[0]);
    lake.run(&[
        "run",
        "daily-popularity",
        "--from",
        DAYS[0],
        "--to",
        DAYS[1],
    ])
    .ok();
    check(&lake, &Oracle::of(&lake), "daily-popularity", DAYS[0], 2);
    check(&lake, &Oracle::of(&lake), "daily-popularity", DAYS[1], 3);
}
