//! Faults over the real topology: SeaweedFS, two schedulers and executors, each a process that
//! `deploy/local-cluster` starts. Whatever is killed, frozen, cut off or full, a run ends with
//! one whole ranking, which the oracle checks row by row, or fails clearly and a retry mends it.
//!
//! The slow half is ignored by default; `make test-faults` runs all of it, with what the
//! scheduler's and the executor's own tests have on faults.

mod executors;
mod inputs;
mod link;
mod network;
mod resources;
mod schedulers;
mod storage;
mod topology;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use rankmill_datagen::Config;
use serde_json::Value;

use crate::http::{Message, Moment, proxy};
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

/// The same job under another name, which publishes elsewhere.
fn spec(name: &str) -> (String, PathBuf) {
    let job = format!("{JOB}-{name}");
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

/// A proxy before S3 that holds the requests that a test wants held.
#[derive(Clone)]
pub(crate) struct Brake {
    pub(crate) port: u16,
    rules: Arc<(Mutex<Vec<Rule>>, Condvar)>,
}

type Matches = dyn FnMut(Moment, &Message) -> bool + Send;

struct Rule {
    matches: Box<Matches>,
    /// Requests that it held so far.
    held: usize,
    /// Whether those may go on, once that is decided.
    verdict: Option<bool>,
    /// Whether it holds nothing any more.
    over: bool,
}

/// One of the rules of a brake.
#[derive(Clone, Copy)]
pub(crate) struct Hold(usize);

impl Brake {
    /// Before the S3 server at this port; every request takes `delay` longer.
    pub(crate) fn before(port: u16, delay: Duration) -> Self {
        let rules: Arc<(Mutex<Vec<Rule>>, Condvar)> = Arc::default();
        let shared = Arc::clone(&rules);
        let hook = move |moment, request: &Message| {
            if moment == Moment::Before {
                std::thread::sleep(delay);
            }
            let (rules, decided) = &*shared;
            let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
            let applies = |rule: &mut Rule| !rule.over && (rule.matches)(moment, request);
            let Some(index) = rules.iter_mut().position(applies) else {
                return true;
            };
            rules[index].held += 1;
            loop {
                match rules[index].verdict {
                    Some(verdict) => return verdict,
                    None => rules = decided.wait(rules).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        Self {
            port: proxy(port, Arc::new(hook)),
            rules,
        }
    }

    /// Its address, as the nodes are told it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Holds requests at a moment from now on.
    pub(crate) fn hold(
        &self,
        at: Moment,
        matches: impl Fn(&Message) -> bool + Send + 'static,
    ) -> Hold {
        self.hold_if(move |moment, request| moment == at && matches(request))
    }

    /// Holds requests from now on.
    pub(crate) fn hold_if(
        &self,
        matches: impl FnMut(Moment, &Message) -> bool + Send + 'static,
    ) -> Hold {
        let mut rules = self.rules.0.lock().unwrap();
        rules.push(Rule {
            matches: Box::new(matches),
            held: 0,
            verdict: None,
            over: false,
        });
        Hold(rules.len() - 1)
    }

    /// Waits until one is held.
    pub(crate) fn until_held(&self, hold: Hold) {
        until("a request to be held", || {
            (self.rules.0.lock().unwrap()[hold.0].held > 0).then_some(())
        });
    }

    /// Lets go: those that are held go on, or their connections end; later ones pass.
    pub(crate) fn release(&self, hold: Hold, go_on: bool) {
        self.rules.0.lock().unwrap()[hold.0].over = true;
        self.decide(hold, go_on);
    }

    /// Holds nothing any longer than it takes to say whether it goes on.
    pub(crate) fn decide(&self, hold: Hold, go_on: bool) {
        self.rules.0.lock().unwrap()[hold.0].verdict = Some(go_on);
        self.rules.1.notify_all();
    }
}
