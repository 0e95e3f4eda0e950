//! Input files that go away or change while they are read.

use std::time::Duration;

use super::JOB;
use super::brake::Brake;
use super::topology::Topology;
use crate::http::Moment;
use crate::oracle::Oracle;
use crate::shipped::{DAYS, check};
use crate::support::Lake;

fn folder(date: &str) -> String {
    format!("stage/ticket_clicks/date={date}")
}

/// Changes the input once an executor reads it; the run as it ended.
fn changed(date: &str, change: impl Fn(&Lake, &str), check: impl Fn(&Topology, &str)) {
    let topology = Topology::new(&[("RANKMILL_LOCAL_STANDBY", "0")]);
    let brake = Brake::before(topology.s3_port(), Duration::ZERO);
    topology.start(&["scheduler"]);
    let executors = ["executor-1", "executor-2"];
    topology.start_with(&executors, &[("RANKMILL_LOCAL_S3", &brake.url())]);
    topology.apply(&[JOB]);
    let path = format!("{}/part-00003", folder(date));
    let reads = brake.hold(Moment::Before, move |request| request.gets(&path));
    let id = topology.submit(JOB, &[date], &[]);
    brake.until_held(reads);
    change(
        &topology.lake,
        &format!("{}/part-00003.parquet", folder(date)),
    );
    brake.release(reads, true);
    check(&topology, &id);
}

/// Its ranking is that of the files that are there now.
fn is_of_what_is_there(topology: &Topology, id: &str, date: &str) {
    topology.succeeded(id);
    check(&topology.lake, &Oracle::of(&topology.lake), JOB, date, 1);
}

#[test]
fn deleted() {
    let date = DAYS[1];
    let delete = |lake: &Lake, path: &str| lake.delete(path);
    changed(date, delete, |topology, id| {
        is_of_what_is_there(topology, id, date)
    });
}

#[test]
fn rewritten() {
    let date = DAYS[2];
    let rewrite = |lake: &Lake, path: &str| {
        let other = lake.get(&format!("{}/part-00001.parquet", folder(DAYS[0])));
        lake.put(path, other.unwrap());
    };
    changed(date, rewrite, |topology, id| {
        is_of_what_is_there(topology, id, date)
    });
}

/// Cut short, it is no Parquet file any more: that is said, and a retry mends it.
#[test]
#[ignore = "slow: make test-faults"]
fn cut_short() {
    let date = DAYS[3];
    let cut = |lake: &Lake, path: &str| {
        let bytes = lake.get(path).unwrap();
        lake.put(path, bytes.slice(..bytes.len() / 2));
    };
    changed(date, cut, |topology, id| {
        let run = topology.ended(id);
        assert_eq!(run["state"], "failed", "{run:#}");
        let error = run["error"].as_str().unwrap();
        assert!(error.contains("part-00003.parquet"), "{error}");
        assert!(topology.lake.published(JOB, date).is_none());
        let path = format!("{}/part-00003.parquet", folder(date));
        topology.lake.put(&path, super::base().get(&path).unwrap());
        let retried = topology.json(&["runs", "retry", id]);
        topology.succeeded(retried["id"].as_str().unwrap());
        super::check_once(&topology.lake, JOB, date);
    });
}

/// All of a date's files: then there is nothing to rank, and nothing is published.
#[test]
#[ignore = "slow: make test-faults"]
fn all_deleted() {
    let date = DAYS[0];
    let delete = |lake: &Lake, _: &str| {
        lake.list(&folder(date))
            .iter()
            .for_each(|path| lake.delete(path));
    };
    changed(date, delete, |topology, id| {
        let run = topology.ended(id);
        assert_eq!(run["state"], "failed", "{run:#}");
        assert!(topology.lake.published(JOB, date).is_none());
        for path in super::base().list(&folder(date)) {
            topology.lake.put(&path, super::base().get(&path).unwrap());
        }
        let retried = topology.json(&["runs", "retry", id]);
        topology.succeeded(retried["id"].as_str().unwrap());
        super::check_once(&topology.lake, JOB, date);
    });
}
