//! Executors that are killed while they compute.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use datafusion::arrow::util::pretty::pretty_format_batches;
use rankmill_engine::{ScanProgress, Session, SessionOptions};
use rankmill_scheduler::cluster::{Cluster, Options};

use crate::cluster::{executor, lake};

const SCHEDULER: &str = "RANKMILL_TEST_SCHEDULER_PORT";
const WORK_DIR: &str = "RANKMILL_TEST_WORK_DIR";

/// Not a test: the process of an executor, started by the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the body of a process that other tests start"]
async fn executor_process() {
    let (Ok(port), Ok(work_dir)) = (std::env::var(SCHEDULER), std::env::var(WORK_DIR)) else {
        return;
    };
    executor(port.parse().unwrap(), work_dir.into()).await;
}

struct Executor(Child);

impl Executor {
    fn start(cluster: &Cluster, work_dir: &Path) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "faults::executor_process"])
            .env(SCHEDULER, cluster.address().port().to_string())
            .env(WORK_DIR, work_dir)
            .stdout(Stdio::null())
            .spawn();
        Self(process.unwrap())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until_executors(cluster: &Cluster, count: usize) {
    while cluster.executors().await.len() != count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two stages: partial sets of (item, user), then a shuffle, then counts.
const QUERY: &str = "SELECT performance_id, count(*) AS clicks, count(DISTINCT user_id) AS users
     FROM clicks GROUP BY performance_id ORDER BY clicks DESC, performance_id";

async fn rows(session: &Session, progress: &(dyn Fn(ScanProgress) + Sync)) -> String {
    let plan = session.context().sql(QUERY).await.unwrap();
    let plan = plan.into_unoptimized_plan();
    let computed = session.execute("a query", &plan, progress).await.unwrap();
    pretty_format_batches(&computed.batches)
        .unwrap()
        .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_executors_never_change_a_result() {
    let folder = tempfile::tempdir().unwrap();
    lake(folder.path()).await;
    let session = Session::new(&SessionOptions::default()).unwrap();
    let clicks = folder.path().join("stage/ticket_clicks");
    let clicks = clicks.to_str().unwrap();
    let registered = session
        .context()
        .register_parquet("clicks", clicks, Default::default());
    registered.await.unwrap();
    let expected = rows(&session, &|_| {}).await;

    let options = Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        executor_timeout: Duration::from_secs(3),
        ..Options::default()
    };
    let cluster = Cluster::start(options, &session).await.unwrap();
    let there = session.clone().with_compute(Arc::clone(&cluster) as _);
    let start = || Executor::start(&cluster, folder.path());
    let one = Mutex::new(start());
    let mut other = start();
    until_executors(&cluster, 2).await;
    // Before any task ended, in the first stage, between the stages and in the last.
    for tasks_done in [0, 1, 3, 4, 5, 6] {
        let killed = Mutex::new(false);
        let kill = |progress: ScanProgress| {
            let mut killed = killed.lock().unwrap();
            if !*killed && progress.tasks_done >= tasks_done {
                *killed = true;
                one.lock().unwrap().kill();
            }
        };
        let found = rows(&there, &kill).await;
        assert_eq!(found, expected, "killed after {tasks_done} tasks");
        assert!(*killed.lock().unwrap());
        *one.lock().unwrap() = start();
        until_executors(&cluster, 2).await;
    }

    // All of them, and new ones.
    let killed = Mutex::new(false);
    let other = Mutex::new(&mut other);
    let kill = |progress: ScanProgress| {
        let mut killed = killed.lock().unwrap();
        if !*killed && progress.tasks_done >= 1 {
            *killed = true;
            for executor in [&mut *one.lock().unwrap(), &mut **other.lock().unwrap()] {
                executor.kill();
                *executor = start();
            }
        }
    };
    assert_eq!(rows(&there, &kill).await, expected, "all killed");
}
