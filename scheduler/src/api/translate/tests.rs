use rankmill_engine::skew::SkewReport;
use std::collections::BTreeMap;

use chrono::TimeZone;

use super::*;
use crate::api::problem::Problem;
use crate::model::{BackfillId, DateState, RunId, RunState, StaleReason, Trigger};
use crate::proto::submit_run_request::What;

fn at(second: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 31, 1, 2, second).unwrap() + chrono::Duration::milliseconds(5)
}

fn day(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, day).unwrap()
}

fn message(problem: Problem) -> String {
    problem.into_status().message().to_owned()
}

fn a_summary(trigger: Trigger) -> model::RunSummary {
    model::RunSummary {
        id: RunId::new(),
        job: Some("daily".to_owned()),
        state: RunState::Publishing,
        trigger,
        from: Some(day(30)),
        to: Some(day(31)),
        submitted_at: at(1),
        started_at: Some(at(2)),
        finished_at: None,
        deadline: Some(at(3)),
        attempts: 2,
        late: true,
        error: Some("why".to_owned()),
    }
}

#[test]
fn times_keep_their_fractions() {
    let time = timestamp(at(7));
    assert_eq!((time.seconds, time.nanos), (1_769_821_327, 5_000_000));
    let before = timestamp(Utc.timestamp_millis_opt(-1).unwrap());
    assert_eq!((before.seconds, before.nanos), (-1, 999_000_000));
}

#[test]
fn runs() {
    let backfill = BackfillId::new();
    let summary = a_summary(Trigger::Backfill {
        id: backfill,
        max_parallel: 2,
        sequence: 0,
    });
    let view = model::RunView {
        summary: summary.clone(),
        attempts_made: vec![model::Attempt {
            interrupted: Some(model::Interruption::ClusterFailed),
            started_at: at(2),
            finished_at: Some(at(3)),
            reason: Some("lost".to_owned()),
        }],
        dates: vec![model::DateResult {
            date: day(30),
            outcome: "published".to_owned(),
            generation: 4,
            rows: 5,
        }],
        events: vec![model::Event {
            at: at(2),
            message: "began".to_owned(),
        }],
        progress: Some(model::Progress {
            files: 1,
            files_done: 2,
            rows: 3,
            bytes: 4,
            tasks: 5,
            tasks_done: 6,
        }),
        submitted_by: Some("ada".to_owned()),
        skew: Some(SkewReport::default()),
    };
    let expected = proto::Run {
        summary: Some(proto::RunSummary {
            id: summary.id.to_string(),
            job: "daily".to_owned(),
            state: proto::RunState::Publishing.into(),
            trigger: proto::TriggerKind::Backfill.into(),
            from: "2026-01-30".to_owned(),
            to: "2026-01-31".to_owned(),
            submitted_at: Some(timestamp(at(1))),
            started_at: Some(timestamp(at(2))),
            finished_at: None,
            attempts: 2,
            late: true,
            error: "why".to_owned(),
            deadline: Some(timestamp(at(3))),
            fire_at: None,
            backfill: backfill.to_string(),
            max_parallel: Some(2),
            sequence: Some(0),
            retry_of: String::new(),
        }),
        attempts: vec![proto::Attempt {
            started_at: Some(timestamp(at(2))),
            finished_at: Some(timestamp(at(3))),
            reason: "lost".to_owned(),
            interrupted: "cluster_failed".to_owned(),
        }],
        dates: vec![proto::DateResult {
            date: "2026-01-30".to_owned(),
            outcome: "published".to_owned(),
            generation: 4,
            rows: 5,
        }],
        events: vec![proto::Event {
            at: Some(timestamp(at(2))),
            message: "began".to_owned(),
        }],
        progress: Some(proto::Progress {
            files: 1,
            files_done: 2,
            rows: 3,
            bytes: 4,
            tasks: 5,
            tasks_done: 6,
        }),
        submitted_by: "ada".to_owned(),
        skew: r#"{"stages":[],"columns":[],"decisions":[]}"#.to_owned(),
    };
    assert_eq!(run(view.clone()), expected);
    let of = RunId::new();
    let again = run(model::RunView {
        summary: a_summary(Trigger::Retry { of }),
        ..view
    });
    let again = again.summary.unwrap();
    assert_eq!(
        (again.backfill, again.retry_of),
        (String::new(), of.to_string())
    );
}

/// What JSON says of a run, `rankmill.v1` says too.
#[test]
fn both_faces_know_the_same_interruptions() {
    use model::Interruption as M;
    let all = [
        M::SchedulerStopped,
        M::SchedulerDied,
        M::ClusterFailed,
        M::GaveWay,
    ];
    for interrupted in all {
        let json = serde_json::to_value(interrupted).unwrap();
        assert_eq!(json, interruption(Some(interrupted)));
    }
    assert_eq!(interruption(None), "");
}

#[test]
fn pages_tell_what_is_late_by_now() {
    let mut ended = a_summary(Trigger::Repair);
    ended.finished_at = Some(at(3));
    let runs = [a_summary(Trigger::Manual), ended];
    let page = RunPage {
        runs: runs.map(|run| run.at(at(4))).to_vec(),
        next_page_token: Some("next".to_owned()),
    };
    let page = run_page(page);
    let late: Vec<bool> = page.runs.iter().map(|run| run.late).collect();
    assert_eq!(
        (late, page.next_page_token.as_str()),
        (vec![true, false], "next")
    );
}

