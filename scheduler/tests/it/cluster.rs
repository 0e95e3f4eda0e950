//! Plans on executors give what they give in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use rankmill_datagen::{Config, Part, Plan, Progress, generate};
use rankmill_engine::store::LocalStore;
use rankmill_engine::{Location, ScanProgress, Session, SessionOptions};
use rankmill_jobs::shipped::SHIPPED;
use rankmill_jobs::spec::{Params, parse};
use rankmill_jobs::{DateReport, Error, Observer, RunRequest, run};
use rankmill_scheduler::cluster::{Cluster, Options};

struct Quiet;

impl Progress for Quiet {
    fn part_done(&self, _: &Part, _: u64, _: u64) {}
}

impl Observer for Quiet {
    fn reading(&self, _: usize, _: Option<u64>, _: u64) {}
    fn progress(&self, _: ScanProgress) {}
    fn publishing(&self, _: NaiveDate) {}
    fn retrying(&self, _: &Error) {}
    fn date_done(&self, _: &DateReport) {}
}

async fn lake(folder: &Path) {
    let config = Config {
        click_rows: 200_000,
        web_rows: 50_000,
        users: 5_000,
        performances: 500,
        days: 3,
        ..Config::default()
    };
    let place = Location::parse(folder.to_str().unwrap()).unwrap();
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&config).unwrap();
        let store = Arc::new(LocalStore::new());
        generate(&plan, store, place.path(), 2, &handle, true, &Quiet).unwrap()
    })
    .await
    .unwrap();
}

async fn run_all(session: &Session, lake: &Path) {
    let params = Params::new(lake.to_str().unwrap(), BTreeMap::new());
    let first: NaiveDate = "2026-06-01".parse().unwrap();
    for shipped in SHIPPED {
        let spec = parse(shipped.yaml, shipped.name, &params).unwrap();
        let request = RunRequest {
            dates: first.iter_days().take(3).collect(),
            force: false,
            allow_empty: false,
            dates_per_pass: None,
        };
        let report = run(session, &spec, &params, &request, &Quiet).await;
        let report = report.unwrap_or_else(|e| panic!("{}: {e:?}", shipped.name));
        assert_eq!(report.dates.len(), 3, "{}", shipped.name);
    }
}

/// The published files of a lake but the ids of runs: job, date and name → bytes.
fn published(lake: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for shipped in SHIPPED {
        let job = lake.join("rankings").join(shipped.name);
        for date in std::fs::read_dir(&job).unwrap().map(Result::unwrap) {
            let data = date.path().join("data");
            if !data.is_dir() {
                continue;
            }
            for run in std::fs::read_dir(data).unwrap().map(Result::unwrap) {
                for file in std::fs::read_dir(run.path()).unwrap().map(Result::unwrap) {
                    if file.file_name() == ".rankmill.lock" {
                        continue;
                    }
                    let name = format!(
                        "{} {} {}",
                        shipped.name,
                        date.file_name().display(),
                        file.file_name().display()
                    );
                    files.insert(name, std::fs::read(file.path()).unwrap());
                }
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shipped_specs_give_the_same_bytes_embedded_and_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    lake(&here).await;
    lake(&there).await;
    let session = Session::new(&SessionOptions::default()).unwrap();
    run_all(&session, &here).await;

    let options = Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        ..Options::default()
    };
    let cluster = Cluster::start(options, &session).await.unwrap();
    let port = cluster.address().port();
    for i in 0..2 {
        let work_dir = folder.path().join(format!("executor{i}"));
        tokio::spawn(executor(port, work_dir));
    }
    while cluster.executors().await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run_all(&session.with_compute(cluster), &there).await;
    let (here, there) = (published(&here), published(&there));
    assert_eq!(here.len(), 4 * 3 * 2);
    assert_eq!(
        here.keys().collect::<Vec<_>>(),
        there.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &here {
        assert!(there[name] == *bytes, "{name} differs");
    }
}

async fn executor(scheduler: u16, work_dir: std::path::PathBuf) {
    use ballista_core::registry::BallistaFunctionRegistry;
    use ballista_core::serde::BallistaPhysicalExtensionCodec;
    use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
    std::fs::create_dir_all(&work_dir).unwrap();
    let free = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    };
    let mut registry = BallistaFunctionRegistry::default();
    for f in rankmill_engine::functions::scalar_functions() {
        for name in [f.name()]
            .into_iter()
            .chain(f.aliases().iter().map(String::as_str))
        {
            registry
                .scalar_functions
                .insert(name.to_owned(), Arc::clone(&f));
        }
    }
    for f in rankmill_engine::functions::aggregate_functions() {
        for name in [f.name()]
            .into_iter()
            .chain(f.aliases().iter().map(String::as_str))
        {
            registry
                .aggregate_functions
                .insert(name.to_owned(), Arc::clone(&f));
        }
    }
    let session = Session::new(&SessionOptions::default()).unwrap();
    let config = ExecutorProcessConfig {
        scheduler_host: "127.0.0.1".into(),
        scheduler_port: scheduler,
        port: free(),
        grpc_port: free(),
        vcores: 1,
        external_host: Some("127.0.0.1".into()),
        task_scheduling_policy: ballista_core::config::TaskSchedulingPolicy::PushStaged,
        executor_heartbeat_interval_seconds: 1,
        work_dir: Some(work_dir.to_str().unwrap().into()),
        override_function_registry: Some(Arc::new(registry)),
        override_physical_codec: Some(rankmill_engine::codec::physical(Arc::new(
            BallistaPhysicalExtensionCodec::default(),
        ))),
        override_runtime_producer: Some(Arc::new(move |_| Ok(session.context().runtime_env()))),
        ..Default::default()
    };
    start_executor_process(Arc::new(config)).await.unwrap();
}
