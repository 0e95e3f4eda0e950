//! The network between the scheduler and an executor, cut and restored.

use std::time::Duration;

use super::link::{Line, Link};
use super::topology::Topology;

/// Everything between executor 1 and the other nodes goes over these.
struct Wires([Link; 3]);

impl Wires {
    /// Starts executor 1 behind them, and executor 2 directly.
    fn between(topology: &Topology) -> Self {
        let [cluster, _] = topology.cluster_ports();
        let [own, files, tasks] = topology.free_ports();
        // To the others it is at another loopback address.
        let wires = [
            Link::new(("127.0.0.1", own), ("127.0.0.1", cluster)),
            Link::new(("127.0.0.2", files), ("127.0.0.1", files)),
            Link::new(("127.0.0.2", tasks), ("127.0.0.1", tasks)),
        ];
        let options = format!("--advertise 127.0.0.2 --port {files} --grpc-port {tasks}");
        let through = [
            ("RANKMILL_LOCAL_SCHEDULERS", &*format!("127.0.0.1:{own}")),
            ("RANKMILL_LOCAL_EXECUTOR_OPTIONS", &*options),
        ];
        topology.start_with(&["executor-1"], &through);
        topology.start(&["executor-2"]);
        topology.until_executors(2);
        Self(wires)
    }

    fn set(&self, line: Line) {
        self.0.iter().for_each(|wire| wire.set(line));
    }
}

/// With one scheduler and both executors.
fn topology() -> (Topology, Wires) {
    let topology = Topology::new(&[
        ("RANKMILL_LOCAL_STANDBY", "0"),
        ("RANKMILL_LOCAL_OPTIONS", "--executor-timeout 8s"),
    ]);
    topology.start(&["scheduler"]);
    let wires = Wires::between(&topology);
    (topology, wires)
}

/// Connections break, and new ones are made at once, or after a while.
#[test]
fn broken() {
    let (topology, wires) = topology();
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    wires.set(Line::Broken);
    wires.set(Line::Open);
    topology.ranked(&ranking);
    topology.until_executors(2);

    let ranking = topology.rank();
    topology.until_tasks(&ranking.id, |done, _| done >= 1);
    wires.set(Line::Broken);
    topology.until_executors(1);
    wires.set(Line::Open);
    topology.ranked(&ranking);
    topology.until_executors(2);
}

/// Nothing arrives, and nobody is told: for a moment, and for longer than anybody waits.
#[test]
#[ignore = "slow: make test-faults"]
fn silent() {
    let (topology, wires) = topology();
    for seconds in [2, 5, 25] {
        let ranking = topology.rank();
        topology.until_tasks(&ranking.id, |done, _| done >= 1);
        wires.set(Line::Silent);
        std::thread::sleep(Duration::from_secs(seconds));
        wires.set(Line::Open);
        topology.ranked(&ranking);
        topology.until_executors(2);
    }
    // Until the run has ended without it.
    let ranking = topology.rank();
    topology.until_tasks(&ranking.id, |done, _| done >= 1);
    wires.set(Line::Silent);
    topology.ranked(&ranking);
    wires.set(Line::Open);
    topology.until_executors(2);
    let ranking = topology.rank();
    topology.ranked(&ranking);
}

/// Every executor is cut off, and back.
#[test]
#[ignore = "slow: make test-faults"]
fn nobody_left() {
    let (topology, wires) = topology();
    topology.kill("executor-2");
    let ranking = topology.rank();
    topology.until_tasks(&ranking.id, |done, _| done >= 1);
    wires.set(Line::Silent);
    topology.until_executors(0);
    std::thread::sleep(Duration::from_secs(5));
    wires.set(Line::Open);
    topology.ranked(&ranking);
}