#[test]
fn jobs() {
    let view = model::JobView {
        job: model::Job {
            name: "daily".to_owned(),
            spec: "version: 1".to_owned(),
            set: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            paused: true,
            revision: 3,
            applied_at: at(1),
            fired_until: at(2),
        },
        next_at: Some(at(3)),
        last_run: Some(a_summary(Trigger::Schedule { fire_at: at(4) })),
    };
    let found = job(view);
    assert_eq!(
        (found.name.as_str(), found.spec.as_str()),
        ("daily", "version: 1")
    );
    assert_eq!(
        (found.set["a"].as_str(), found.paused, found.revision),
        ("b", true, 3)
    );
    assert_eq!(found.applied_at, Some(timestamp(at(1))));
    assert_eq!(found.next_at, Some(timestamp(at(3))));
    let last = found.last_run.unwrap();
    assert_eq!(last.trigger(), proto::TriggerKind::Schedule);
    assert!(last.late);
    assert_eq!(last.fire_at, Some(timestamp(at(4))));
    assert_eq!(found.fired_until, Some(timestamp(at(2))));
}

#[test]
fn states_go_there_and_back() {
    use RunState as S;
    let all = [
        S::Queued,
        S::Running,
        S::Publishing,
        S::Succeeded,
        S::Failed,
        S::Cancelled,
        S::Fenced,
    ];
    let request = proto::ListRunsRequest {
        states: all.map(|state| run_state(state).into()).to_vec(),
        ..Default::default()
    };
    let filter = run_filter(request).unwrap();
    assert_eq!(filter.states, all);
    assert_eq!(
        (filter.job, filter.page_size, filter.page_token),
        (None, 0, None)
    );
    for state in [0, 8, -1] {
        let request = proto::ListRunsRequest {
            states: vec![state],
            ..Default::default()
        };
        let reason = message(run_filter(request).unwrap_err());
        assert_eq!(reason, format!("states: {state} is not a state"));
    }
    let request = proto::ListRunsRequest {
        page_size: 1001,
        ..Default::default()
    };
    assert!(run_filter(request).is_err());
}

#[test]
fn dates_and_plans() {
    let status = |state, reason, generation| model::DateStatus {
        date: day(1),
        state,
        reason,
        generation,
        last_run_failed: true,
    };
    let plan = model::BackfillPlan {
        id: None,
        in_order: true,
        dates: vec![
            status(DateState::Missing, None, None),
            status(DateState::Stale, Some(StaleReason::Engine), Some(7)),
        ],
        run_ids: Vec::new(),
    };
    let plan = backfill_plan(plan);
    assert_eq!((plan.id.as_str(), plan.run_ids.len()), ("", 0));
    assert!(plan.in_order);
    let [missing, stale] = plan.dates.as_slice() else {
        panic!("{plan:?}");
    };
    assert_eq!(missing.state(), proto::DateState::Missing);
    assert_eq!((missing.reason.as_str(), missing.generation), ("", 0));
    assert_eq!(stale.state(), proto::DateState::Stale);
    assert_eq!((stale.reason.as_str(), stale.generation), ("engine", 7));
    assert!(stale.last_run_failed);
}

#[test]
fn submissions() {
    let request = |what| proto::SubmitRunRequest {
        what: Some(what),
        from: "yesterday".to_owned(),
        force: true,
        idempotency_key: "once".to_owned(),
        ..Default::default()
    };
    let (submitted, key) = submit(request(What::Job("daily".to_owned()))).unwrap();
    assert_eq!(key.as_deref(), Some("once"));
    let expected = model::SubmitRun {
        job: Some("daily".to_owned()),
        spec: None,
        generate: None,
        set: BTreeMap::new(),
        from: Some("yesterday".to_owned()),
        to: None,
        force: true,
        allow_empty: false,
    };
    assert_eq!(submitted, expected);
    let (generate, _) = submit(request(What::Generate(r#"{"rows": 5}"#.to_owned()))).unwrap();
    assert_eq!(generate.generate.unwrap()["rows"], 5);
    assert!(submit(request(What::Generate("5M".to_owned()))).is_err());
    let (nothing, key) = submit(proto::SubmitRunRequest::default()).unwrap();
    assert_eq!((nothing.job, key), (None, None));
    for key in ["\n", "ä", &"x".repeat(256)] {
        assert!(idempotency_key("key", key).is_err(), "{key}");
    }
}

#[test]
fn backfills() {
    let request = |only| proto::BackfillRequest {
        job: "daily".to_owned(),
        from: "2026-01-01".to_owned(),
        to: "yesterday".to_owned(),
        only,
        oldest_first: true,
        max_parallel: 0,
        dry_run: true,
        idempotency_key: "once".to_owned(),
    };
    let (found, key) = backfill(request(proto::BackfillOnly::Failed.into())).unwrap();
    assert_eq!(key.as_deref(), Some("once"));
    let expected = model::BackfillRequest {
        job: "daily".to_owned(),
        from: "2026-01-01".to_owned(),
        to: "yesterday".to_owned(),
        only: model::BackfillOnly::Failed,
        order: model::BackfillOrder::Oldest,
        max_parallel: 1,
        dry_run: true,
    };
    assert_eq!(found, expected);
    assert_eq!(
        backfill(request(0)).unwrap().0.only,
        model::BackfillOnly::Needed
    );
    assert_eq!(
        message(backfill(request(9)).unwrap_err()),
        "only: 9 is not known"
    );
}

#[test]
fn ids_that_are_none_belong_to_nothing() {
    let id = RunId::new();
    assert_eq!(run_id(&id.to_string()).unwrap(), id);
    assert_eq!(
        message(run_id("../x").unwrap_err()),
        "there is no run '../x'"
    );
}
