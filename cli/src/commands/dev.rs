//! `rankmill dev`: a whole cluster on this machine, each role a process of its own.

mod child;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rankmill_scheduler::proto::ListExecutorsRequest;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::child::{Role, keep};
use crate::args::{ClusterChoice, DevArgs, Format};
use crate::cluster::{Cluster, Repeat};
use crate::environment::Environment;
use crate::nodes::{Stop, announce};
use crate::outcome::Usage;

/// Between two looks for the executors.
const LOOK: Duration = Duration::from_millis(200);
/// An executor that is asked to stop has nothing left to do once the schedulers have stopped.
const DRAIN: &str = "5s";

/// The processes that run, by role.
pub(crate) type Pids = Arc<Mutex<BTreeMap<String, u32>>>;

pub(crate) async fn run(environment: &Environment, args: &DevArgs) -> anyhow::Result<u8> {
    if args.executors == 0 {
        bail!(Usage(
            "--executors: a cluster needs at least 1; without executors use `rankmill scheduler \
             --embedded`"
                .to_owned()
        ));
    }
    let mut stop = Stop::new(args.until_stdin_ends)?;
    let work = WorkDir::new(args.work_dir.as_deref())?;
    let plan = Plan::new(environment, args, &work)?;
    let pids = Pids::default();
    // Two flags: the schedulers are stopped first.
    let (stop_schedulers, schedulers_stop) = watch::channel(false);
    let (stop_executors, executors_stop) = watch::channel(false);
    let mut schedulers = JoinSet::new();
    let mut executors = JoinSet::new();
    for role in plan.schedulers {
        schedulers.spawn(keep(role, Arc::clone(&pids), schedulers_stop.clone()));
    }
    for role in plan.executors {
        executors.spawn(keep(role, Arc::clone(&pids), executors_stop.clone()));
    }
    let telling = tell_when_ready(environment, args, &plan.apis, &pids);
    let gave_up = tokio::select! {
        () = stop.asked() => None,
        // A role that can't be kept alive ends its task.
        Some(ended) = schedulers.join_next() => Some(ended),
        Some(ended) = executors.join_next() => Some(ended),
        told = telling => Some(Ok(told)),
    };
    if gave_up.is_none() {
        eprintln!("stopping; once more Ctrl-C does it at once");
    }
    let stopping = async {
        stop_schedulers.send_replace(true);
        while schedulers.join_next().await.is_some() {}
        stop_executors.send_replace(true);
        while executors.join_next().await.is_some() {}
    };
    tokio::select! {
        () = stopping => {}
        // Children are killed when their tasks are dropped.
        () = stop.asked() => {}
    }
    match gave_up {
        Some(ended) => ended?.map(|()| 0),
        None => Ok(0),
    }
}

/// Which processes to start, and where their API is.
struct Plan {
    apis: Vec<String>,
    schedulers: Vec<Role>,
    executors: Vec<Role>,
}

