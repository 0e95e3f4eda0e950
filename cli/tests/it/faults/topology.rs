//! A cluster that `deploy/local-cluster` starts, on ports and in a folder of its own.

mod place;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::prefix::PrefixStore;
use serde_json::Value;
use tempfile::TempDir;

use self::place::Place;
use super::{check_once, fill, spec, until};
use crate::s3;
use crate::shipped::DAYS;
use crate::support::{Lake, scratch, watchdog};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/local-cluster");
/// A run.
pub(crate) struct Ranking {
    pub(crate) job: String,
    pub(crate) id: String,
}

pub(crate) struct Topology {
    pub(crate) lake: Lake,
    pub(crate) folder: TempDir,
    base: u16,
    variables: Vec<(String, String)>,
    /// Ends the processes with this one.
    _watchdog: Child,
    _place: Place,
}

impl Topology {
    /// S3 alone, with the lake in it; `variables` are those of the script.
    pub(crate) fn new(variables: &[(&str, &str)]) -> Self {
        let place = Place::claim();
        // Not in the folder of this process, which may be removed before they are found in there.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // They live in sessions of their own.
        let script = r#"
            cat >/dev/null
            for role in "$0"/*.pid; do read -r pid _ <"$role" && kill -KILL "$pid"; done
            rm -rf -- "$0"
        "#;
        let watchdog = watchdog(script, &[folder.path().to_str().unwrap()]);
        let variables = variables.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let mut topology = Self {
            lake: Lake::at(folder.path()),
            folder,
            base: place.base,
            variables: variables.collect(),
            _watchdog: watchdog,
            _place: place,
        };
        topology.start(&["s3"]);
        topology.lake = topology.lake();
        fill(&topology.lake.store);
        topology
    }

    /// All of it: S3, a scheduler, a standby and two executors, which have a slot each.
    pub(crate) fn whole(variables: &[(&str, &str)]) -> Self {
        let topology = Self::new(variables);
        topology.start(&["scheduler", "standby", "executor-1", "executor-2"]);
        topology
    }

    /// The same with one scheduler only.
    pub(crate) fn without_standby(variables: &[(&str, &str)]) -> Self {
        let topology = Self::new(&[variables, &[("RANKMILL_LOCAL_STANDBY", "0")]].concat());
        topology.start(&["scheduler", "executor-1", "executor-2"]);
        topology
    }

    fn lake(&self) -> Lake {
        let secret = std::fs::read_to_string(self.folder.path().join("s3.secret")).unwrap();
        let endpoint = format!("http://127.0.0.1:{}", self.s3_port());
        let store = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("rankmill")
            .with_secret_access_key(secret.trim())
            .with_bucket_name("lake")
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .unwrap();
        let store = Arc::new(PrefixStore::new(store, "rankmill"));
        let mut variables = s3::variables(&endpoint);
        for (name, value) in &mut variables {
            match name.as_str() {
                "AWS_ACCESS_KEY_ID" => *value = "rankmill".to_owned(),
                "AWS_SECRET_ACCESS_KEY" => *value = secret.trim().to_owned(),
                _ => {}
            }
        }
        variables.push(("RANKMILL_CLUSTER".to_owned(), self.apis().join(",")));
        Lake {
            address: "s3://lake/rankmill".to_owned(),
            store,
            variables,
            folder: None,
        }
    }

    pub(crate) fn s3_port(&self) -> u16 {
        self.base + 100
    }

    /// Where executors are served, by the scheduler and by the standby.
    pub(crate) fn cluster_ports(&self) -> [u16; 2] {
        [self.base + 50, self.base + 51]
    }

    /// Ports beside those of the script.
    pub(crate) fn free_ports(&self) -> [u16; 3] {
        [60, 61, 62].map(|port| self.base + port)
    }

    fn apis(&self) -> Vec<String> {
        let standby = self
            .variables
            .iter()
            .all(|(name, value)| name != "RANKMILL_LOCAL_STANDBY" || value != "0");
        let ports = [self.base, self.base + 1];
        let ports = &ports[..if standby { 2 } else { 1 }];
        ports
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect()
    }

    /// Runs the script.
    fn script(&self, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
        let mut command = Command::new(SCRIPT);
        command.args(arguments).current_dir(scratch());
        let not_ours = |name: &str| name.starts_with("AWS_") || name.starts_with("RANKMILL_");
        for (name, _) in std::env::vars().filter(|(name, _)| not_ours(name)) {
            if name != "RANKMILL_WEED" {
                command.env_remove(name);
            }
        }
        command
            .env_remove("RUST_LOG")
            .env("RUST_BACKTRACE", "1")
            .env("RANKMILL_BIN", env!("CARGO_BIN_EXE_rankmill"))
            .env("RANKMILL_LOCAL_DIR", self.folder.path())
            .env("RANKMILL_LOCAL_PORT", self.base.to_string())
            .envs(self.variables.iter().cloned())
            .envs(variables.iter().copied());
        command.output().unwrap()
    }

    fn must(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.script(arguments, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn start(&self, roles: &[&str]) {
        self.start_with(roles, &[]);
    }

    /// Starts roles with more variables.
    pub(crate) fn start_with(&self, roles: &[&str], variables: &[(&str, &str)]) {
        self.must(&[&["start"], roles].concat(), variables);
    }

    /// Asks them to stop, which they must do.
    pub(crate) fn stop(&self, roles: &[&str]) {
        self.must(&[&["stop"], roles].concat(), &[]);
    }

    /// SIGKILL, or another signal.
    pub(crate) fn signal(&self, signal: &str, role: &str) {
        self.signal_all(signal, &[role]);
    }

    pub(crate) fn signal_all(&self, signal: &str, roles: &[&str]) {
        self.must(&[&["kill", signal], roles].concat(), &[]);
        if signal == "-KILL" {
            until("killed processes to be gone", || {
                roles.iter().all(|role| !self.runs(role)).then_some(())
            });
        }
    }

    pub(crate) fn kill(&self, role: &str) {
        self.signal("-KILL", role);
    }

    pub(crate) fn runs(&self, role: &str) -> bool {
        self.script(&["pid", role], &[]).status.success()
    }

    pub(crate) fn pid(&self, role: &str) -> u32 {
        self.must(&["pid", role], &[]).trim().parse().unwrap()
    }

    /// The role of the scheduler that leads.
    pub(crate) fn leader(&self) -> &'static str {
        until("a leader", || {
            let leads = |api: &String| get(api, "/api/v1/jobs").is_some();
            let index = self.apis().iter().position(leads)?;
            Some(["scheduler", "standby"][index])
        })
    }

    /// What the leader answers to a `GET`; nothing while there is none.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.apis().iter().find_map(|api| get(api, path))
    }

    /// What a verb of the client says. It finds the leader by itself, but doesn't wait long for
    /// one, and on a machine that has too much to do a leader may lose its place.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--format", "json"]].concat();
        until("a scheduler that leads", || {
            let outcome = self.lake.run(&arguments);
            let nobody = outcome.code == Some(2) && outcome.stderr.contains("no scheduler");
            (!nobody).then(|| serde_json::from_str(&outcome.ok().stdout).unwrap())
        })
    }

    pub(crate) fn apply(&self, jobs: &[&str]) {
        self.json(&[&["jobs", "apply"], jobs].concat());
    }

    /// Queues a run, once; its id.
    pub(crate) fn submit(&self, job: &str, dates: &[&str], more: &[&str]) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let key = format!("submit-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (first, last) = (dates[0], dates[dates.len() - 1]);
        let submit = ["submit", "--from", first, "--to", last];
        let what = match job.ends_with(".yaml") {
            true => vec!["--spec", job],
            false => vec![job],
        };
        let key = ["--idempotency-key", &key];
        let run = self.json(&[&submit[..], &what, &key, more].concat());
        run["id"].as_str().unwrap().to_owned()
    }

    /// Queues a run of [`JOB`] for all dates, under a name of its own: it publishes where nothing
    /// was.
    ///
    /// [`JOB`]: super::JOB
    pub(crate) fn rank(&self) -> Ranking {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let (job, file) = spec(NEXT.fetch_add(1, Ordering::Relaxed));
        let id = self.submit(file.to_str().unwrap(), &DAYS, &[]);
        Ranking { job, id }
    }

    /// Waits until it has ended, which must be well: each date was published once.
    pub(crate) fn ranked(&self, ranking: &Ranking) {
        self.succeeded(&ranking.id);
        self.check_once(ranking);
    }

    pub(crate) fn check_once(&self, ranking: &Ranking) {
        for date in DAYS {
            check_once(&self.lake, &ranking.job, date);
        }
    }

    /// Waits for something to be seen of a run.
    pub(crate) fn until_run<T>(
        &self,
        id: &str,
        what: &str,
        look: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let mut last = Value::Null;
        let path = format!("/api/v1/runs/{id}");
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                let run = self.get(&path)?;
                let found = look(&run);
                last = run;
                found
            })
        }));
        found.unwrap_or_else(|_| panic!("no {what}: {last:#}"))
    }

    /// Waits until a run has ended; it as it is then.
    pub(crate) fn ended(&self, id: &str) -> Value {
        self.until_run(id, "end of the run", |run| {
            let state = run["state"].as_str()?;
            ["succeeded", "failed", "cancelled", "fenced"]
                .contains(&state)
                .then(|| run.clone())
        })
    }

    /// Waits until a run has ended, which must be well.
    pub(crate) fn succeeded(&self, id: &str) -> Value {
        let run = self.ended(id);
        assert_eq!(run["state"], "succeeded", "{run:#}");
        run
    }

    /// Waits until a run computes and has done so many tasks; or has ended, which is `false`.
    pub(crate) fn until_tasks(&self, id: &str, enough: impl Fn(u64, u64) -> bool) -> bool {
        self.until_run(id, "tasks done", |run| {
            let state = run["state"].as_str()?;
            let of = |name: &str| run["progress"][name].as_u64().unwrap_or(0);
            match state {
                "queued" => None,
                "running" => {
                    (of("tasks") > 0 && enough(of("tasks_done"), of("tasks"))).then_some(true)
                }
                _ => Some(false),
            }
        })
    }

    /// The executors that the leader knows.
    pub(crate) fn executors(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/executors").unwrap_or_default();
        answer["executors"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until exactly so many executors can be given tasks.
    pub(crate) fn until_executors(&self, count: usize) {
        until("executors", || {
            (self.executors().len() == count).then_some(())
        });
    }

    pub(crate) fn log(&self, role: &str) -> String {
        let log = self.folder.path().join(format!("{role}.log"));
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn forget_log(&self, role: &str) {
        std::fs::remove_file(self.folder.path().join(format!("{role}.log"))).unwrap();
    }

    /// The ends of all logs but that of S3.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for log in self
            .files(".log")
            .iter()
            .filter(|log| !log.ends_with("s3.log"))
        {
            let lines = std::fs::read(log).unwrap_or_default();
            let lines = String::from_utf8_lossy(&lines).into_owned();
            let lines: Vec<&str> = lines.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            text += &format!("--- {}\n{end}\n", log.display());
        }
        text
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect()
    }

    /// The folders of shuffle files, by executor and job.
    pub(crate) fn shuffle_folders(&self) -> Vec<PathBuf> {
        let below = |folder: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let executors = below(&self.folder.path().join("work"));
        executors
            .iter()
            .flat_map(|folder| below(&folder.join("shuffle")))
            .collect()
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            println!("{}", self.logs());
        }
        for pid in self.files(".pid") {
            let pid = std::fs::read_to_string(pid).unwrap_or_default();
            if let Some(pid) = pid.split_whitespace().next() {
                let _ = Command::new("kill").args(["-KILL", pid]).output();
            }
        }
        let _ = self.script(&["stop", "s3"], &[]);
        if !panicking {
            // Nobody wants to read these.
            for log in self.files(".log") {
                let text = std::fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                assert!(!text.contains("panicked at"), "{}: {text}", log.display());
            }
        }
    }
}

/// The JSON that an API answers with 200.
fn get(api: &str, path: &str) -> Option<Value> {
    let host = api.strip_prefix("http://")?;
    let address = host.parse().ok()?;
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200") {
        return None;
    }
    serde_json::from_str(body).ok()
}
