//! Schedulers and whole clusters as processes, and the client's verbs against them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Lake, Outcome, scratch};

/// Nothing takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A process that serves until it is dropped, killed or asked to stop.
pub(crate) struct Node<'a> {
    pub(crate) lake: &'a Lake,
    /// What it announced on stdout.
    pub(crate) announced: Value,
    /// Options that lead clients to it.
    pub(crate) client: Vec<String>,
    child: Child,
    log: PathBuf,
}

impl<'a> Node<'a> {
    /// A scheduler that computes in its own process.
    pub(crate) fn embedded(lake: &'a Lake, arguments: &[&str]) -> Self {
        Self::embedded_at(lake, "127.0.0.1:0", arguments)
    }

    /// The same at an address of one's own choosing.
    pub(crate) fn embedded_at(lake: &'a Lake, address: &str, arguments: &[&str]) -> Self {
        let own = ["scheduler", "--embedded", "--bind", address];
        let mut node = Self::start(lake, lake.command(&[&own[..], arguments].concat()));
        node.client = vec!["--cluster".into(), node.url().into()];
        node
    }

    /// A whole cluster.
    pub(crate) fn cluster(lake: &'a Lake, arguments: &[&str]) -> Self {
        let own = ["dev", "--port", "0"];
        let mut node = Self::start(lake, lake.command(&[&own[..], arguments].concat()));
        let cluster = node.announced["cluster"].as_str().unwrap().to_owned();
        node.client = vec!["--cluster".into(), cluster];
        node
    }

    /// A scheduler that a command starts.
    pub(crate) fn start(lake: &'a Lake, mut command: Command) -> Self {
        let log = new_log();
        // It ends with this process, whose end of the pipe is then closed.
        let mut child = command
            .args(["--format", "json", "--until-stdin-ends"])
            .stdin(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (tell, told) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let _ = tell.send(line.unwrap());
            }
        });
        let mut node = Self {
            lake,
            announced: Value::Null,
            client: Vec::new(),
            child,
            log,
        };
        match told.recv_timeout(PATIENCE) {
            Ok(line) => node.announced = serde_json::from_str(&line).unwrap(),
            Err(_) => panic!("it announced nothing: {}", node.said()),
        }
        node
    }

    pub(crate) fn url(&self) -> &str {
        self.announced["api"].as_str().unwrap()
    }

    /// Its standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A command line of the client.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lake.command(arguments);
        command.args(&self.client);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        Outcome::of(arguments, output)
    }

    /// What a verb that must succeed says, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self.run(&[arguments, &["--format", "json"]].concat());
        let (said, log) = (&outcome.stderr, self.said());
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {said}\n{log}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// Asks until `found` finds what it wants in the answer.
    pub(crate) fn until<T>(&self, arguments: &[&str], found: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.json(arguments);
            if let Some(found) = found(&answer) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{arguments:?} goes on to say {answer}\n{}",
                self.said()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, which it must do without an error.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{}", self.said());
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it doesn't stop: {}",
                self.said()
            );
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_log() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("node-{number}.log"))
}

/// A process that announces nothing and logs what it does, until it is dropped.
pub(crate) struct Helper {
    child: Child,
    log: PathBuf,
}

impl Helper {
    pub(crate) fn start(mut command: Command) -> Self {
        let log = new_log();
        // It ends with this process, whose end of the pipe is then closed.
        let child = command
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged something.
    pub(crate) fn until_said(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(what) {
            let ended = self.child.try_wait().unwrap();
            let waits = ended.is_none() && Instant::now() < deadline;
            assert!(waits, "{what:?} ({ended:?}): {}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to stop, by the end of its input, which it must do without an error.
    pub(crate) fn stop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it goes on: {}", self.said());
            sleep(Duration::from_millis(20));
        }
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.said());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago, for a process that is to come back to it.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
