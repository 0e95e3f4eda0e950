//! Which failures are tried again, how often, and what the record says of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::record;
use crate::model::{Interruption, RunState, RunView};
use crate::options::Limits;
use crate::testing::{Gate, Lake, Node, NodeOptions, day, submission, until};

fn quick() -> Limits {
    NodeOptions::default().limits
}

/// Runs a job once, on a node that fails as it is told.
async fn run(limits: Limits, fails: impl FnOnce(&Gate)) -> (Lake, RunView) {
    let lake = Lake::new([1]);
    let gate = Gate::new(100);
    fails(&gate);
    let options = NodeOptions {
        limits,
        gate: gate.clone(),
        ..NodeOptions::default()
    };
    let node = Node::start(&lake, options).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "").await;
    let run = node.ended(id).await;
    assert_eq!(gate.begun(), run.attempts_made.len());
    // What is told is what is written.
    assert_eq!(record(&lake, id).attempts, run.attempts_made);
    node.stop().await;
    (lake, run)
}

#[tokio::test]
async fn lost_executors_are_not_the_runs_fault() {
    let limits = Limits {
        max_attempts: 1,
        max_interruptions: 4,
        ..quick()
    };
    let (lake, run) = run(limits, |gate| gate.lose.store(3, Ordering::SeqCst)).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.attempts_made.len(), 4);
    for attempt in &run.attempts_made[..3] {
        assert_eq!(attempt.interrupted, Some(Interruption::ClusterFailed));
        let reason = attempt.reason.as_deref().unwrap();
        assert!(reason.contains("an executor was lost"), "{reason}");
        assert!(attempt.finished_at.is_some());
    }
    assert_eq!(run.attempts_made[3].reason, None);
    assert_eq!(run.summary.error, None, "the last error is over");
    assert_eq!(lake.generation("top", day(1)), Some(1));
}

#[tokio::test]
async fn a_cluster_that_always_fails_fails_the_run() {
    let limits = Limits {
        max_attempts: 1,
        max_interruptions: 2,
        ..quick()
    };
    let (lake, run) = run(limits, |gate| gate.lose.store(100, Ordering::SeqCst)).await;
    assert_eq!(run.summary.state, RunState::Failed);
    assert_eq!(run.attempts_made.len(), 2);
    let error = run.summary.error.unwrap();
    assert!(error.contains("an executor was lost"), "{error}");
    assert_eq!(lake.generation("top", day(1)), None);
}

#[tokio::test]
async fn a_store_that_comes_back_is_waited_for() {
    let limits = Limits {
        max_attempts: 3,
        first_backoff: Duration::from_millis(20),
        longest_backoff: Duration::from_millis(1_000),
        ..quick()
    };
    let stumble = |times| move |gate: &Gate| gate.stumble.store(times, Ordering::SeqCst);
    let (_, ran) = run(limits, stumble(2)).await;
    assert_eq!(ran.summary.state, RunState::Succeeded, "{ran:?}");
    let attempts = &ran.attempts_made;
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| attempt.interrupted.is_none()));
    // The waits double. A wait may always take longer.
    for (pair, wait_ms) in attempts.windows(2).zip([20, 40]) {
        let waited = pair[1].started_at - pair[0].finished_at.unwrap();
        assert!(waited.num_milliseconds() >= wait_ms, "{attempts:?}");
    }
    let said: Vec<&str> = ran.events.iter().map(|e| e.message.as_str()).collect();
    let again = said.iter().filter(|text| text.starts_with("tries again"));
    assert_eq!(again.count(), 2, "{said:?}");

    let (lake, ran) = run(limits, stumble(3)).await;
    assert_eq!(ran.summary.state, RunState::Failed);
    assert_eq!(ran.attempts_made.len(), 3);
    let error = ran.summary.error.unwrap();
    assert!(error.contains("it is away"), "{error}");
    assert_eq!(lake.generation("top", day(1)), None);
}

/// A run fails of a kind of its own only: the loss of executors doesn't use up its attempts.
#[tokio::test]
async fn both_kinds_of_failures_have_their_own_patience() {
    let limits = Limits {
        max_attempts: 2,
        max_interruptions: 4,
        ..quick()
    };
    let fails = |gate: &Gate| {
        gate.lose.store(3, Ordering::SeqCst);
        gate.stumble.store(1, Ordering::SeqCst);
    };
    let (_, run) = run(limits, fails).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.attempts_made.len(), 5);
}

#[tokio::test]
async fn a_panic_ends_the_run_and_nothing_else() {
    let (_, ran) = run(quick(), |gate| gate.panic.store(1, Ordering::SeqCst)).await;
    assert_eq!(ran.summary.state, RunState::Failed);
    let error = ran.summary.error.unwrap();
    assert!(error.contains("panicked"), "{error}");
}

