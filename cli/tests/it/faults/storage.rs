//! S3 that is away for a while or for good, frozen, or slow.

use std::time::Duration;

use super::brake::Brake;
use super::topology::Topology;
use super::until;
use crate::http::Moment;

/// Stopped for 20 s while a run reads, and started again with the same data: the run ends well.
#[test]
fn stopped_for_a_while() {
    let topology = Topology::whole(&[]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    topology.kill("s3");
    std::thread::sleep(Duration::from_secs(20));
    topology.start(&["s3"]);
    topology.ranked(&ranking);
}

/// The same where it keeps its connections and answers nothing.
#[test]
#[ignore = "slow: make test-faults"]
fn frozen_for_a_while() {
    let topology = Topology::whole(&[]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    topology.signal("-STOP", "s3");
    std::thread::sleep(Duration::from_secs(20));
    topology.signal("-CONT", "s3");
    topology.ranked(&ranking);
}

/// Away for longer than anything is tried: nobody leads, and nobody pretends to. The processes
/// stay and go on once it is back; what can't go on by itself, a retry mends.
#[test]
#[ignore = "slow: make test-faults"]
fn stopped_for_good() {
    let topology = Topology::whole(&[]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    topology.kill("s3");
    until("the leader to step down", || {
        topology.get("/api/v1/jobs").is_none().then_some(())
    });
    std::thread::sleep(Duration::from_secs(75));
    for role in ["scheduler", "standby", "executor-1", "executor-2"] {
        assert!(
            topology.runs(role),
            "{role} is gone: {}",
            topology.log(role)
        );
    }
    topology.start(&["s3"]);
    let run = topology.ended(&ranking.id);
    if run["state"] != "succeeded" {
        assert!(run["error"].is_string(), "{run:#}");
        let retried = topology.json(&["runs", "retry", &ranking.id]);
        topology.succeeded(retried["id"].as_str().unwrap());
    }
    topology.check_once(&ranking);
}

/// Every request of every node takes a quarter of a second longer.
#[test]
#[ignore = "slow: make test-faults"]
fn slow() {
    let topology = Topology::new(&[]);
    let brake = Brake::before(topology.s3_port(), Duration::from_millis(250));
    let through = [("RANKMILL_LOCAL_S3", &*brake.url())];
    let roles = ["scheduler", "standby", "executor-1", "executor-2"];
    topology.start_with(&roles, &through);
    let ranking = topology.rank();
    topology.ranked(&ranking);
}

/// Connections break in the middle of answers, at every twentieth request.
#[test]
fn flaky() {
    let topology = Topology::new(&[]);
    let brake = Brake::before(topology.s3_port(), Duration::ZERO);
    let through = [("RANKMILL_LOCAL_S3", &*brake.url())];
    let roles = ["scheduler", "standby", "executor-1", "executor-2"];
    topology.start_with(&roles, &through);
    let mut requests = 0;
    let lost = brake.hold_if(move |moment, _| {
        requests += u32::from(moment == Moment::Acted);
        moment == Moment::Acted && requests % 20 == 0
    });
    brake.decide(lost, false);
    let ranking = topology.rank();
    topology.ranked(&ranking);
}
