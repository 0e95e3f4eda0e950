//! Faults over the real topology: SeaweedFS, two schedulers and executors, each a process that
//! `deploy/local-cluster` starts. Whatever is killed, frozen, cut off or full, a run ends with
//! one whole ranking, which the oracle checks row by row, or fails clearly and a retry mends it.
//!
//! The slow half is ignored by default; `make test-faults` runs all of it, with what the
//! scheduler's and the executor's own tests have on faults.

mod brake;
mod executors;
mod inputs;
mod link;
mod network;
mod resources;
mod schedulers;
mod sleepers;
mod storage;
mod topology;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use rankmill_datagen::Config;
use serde_json::Value;

use crate::http::Message;
use crate::oracle::Oracle;
use crate::shipped::{self, DAYS};
use crate::support::{Lake, day, runtime, scratch};

/// Longer than the watchdog of any part takes, so only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(240);

/// Enough for a run to take some seconds, in many tasks.
fn config() -> Config {
    Config {
        seed: 11,
        click_rows: 400_000,
        web_rows: 40_000,
        users: 20_000,
        performances: 1_000,
        from: day(DAYS[0]),
        days: DAYS.len() as u32,
        rows_per_file: 12_500,
        rows_per_row_group: 5_000,
        ..Config::default()
    }
}

/// The lake of all of these tests, on disk.
fn base() -> &'static Lake {
    static BASE: OnceLock<Lake> = OnceLock::new();
    BASE.get_or_init(|| {
        let lake = Lake::local();
        lake.generate(&config());
        lake
    })
}

/// What is right for it.
fn oracle() -> &'static Oracle {
    static ORACLE: OnceLock<Oracle> = OnceLock::new();
    ORACLE.get_or_init(|| Oracle::of(base()))
}

/// Copies it into another store.
fn fill(store: &Arc<dyn ObjectStore>) {
    let copies = base().list("").into_iter().map(|path| {
        let path = StorePath::parse(path).unwrap();
        async move {
            let file = base().store.get(&path).await.unwrap();
            let bytes = file.bytes().await.unwrap();
            store.put(&path, bytes.into()).await.unwrap();
        }
    });
    runtime().block_on(stream::iter(copies).buffer_unordered(8).collect::<()>());
}

/// The job that most of these tests run.
const JOB: &str = "age-date-ranking";

/// The same job under a name with a number, which publishes elsewhere.
fn spec(number: u32) -> (String, PathBuf) {
    let job = format!("{JOB}-{number}");
    let yaml = include_str!("../../../jobs/specs/age-date-ranking.yaml").replace(JOB, &job);
    let file = scratch().join(format!("{job}.yaml"));
    std::fs::write(&file, yaml).unwrap();
    (job, file)
}

/// What is published is what the oracle says, as this generation.
fn check(lake: &Lake, job: &str, date: &str, generation: u64) {
    if job.starts_with(JOB) {
        let published = lake.published(job, date).unwrap();
        assert_eq!(published.generation, generation, "{job} {date}");
        let expected = oracle().table(JOB, day(date));
        published
            .rows
            .assert_eq(&expected, &format!("{job} {date}"));
    } else {
        shipped::check(lake, oracle(), job, date, generation);
    }
}

fn check_all(lake: &Lake, job: &str, generation: u64) {
    for date in DAYS {
        check(lake, job, date, generation);
    }
}

/// It was published once, and nothing else ever was.
fn check_once(lake: &Lake, job: &str, date: &str) {
    check(lake, job, date, 1);
    let folder = format!("rankings/{job}/date={date}/current.json");
    let commit: Value = serde_json::from_slice(&lake.get(&folder).unwrap()).unwrap();
    assert!(commit["previous"].is_null(), "{commit:#}");
}

/// Whether a request writes the commit point of a date.
fn commits(job: &str, date: &str) -> impl Fn(&Message) -> bool + Send + 'static {
    let path = format!("/rankings/{job}/date={date}/current.json");
    move |request| request.puts(&path)
}

/// Random numbers that are the same each time (Knuth's MMIX generator).
struct Moments(u64);

impl Moments {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