#[tokio::test]
async fn a_mistake_is_not_tried_again() {
    let lake = Lake::new([1]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    for (spec, said) in [
        (Lake::spec("a").replace("item: item", "item: itme"), "itme"),
        (
            Lake::spec("b").replace("count(*)", "sum(nothing)"),
            "nothing",
        ),
        (
            Lake::spec("c").replace("{lake}/log/", "{lake}/nowhere/"),
            "no input",
        ),
    ] {
        node.apply_spec(&spec).await;
        let job = spec.split("name: ").nth(1).unwrap();
        let job = job.split_whitespace().next().unwrap();
        let id = node.submit(job, "2026-01-01", "").await;
        let run = node.ended(id).await;
        assert_eq!(run.summary.state, RunState::Failed, "{run:?}");
        assert_eq!(run.attempts_made.len(), 1, "{run:?}");
        let error = run.summary.error.unwrap();
        assert!(error.contains(said), "{error}");
        assert_eq!(lake.generation(job, day(1)), None);
    }
    // A file that is none.
    std::fs::write(lake.file("log/date=2026-01-01/0.parquet"), "PAR1 no PAR1").unwrap();
    node.apply("d").await;
    let id = node.submit("d", "2026-01-01", "").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Failed);
    assert_eq!(run.attempts_made.len(), 1, "{run:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let options = NodeOptions {
        limits: Limits {
            run_timeout: Duration::from_millis(50),
            max_attempts: 2,
            ..quick()
        },
        gate: gate.clone(),
        ..NodeOptions::default()
    };
    let node = Node::start(&lake, options).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Failed);
    assert_eq!(run.attempts_made.len(), 2);
    for attempt in &run.attempts_made {
        let reason = attempt.reason.as_deref().unwrap();
        assert!(reason.contains("it took longer than"), "{reason}");
        assert_eq!(attempt.interrupted, None);
    }
    // Its slot is free again, and what it computed is over.
    let again = node.submit("top", "2026-01-01", "").await;
    assert_eq!(node.ended(again).await.attempts_made.len(), 2);
    assert!(gate.most() <= 1);
    node.stop().await;
}

/// An orderly stop is nobody's failure, however often it happens.
#[tokio::test]
async fn stops_of_the_scheduler_never_count() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let options = |epoch| NodeOptions {
        epoch,
        limits: Limits {
            max_attempts: 1,
            max_interruptions: 1,
            ..quick()
        },
        gate: gate.clone(),
        ..NodeOptions::default()
    };
    let node = Node::start(&lake, options(1)).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "").await;
    let mut node = node;
    for epoch in 2..6 {
        until("it computes", || gate.begun() as u64 == epoch - 1).await;
        node.stop().await;
        let left = record(&lake, id);
        assert_eq!(left.state, RunState::Queued, "{left:?}");
        let last = left.attempts.last().unwrap();
        assert_eq!(last.interrupted, Some(Interruption::SchedulerStopped));
        node = Node::start(&lake, options(epoch)).await;
    }
    gate.open.add_permits(1);
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.attempts_made.len(), 5);
    // Stopped, it takes nothing more.
    let service = node.service.clone();
    node.stop().await;
    let refused = service
        .submit(
            &Default::default(),
            submission("top", "2026-01-01", ""),
            None,
        )
        .await;
    assert!(
        matches!(refused, Err(crate::Error::Standby { .. })),
        "{refused:?}"
    );
}

/// What is allowed is asked when a run starts, not only when it was submitted.
#[tokio::test]
async fn what_is_not_allowed_any_more_is_not_done() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    let schedule = "schedule: { cron: '10 0 * * *', timezone: UTC, repair_days: 4 }";
    node.apply_spec(&Lake::spec_with("top", schedule)).await;
    let id = node.submit("top", "2026-01-01", "").await;
    let made = crate::model::SubmitRun {
        job: None,
        generate: Some("x".into()),
        from: None,
        to: None,
        ..submission("", "", "")
    };
    let caller = Default::default();
    let made = node.service.submit(&caller, made, None).await.unwrap();
    let next = NodeOptions {
        epoch: 2,
        allowed: Some(format!("{}/team", lake.path())),
        ..NodeOptions::default()
    };
    let node = Node::start(&lake, next).await;
    for id in [id, made.summary.id] {
        let run = node.ended(id).await;
        assert_eq!(run.summary.state, RunState::Failed, "{run:?}");
        assert_eq!(run.attempts_made.len(), 1);
        let error = run.summary.error.unwrap();
        assert!(error.contains("allowed prefixes"), "{error}");
    }
    assert!(!lake.file("out").exists() && !lake.file("made").exists());
    let entry = node.core.job("top").unwrap();
    let now = super::at("2026-01-02T12:00:00Z");
    assert!(node.dispatcher.repair_job(&entry, now).await.is_err());
    node.stop().await;
}
