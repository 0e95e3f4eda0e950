//! This test binary as a node: a process that can be stopped, frozen and killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rankmill_engine::{Session, SessionOptions};
use rankmill_executor::Options;
use rankmill_scheduler::cluster::{self, Cluster};
use serde_json::{Value, json};

const NODE: &str = "RANKMILL_TEST_NODE";

/// A node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// An executor process. It ends with 0 after it has left in order, with 3 when it has lost
    /// its scheduler.
    pub(crate) fn executor(options: &Options, name: &str) -> Self {
        Self::executor_by(
            Command::new(std::env::current_exe().unwrap()),
            options,
            name,
        )
    }

    /// An executor process, started through another command that gets its arguments.
    pub(crate) fn executor_by(command: Command, options: &Options, name: &str) -> Self {
        let config = json!({
            "scheduler": options.schedulers[0],
            "slots": options.slots,
            "memory_bytes": options.memory_bytes,
            "work_dir": options.work_dir,
            "drain_ms": options.drain_timeout.as_millis() as u64,
        });
        Self::start(command, "executor", &config, &options.work_dir, name)
    }

    /// A scheduler process at `address`.
    pub(crate) fn scheduler(address: SocketAddr, folder: &Path) -> Self {
        let config = json!({ "bind": address.to_string() });
        let command = Command::new(std::env::current_exe().unwrap());
        Self::start(
            command,
            "scheduler",
            &config,
            &folder.join("x"),
            "scheduler",
        )
    }

    fn start(mut command: Command, role: &str, config: &Value, beside: &Path, name: &str) -> Self {
        let log = beside.with_file_name(format!("{name}.log"));
        let out = std::fs::File::create(&log).unwrap();
        let child = command
            .args([
                "--exact",
                &format!("process::{role}"),
                "--ignored",
                "--nocapture",
            ])
            .env(NODE, config.to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) async fn end(&mut self) -> ExitStatus {
        super::support::until("a process to end", async || !self.is_running()).await;
        self.child.wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

fn config() -> Option<Value> {
    let config = std::env::var(NODE).ok()?;
    tracing_subscriber::fmt().with_ansi(false).init();
    Some(serde_json::from_str(&config).unwrap())
}

#[test]
#[ignore = "not a test: the process of an executor"]
fn executor() {
    let Some(config) = config() else { return };
    let work_dir = PathBuf::from(config["work_dir"].as_str().unwrap());
    let options = Options {
        slots: config["slots"].as_u64().unwrap() as usize,
        memory_bytes: config["memory_bytes"].as_u64(),
        drain_timeout: Duration::from_millis(config["drain_ms"].as_u64().unwrap()),
        work_dir: work_dir.clone(),
        ..super::support::options(config["scheduler"].as_str().unwrap().into(), &work_dir)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stopped = runtime.block_on(Box::pin(rankmill_executor::run(options)));
    let code = match stopped {
        Ok(rankmill_executor::Stopped::Shutdown) => 0,
        Ok(rankmill_executor::Stopped::SchedulerLost) => 3,
        other => panic!("{other:?}"),
    };
    println!("ended with {code}");
    std::process::exit(code);
}

#[test]
#[ignore = "not a test: the process of a scheduler"]
fn scheduler() {
    let Some(config) = config() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = cluster::Options {
        bind: config["bind"].as_str().unwrap().parse().unwrap(),
        ..cluster::Options::default()
    };
    let session = Session::new(&SessionOptions::default()).unwrap();
    let _cluster = runtime.block_on(Cluster::start(options, &session)).unwrap();
    runtime.block_on(std::future::pending::<()>());
}
