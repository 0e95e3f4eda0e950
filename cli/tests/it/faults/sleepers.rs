//! Two schedulers at once: one that leads, and one that slept through the end of its time.

use std::time::Duration;

use serde_json::Value;

use super::brake::Brake;
use super::link::{Line, Link};
use super::topology::Topology;
use super::{JOB, check_once, commits, until};
use crate::http::Moment;
use crate::shipped::DAYS;

const DATE: &str = DAYS[0];

/// The record of a run, as it lies in the lake.
fn record(topology: &Topology, id: &str) -> Value {
    let paths = topology.lake.list("_rankmill/runs");
    let path = paths.iter().find(|path| path.contains(id)).unwrap();
    serde_json::from_slice(&topology.lake.get(path).unwrap()).unwrap()
}

/// Two that both believe to lead: the one that slept through its own end publishes nothing and
/// records nothing.
#[test]
fn frozen_before_the_commit_and_woken_too_late() {
    let topology = Topology::new(&[]);
    let commit = Brake::before(topology.s3_port(), Duration::ZERO);
    topology.start_with(&["scheduler"], &[("RANKMILL_LOCAL_S3", &commit.url())]);
    topology.start(&["executor-1", "executor-2"]);
    topology.apply(&[JOB]);
    let before = commit.hold(Moment::Before, commits(JOB, DATE));
    let id = topology.submit(JOB, &[DATE], &[]);
    commit.until_held(before);

    topology.start(&["standby"]);
    topology.signal("-STOP", "scheduler");
    topology.succeeded(&id);
    check_once(&topology.lake, JOB, DATE);
    let recorded = record(&topology, &id);
    let woken = topology.log("scheduler").len();
    topology.signal("-CONT", "scheduler");
    commit.release(before, true);
    until("the sleeper to see that it lost", || {
        topology.log("scheduler")[woken..]
            .contains("another scheduler leads now")
            .then_some(())
    });
    assert_eq!(topology.leader(), "standby");
    check_once(&topology.lake, JOB, DATE);
    assert_eq!(record(&topology, &id), recorded);

    // It is of use again.
    topology.kill("standby");
    let ranking = topology.rank();
    topology.ranked(&ranking);
    assert_eq!(topology.leader(), "scheduler");
}

/// The same while it computes: nobody holds anything, it just sleeps.
#[test]
#[ignore = "slow: make test-faults"]
fn frozen_while_it_computes() {
    let topology = Topology::whole(&[]);
    for tasks in [0, 1, 4] {
        let ranking = topology.rank();
        topology.until_tasks(&ranking.id, |done, _| done >= tasks);
        let frozen = topology.leader();
        topology.signal("-STOP", frozen);
        topology.succeeded(&ranking.id);
        let recorded = record(&topology, &ranking.id);
        let woken = topology.log(frozen).len();
        topology.signal("-CONT", frozen);
        until("the sleeper to see that it lost", || {
            topology.log(frozen)[woken..]
                .contains("another scheduler leads now")
                .then_some(())
        });
        assert_eq!(record(&topology, &ranking.id), recorded);
        topology.check_once(&ranking);
    }
}

/// The leader alone loses S3, and has it back when another one leads: what it had sent meanwhile
/// arrives then, and changes nothing.
#[test]
#[ignore = "slow: make test-faults"]
fn cut_off_from_s3() {
    let topology = Topology::new(&[]);
    let [near, _, _] = topology.free_ports();
    let link = Link::new(("127.0.0.1", near), ("127.0.0.1", topology.s3_port()));
    let through = format!("http://127.0.0.1:{near}");
    topology.start_with(&["scheduler"], &[("RANKMILL_LOCAL_S3", &through)]);
    topology.start(&["standby", "executor-1", "executor-2"]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    link.set(Line::Silent);
    until("the standby to lead", || {
        (topology.leader() == "standby").then_some(())
    });
    link.set(Line::Open);
    topology.ranked(&ranking);
    assert_eq!(topology.leader(), "standby");
    assert!(topology.runs("scheduler"));
}
