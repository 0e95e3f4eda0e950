//! Schedulers that are killed or frozen, whatever their runs are at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::brake::Brake;
use super::topology::Topology;
use super::{JOB, Moments, check_all, check_once, commits, until};
use crate::http::{Message, Moment};
use crate::shipped::DAYS;

const PUBLISHING: &str = "age-date-ranking";
const COMMITTED: &str = "daily-popularity";
const RUNNING: &str = "daily-web-pages";
const QUEUED: &str = "frequent-visitors";
const ALL: [&str; 4] = [PUBLISHING, COMMITTED, RUNNING, QUEUED];
const DATE: &str = DAYS[0];

fn state(topology: &Topology, id: &str) -> String {
    let run = topology
        .get(&format!("/api/v1/runs/{id}"))
        .unwrap_or_default();
    run["state"].as_str().unwrap_or_default().to_owned()
}

/// One kill finds a run in each state: queued, computing, about to commit, and committed but not
/// recorded. The standby ends each of them once. The commit that was on its way comes late.
#[test]
fn killed_with_a_run_in_each_state() {
    let topology = Topology::new(&[("RANKMILL_LOCAL_OPTIONS", "--max-runs 3")]);
    let commit = Brake::before(topology.s3_port(), Duration::ZERO);
    let input = Brake::before(topology.s3_port(), Duration::ZERO);
    topology.start_with(&["scheduler"], &[("RANKMILL_LOCAL_S3", &commit.url())]);
    let executors = ["executor-1", "executor-2"];
    topology.start_with(&executors, &[("RANKMILL_LOCAL_S3", &input.url())]);
    topology.apply(&ALL);

    let before = commit.hold(Moment::Before, commits(PUBLISHING, DATE));
    let publishing = topology.submit(PUBLISHING, &[DATE], &[]);
    commit.until_held(before);
    let acted = commit.hold(Moment::Acted, commits(COMMITTED, DATE));
    let committed = topology.submit(COMMITTED, &[DATE], &[]);
    commit.until_held(acted);
    let reads = input.hold(Moment::Before, |request| request.gets("/stage/web_logs/"));
    let running = topology.submit(RUNNING, &[DATE], &[]);
    input.until_held(reads);
    let queued = topology.submit(QUEUED, &[DATE], &[]);
    let runs = [&publishing, &committed, &running, &queued];
    let states = runs.map(|id| state(&topology, id));
    assert_eq!(states, ["publishing", "publishing", "running", "queued"]);
    assert!(topology.lake.published(PUBLISHING, DATE).is_none());
    check_once(&topology.lake, COMMITTED, DATE);

    topology.start(&["standby"]);
    topology.kill("scheduler");
    commit.release(acted, false);
    input.release(reads, true);
    for id in runs {
        topology.succeeded(id);
    }
    assert_eq!(topology.leader(), "standby");
    for job in ALL {
        check_once(&topology.lake, job, DATE);
    }

    let late = commit.hold(Moment::Acted, commits(PUBLISHING, DATE));
    commit.release(before, true);
    commit.until_held(late);
    commit.release(late, false);
    check_once(&topology.lake, PUBLISHING, DATE);
    // The dead one comes back as a standby.
    topology.start(&["scheduler"]);
    assert_eq!(topology.leader(), "standby");
    let again = topology.submit(PUBLISHING, &[DATE], &[]);
    topology.succeeded(&again);
    check_once(&topology.lake, PUBLISHING, DATE);
}

