//! A process of the cluster, kept alive.

use std::process::Stdio;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::Pids;
use crate::outcome::{USAGE, Usage};

/// A process that is asked to stop is killed after this.
const GRACE: Duration = Duration::from_secs(15);
/// Who ends sooner after its start didn't get far.
const SETTLED: Duration = Duration::from_secs(10);
/// Before a process that died is started again; doubles while it doesn't get far.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What to start.
pub(crate) struct Role {
    name: String,
    arguments: Vec<String>,
}

impl Role {
    pub(crate) fn new(name: &str, command: &str, common: &[String], own: &[&str]) -> Self {
        let mut arguments = vec![command.to_owned(), "--until-stdin-ends".to_owned()];
        arguments.extend_from_slice(common);
        arguments.extend(own.iter().map(|&argument| argument.to_owned()));
        Self {
            name: name.to_owned(),
            arguments,
        }
    }

    /// Starts it. It stops when its standard input ends: when it is closed here, or when this
    /// process dies.
    fn spawn(&self) -> anyhow::Result<Child> {
        let itself = std::env::current_exe().context("where is this program?")?;
        let mut command = Command::new(itself);
        for (variable, _) in std::env::vars_os() {
            // Options of other processes.
            if variable.to_string_lossy().starts_with("RANKMILL_") {
                command.env_remove(variable);
            }
        }
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us; we tell the others.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {}", self.name))
    }
}

/// Runs a process until `stop`, again and again if it dies. An error means that it can't run.
pub(crate) async fn keep(
    role: Role,
    pids: Pids,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let mut child = role.spawn()?;
        if let Some(pid) = child.id() {
            let mut pids = pids.lock().unwrap_or_else(PoisonError::into_inner);
            pids.insert(role.name.clone(), pid);
        }
        let stdin = child.stdin.take();
        forward(&role.name, child.stdout.take());
        forward(&role.name, child.stderr.take());
        let ended = tokio::select! {
            ended = child.wait() => ended?,
            () = asked(&mut stop) => {
                drop(stdin);
                if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                    eprintln!("the {} doesn't stop; killing it", role.name);
                    child.kill().await?;
                }
                return Ok(());
            }
        };
        if begun.elapsed() >= SETTLED {
            pause = FIRST_PAUSE;
        } else if ended.code() == Some(USAGE.into()) {
            bail!(Usage(format!("the {} can't run; see above", role.name)));
        }
        eprintln!("the {} died ({ended}); starting it again", role.name);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked(&mut stop) => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends when `stop` says so, or nobody is left to say it.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Passes lines on to stderr, with the role in front.
fn forward(name: &str, from: Option<impl AsyncRead + Send + Unpin + 'static>) {
    let Some(from) = from else {
        return;
    };
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            eprintln!("{name:<10} | {}", String::from_utf8_lossy(&line));
        }
    });
}