impl Plan {
    fn new(environment: &Environment, args: &DevArgs, work: &WorkDir) -> anyhow::Result<Self> {
        let names = match args.standby {
            true => &["scheduler", "standby"][..],
            false => &["scheduler"],
        };
        // All at once, so that no port is found twice.
        let mut held = Vec::new();
        let mut port = |wanted| -> anyhow::Result<u16> {
            let listener = free_port(wanted)?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        let mut ports = Vec::new();
        for (index, name) in names.iter().enumerate() {
            // Only the first one's is worth remembering.
            let api = port(if index == 0 { args.port } else { 0 })?;
            ports.push((*name, api, port(0)?));
        }
        let slots = match args.slots {
            Some(slots) => slots.get(),
            None => (environment.threads / args.executors).max(1),
        };
        let common = environment.arguments();
        let schedulers = ports.iter().map(|(name, api, cluster)| {
            let bind = format!("127.0.0.1:{api}");
            let cluster = cluster.to_string();
            let own = ["--bind", &bind, "--cluster-port", &cluster];
            let own = [&own[..], &["--instance", name]].concat();
            Role::new(name, "scheduler", &common, &own)
        });
        let addresses: Vec<String> = ports
            .iter()
            .map(|(_, _, cluster)| format!("127.0.0.1:{cluster}"))
            .collect();
        let (addresses, slots) = (addresses.join(","), slots.to_string());
        let work = work.path.to_str().context("--work-dir is not UTF-8")?;
        let mut of_executors = common.clone();
        if environment.memory_bytes().is_none()
            && let Some(bytes) = rankmill_executor::default_memory_bytes()
        {
            let share = bytes / args.executors as u64;
            of_executors.extend(["--memory".to_owned(), share.to_string()]);
        }
        let executors = (1..=args.executors).map(|number| {
            let own = ["--scheduler", &addresses, "--slots", &slots];
            let ports = ["--port", "0", "--grpc-port", "0"];
            let places = ["--work-dir", work, "--drain-timeout", DRAIN];
            let own = [&own[..], &ports, &places].concat();
            Role::new(
                &format!("executor {number}"),
                "executor",
                &of_executors,
                &own,
            )
        });
        Ok(Self {
            apis: ports
                .iter()
                .map(|(_, api, _)| format!("http://127.0.0.1:{api}"))
                .collect(),
            schedulers: schedulers.collect(),
            executors: executors.collect(),
        })
    }
}

/// A loopback port: the one wanted, if it is free.
fn free_port(wanted: u16) -> anyhow::Result<TcpListener> {
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    listen(wanted)
        .or_else(|_| listen(0))
        .context("there is no free port on 127.0.0.1")
}

/// Says where everything is once all executors have joined; then waits for ever.
async fn tell_when_ready(
    environment: &Environment,
    args: &DevArgs,
    apis: &[String],
    pids: &Pids,
) -> anyhow::Result<()> {
    let choice = ClusterChoice {
        cluster: apis.to_vec(),
        token_file: None,
        ca: None,
    };
    let cluster = Cluster::new(&choice, true)?;
    loop {
        let request = ListExecutorsRequest {};
        let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
            client.list_executors(request).await
        });
        // Not yet, or not at the moment.
        if answer
            .await
            .is_ok_and(|answer| answer.executors.len() >= args.executors)
        {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let (urls, lake) = (apis.join(","), &environment.lake);
    match environment.format {
        Format::Table => announce(welcome(&urls, lake, args.executors)),
        Format::Json => {
            let pids = pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
            announce(json!({ "cluster": urls, "lake": lake, "pids": pids }));
        }
    }
    std::future::pending().await
}

fn welcome(urls: &str, lake: &str, executors: usize) -> String {
    format!(
        "
The cluster is ready: {executors} executors, the API at {urls}, the lake '{lake}'.
In another terminal:

  export RANKMILL_CLUSTER={urls} RANKMILL_LAKE='{lake}'
  rankmill submit --generate --rows 1M --web-rows 200k --days 3 --wait
  rankmill jobs apply daily-popularity age-date-ranking
  rankmill backfill age-date-ranking --from 2026-06-01 --to 2026-06-03 --wait
  rankmill runs list
  rankmill rankings show age-date-ranking --where age_band=20s --show 10

Ctrl-C stops all of it.
"
    )
}

/// The executors' folder: the user's, or one of our own that goes with us.
struct WorkDir {
    path: PathBuf,
    ours: bool,
}

impl WorkDir {
    fn new(given: Option<&Path>) -> anyhow::Result<Self> {
        let (path, ours) = match given {
            Some(path) => (path.to_owned(), false),
            None => {
                let name = format!("rankmill-dev-{}", std::process::id());
                (std::env::temp_dir().join(name), true)
            }
        };
        std::fs::create_dir_all(&path)
            .map_err(|e| Usage(format!("cannot work in '{}': {e}", path.display())))?;
        Ok(Self { path, ours })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced() {
        let first = free_port(0).unwrap();
        let taken = first.local_addr().unwrap().port();
        let second = free_port(taken).unwrap();
        assert_ne!(second.local_addr().unwrap().port(), taken);
    }
}