/// Without a standby the dead one itself is started again.
#[test]
#[ignore = "slow: make test-faults"]
fn killed_in_each_state_and_started_again() {
    let topology = Topology::new(&[
        ("RANKMILL_LOCAL_STANDBY", "0"),
        ("RANKMILL_LOCAL_OPTIONS", "--max-runs 1"),
    ]);
    let brake = Brake::before(topology.s3_port(), Duration::ZERO);
    let through = [("RANKMILL_LOCAL_S3", &*brake.url())];
    let input = Brake::before(topology.s3_port(), Duration::ZERO);
    topology.start_with(&["scheduler"], &through);
    let executors = ["executor-1", "executor-2"];
    topology.start_with(&executors, &[("RANKMILL_LOCAL_S3", &input.url())]);
    topology.apply(&[JOB, QUEUED]);
    let again = || {
        topology.kill("scheduler");
        topology.start_with(&["scheduler"], &through);
    };

    // Running, and queued behind it.
    let reads = input.hold(Moment::Before, |request| {
        request.gets("/stage/ticket_clicks/")
    });
    let running = topology.submit(JOB, &DAYS[..1], &[]);
    let queued = topology.submit(QUEUED, &DAYS[..1], &[]);
    input.until_held(reads);
    assert_eq!(
        [&running, &queued].map(|id| state(&topology, id)),
        ["running", "queued"]
    );
    again();
    input.release(reads, true);
    for (job, id) in [(JOB, &running), (QUEUED, &queued)] {
        topology.succeeded(id);
        check_once(&topology.lake, job, DAYS[0]);
    }

    // While the data is written, before the commit, with its answer lost, and after it.
    let committed = AtomicBool::new(false);
    type Holds = Box<dyn Fn(Moment, &Message) -> bool + Send>;
    let points: [Holds; 4] = [
        Box::new(|moment, request| {
            moment == Moment::Acted && request.puts("/data/") && request.puts("date=2026-06-02")
        }),
        Box::new(|moment, request| {
            moment == Moment::Before && request.puts("date=2026-06-03/current.json")
        }),
        Box::new(|moment, request| {
            moment == Moment::Acted && request.puts("date=2026-06-04/current.json")
        }),
        Box::new(move |moment, request| {
            if moment == Moment::Answered && request.puts("current.json") {
                committed.store(true, Ordering::Relaxed);
            }
            // What the record is to say.
            let records = moment == Moment::Before && request.puts("/_rankmill/runs/");
            records && committed.load(Ordering::Relaxed)
        }),
    ];
    let runs = DAYS[1..]
        .iter()
        .map(|date| (JOB, *date))
        .chain([("daily-popularity", DAYS[0])]);
    topology.apply(&["daily-popularity"]);
    for ((job, date), point) in runs.zip(points) {
        let hold = brake.hold_if(point);
        let id = topology.submit(job, &[date], &[]);
        brake.until_held(hold);
        topology.kill("scheduler");
        brake.release(hold, false);
        topology.start_with(&["scheduler"], &through);
        let run = topology.succeeded(&id);
        assert!(run["attempts"].as_u64() >= Some(2), "{run:#}");
        check_once(&topology.lake, job, date);
    }

    // What was to be published once more is, but not twice.
    let hold = brake.hold(Moment::Before, |request| {
        request.puts("date=2026-06-03/current.json")
    });
    let id = topology.submit(JOB, &DAYS, &["--force"]);
    brake.until_held(hold);
    topology.until_run(&id, "record of two dates", |run| {
        (run["dates"].as_array()?.len() == 2).then_some(())
    });
    topology.kill("scheduler");
    brake.release(hold, false);
    topology.start_with(&["scheduler"], &through);
    topology.succeeded(&id);
    check_all(&topology.lake, JOB, 2);
}

/// A power cut: everything, S3 too, dies at once and is started again.
#[test]
#[ignore = "slow: make test-faults"]
fn everything_killed_at_once() {
    let topology = Topology::whole(&[]);
    let all = ["s3", "scheduler", "standby", "executor-1", "executor-2"];
    for tasks in [1, 4] {
        let ranking = topology.rank();
        topology.until_tasks(&ranking.id, |done, _| done >= tasks);
        topology.signal_all("-KILL", &all);
        topology.start(&all);
        topology.ranked(&ranking);
    }
}

/// Whichever leads dies, again and again; each run ends once.
#[test]
#[ignore = "slow: make test-faults"]
fn killed_at_random_moments() {
    let topology = Topology::whole(&[]);
    let mut moments = Moments::new(2);
    for _ in 0..5 {
        let ranking = topology.rank();
        std::thread::sleep(Duration::from_millis(moments.below(7_000)));
        let leader = topology.leader();
        topology.kill(leader);
        std::thread::sleep(Duration::from_millis(moments.below(1_000)));
        topology.start(&[leader]);
        topology.ranked(&ranking);
    }
    until("an end of shuffle files", || {
        topology.shuffle_folders().is_empty().then_some(())
    });
}
