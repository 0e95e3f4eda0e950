//! Schedulers that die, at every write of a record, and those that only think they lead.

use std::collections::HashMap;
use std::sync::Arc;

use super::{at, record, records};
use crate::error::Error;
use crate::lease::Standing;
use crate::model::{Interruption, Run, RunId, RunState, SubmitRun};
use crate::options::Limits;
use crate::service::Caller;
use crate::testing::{Death, Faults, Flaky, Gate, Lake, Node, NodeOptions, day, submission, until};

const JOB: &str = "top";
const KEY: &str = "the only one";

fn request() -> SubmitRun {
    submission(JOB, "2026-01-01", "2026-01-02")
}

/// What a client and the calendar ask of a scheduler; all of it may be asked again.
async fn ask(node: &Node) -> Vec<RunId> {
    let schedule = "schedule: { cron: '10 0 * * *', timezone: UTC, lookback_days: 0 }";
    node.apply_spec(&Lake::spec_with(JOB, schedule)).await;
    let entry = node.core.job(JOB).unwrap();
    let (from, now) = (at("2026-01-04T00:00:00Z"), at("2026-01-04T00:10:00Z"));
    node.dispatcher.fire(&entry, from, now).await.unwrap();
    let caller = Caller::default();
    let run = node
        .service
        .submit(&caller, request(), Some(KEY.to_owned()))
        .await
        .unwrap();
    let ids = vec![RunId::of_firing(JOB, now), run.summary.id];
    for id in &ids {
        node.ended(*id).await;
    }
    ids
}

/// What stands in a run's record only ever grows, and what has ended has ended.
fn assert_records_go_forward(stores: &[&Arc<Flaky>]) {
    let mut known: HashMap<String, Run> = HashMap::new();
    for store in stores {
        for (path, bytes) in store.written.lock().unwrap().iter() {
            if !path.as_ref().contains("/_rankmill/runs/") {
                continue;
            }
            let after: Run = serde_json::from_slice(bytes).unwrap();
            let Some(before) = known.insert(path.to_string(), after.clone()) else {
                continue;
            };
            assert!(!before.state.is_final(), "{before:?} became {after:?}");
            assert!(before.epoch <= after.epoch);
            assert!(before.events.len() <= after.events.len());
            for (old, new) in before.attempts.iter().zip(&after.attempts) {
                assert_eq!(old.started_at, new.started_at);
                assert!(old.finished_at.is_none() || old == new);
            }
            assert!(before.attempts.len() <= after.attempts.len());
            assert!(before.dates.iter().all(|date| after.dates.contains(date)));
        }
    }
}

/// No run is lost, none is doubled, and each date is published once.
#[tokio::test]
async fn at_every_write_of_a_record() {
    for after in 0.. {
        let lake = Lake::new(1..=3);
        let (first, second) = (Flaky::on_disk(), Flaky::on_disk());
        let node = Node::start(&lake, NodeOptions::over(&first, 1)).await;
        first.set(Faults {
            death: Some(Death {
                after,
                // One that takes effect is the one before it here.
                acted: false,
            }),
            ..Faults::default()
        });
        let survived = tokio::select! {
            biased;
            () = first.died() => false,
            _ = ask(&node) => true,
        };
        node.kill().await;
        let node = Node::start(&lake, NodeOptions::over(&second, 2)).await;
        let ids = ask(&node).await;
        let found: Vec<RunId> = records(&lake).iter().map(|run| run.id).collect();
        assert_eq!(found, ids, "death after {after} writes");
        for id in ids {
            let run = node.service.run(id).await.unwrap();
            assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
            assert_eq!(record(&lake, id).state, RunState::Succeeded);
            let done = |outcome| matches!(outcome, "published" | "already_current");
            assert!(run.dates.iter().all(|date| done(&date.outcome)), "{run:?}");
            let open = run.attempts_made.iter().any(|a| a.finished_at.is_none());
            assert!(!open, "{run:?}");
        }
        for date in 1..=3 {
            assert_eq!(lake.generation(JOB, day(date)), Some(1), "{date}");
        }
        node.stop().await;
        assert_records_go_forward(&[&first, &second]);
        if survived {
            assert!(after >= 8, "only {after} writes");
            break;
        }
    }
}

/// Its successor may die as well, while it takes over.
#[tokio::test]
async fn at_every_write_of_taking_over() {
    for acted in [false, true] {
        for after in 0.. {
            let lake = Lake::new(1..=3);
            let (first, second, third) = (Flaky::on_disk(), Flaky::on_disk(), Flaky::on_disk());
            let gate = Gate::new(0);
            let options = NodeOptions {
                gate: gate.clone(),
                limits: Limits {
                    runs_per_job: 3,
                    ..NodeOptions::default().limits
                },
                ..NodeOptions::over(&first, 1)
            };
            let node = Node::start(&lake, options).await;
            node.apply(JOB).await;
            let mut ids = Vec::new();
            for date in ["2026-01-01", "2026-01-02", "2026-01-03"] {
                ids.push(node.submit(JOB, date, "").await);
            }
            until("all compute", || gate.begun() == 3).await;
            node.kill().await;

            second.set(Faults {
                death: Some(Death { after, acted }),
                ..Faults::default()
            });
            let survived = tokio::select! {
                biased;
                () = second.died() => false,
                node = Node::idle(&lake, NodeOptions::over(&second, 2)) => node.is_ok(),
            };
            let node = Node::start(&lake, NodeOptions::over(&third, 3)).await;
            for id in ids {
                let run = node.ended(id).await;
                assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
                // Nobody's death was counted twice.
                let died =
                    |a: &&crate::model::Attempt| a.interrupted == Some(Interruption::SchedulerDied);
                assert_eq!(run.attempts_made.iter().filter(died).count(), 1, "{run:?}");
            }
            node.stop().await;
            assert_records_go_forward(&[&first, &second, &third]);
            if survived {
                // More where the first one's last words came in between.
                assert!(after >= 3);
                break;
            }
        }
    }
}

/// A run that takes every scheduler down with it is not started for ever.
#[tokio::test]
async fn deaths_are_limited() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let options = |epoch| NodeOptions {
        epoch,
        gate: gate.clone(),
        limits: Limits {
            max_attempts: 1,
            max_interruptions: 2,
            ..NodeOptions::default().limits
        },
        ..NodeOptions::default()
    };
    let mut node = Node::start(&lake, options(1)).await;
    node.apply(JOB).await;
    let id = node.submit(JOB, "2026-01-01", "").await;
    for epoch in 2..=4 {
        until("it computes", || gate.begun() as u64 == epoch - 1).await;
        node.kill().await;
        node = Node::start(&lake, options(epoch)).await;
    }
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Failed, "{run:?}");
    assert_eq!(run.attempts_made.len(), 3);
    node.stop().await;
}

/// A leader that sleeps while another one takes over, and wakes in the middle of a run.
#[tokio::test]
async fn a_leader_that_wakes_late_changes_nothing() {
    let lake = Lake::new([1]);
    let (old, new) = (Flaky::on_disk(), Flaky::on_disk());
    let gate = Gate::new(0);
    let options = NodeOptions {
        gate: gate.clone(),
        ..NodeOptions::over(&old, 1)
    };
    let sleeper = Node::start(&lake, options).await;
    sleeper.apply(JOB).await;
    let id = sleeper.submit(JOB, "2026-01-01", "").await;
    until("it computes", || gate.begun() == 1).await;
    let successor = Node::start(&lake, NodeOptions::over(&new, 2)).await;
    let run = successor.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.attempts_made.len(), 2);
    let ended = record(&lake, id);
    let writes = old.written.lock().unwrap().len();

    // It goes on where it was, and finds out when it writes.
    gate.open.add_permits(1);
    let mut fenced = sleeper.core.fenced();
    let fenced = fenced.wait_for(Option::is_some).await.unwrap();
    assert_eq!(*fenced, Some(2));
    drop(fenced);
    assert_eq!(record(&lake, id), ended);
    assert_eq!(old.written.lock().unwrap().len(), writes);
    // One run, one commit, whoever made it.
    assert_eq!(lake.generation(JOB, day(1)), Some(1));
    let caller = Caller::default();
    let refused = sleeper.service.submit(&caller, request(), None).await;
    assert!(
        matches!(refused, Err(Error::Fenced { epoch: 2 })),
        "{refused:?}"
    );
    let refused = sleeper.service.readiness();
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    sleeper.kill().await;
    successor.stop().await;
    assert_records_go_forward(&[&new]);
}

/// A leader whose lease has run out starts nothing and takes nothing, and says so.
#[tokio::test]
async fn without_its_lease_a_leader_does_nothing() {
    let lake = Lake::new([1, 2]);
    let gate = Gate::new(100);
    let options = NodeOptions {
        gate: gate.clone(),
        ..NodeOptions::default()
    };
    let mut node = Node::idle(&lake, options).await.unwrap();
    node.apply(JOB).await;
    let id = node.submit(JOB, "2026-01-01", "").await;
    let lapsed = Standing::Leads {
        epoch: 1,
        until: std::time::Instant::now(),
    };
    node.standing.send(lapsed).unwrap();
    node.work();
    let caller = Caller::default();
    let standby =
        |error: Option<Error>| assert!(matches!(error, Some(Error::Standby { .. })), "{error:?}");
    standby(node.service.submit(&caller, request(), None).await.err());
    standby(node.service.cancel(&caller, id).await.err());
    standby(node.service.set_paused(&caller, JOB, true).await.err());
    standby(node.service.delete_job(&caller, JOB).await.err());
    standby(node.service.readiness().err());
    node.kill().await;
    assert_eq!(gate.begun(), 0);
    assert_eq!(records(&lake).len(), 1);
    assert_eq!(record(&lake, id).state, RunState::Queued);
}

/// A client whose answer was lost with its leader asks the next one, under the same key: also if
/// the run was written after that one had read the records.
#[tokio::test]
async fn a_key_counts_with_the_next_leader_too() {
    let lake = Lake::new([1, 2]);
    let old = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    old.apply(JOB).await;
    let new = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let new = Node::start(&lake, new).await;
    let caller = Caller::default();
    let key = || Some(KEY.to_owned());
    let first = old.service.submit(&caller, request(), key()).await.unwrap();
    let second = new.service.submit(&caller, request(), key()).await.unwrap();
    assert_eq!(first.summary.id, second.summary.id);
    assert_eq!(records(&lake).len(), 1);
    let run = new.ended(second.summary.id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    new.stop().await;
}
