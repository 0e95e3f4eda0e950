//! Cancels, at any time of a run.

use std::fs::File;
use std::time::Duration;

use super::record;
use crate::model::{RunId, RunState, RunView};
use crate::options::Limits;
use crate::service::Caller;
use crate::testing::{Gate, Lake, Node, NodeOptions, day, until};

async fn cancel(node: &Node, id: RunId) -> RunView {
    let caller = Caller {
        name: Some("ann".to_owned()),
        access: None,
    };
    node.service.cancel(&caller, id).await.unwrap()
}

fn gated(gate: &std::sync::Arc<Gate>) -> NodeOptions {
    NodeOptions {
        gate: gate.clone(),
        ..NodeOptions::default()
    }
}

#[tokio::test]
async fn while_it_waits_or_computes() {
    let lake = Lake::new([1, 2]);
    let gate = Gate::new(0);
    let node = Node::start(&lake, gated(&gate)).await;
    node.apply("top").await;
    let first = node.submit("top", "2026-01-01", "").await;
    let second = node.submit("top", "2026-01-02", "").await;
    until("it computes", || gate.begun() == 1).await;

    // One run of a job at once: the second waits.
    let waiting = cancel(&node, second).await;
    assert_eq!(waiting.summary.state, RunState::Cancelled);
    assert!(waiting.attempts_made.is_empty());
    assert!(waiting.summary.finished_at.is_some());

    cancel(&node, first).await;
    let run = node.ended(first).await;
    assert_eq!(run.summary.state, RunState::Cancelled, "{run:?}");
    let attempt = &run.attempts_made[0];
    assert_eq!(attempt.reason.as_deref(), Some("cancelled"));
    assert!(attempt.finished_at.is_some());
    let said: Vec<&str> = run.events.iter().map(|e| e.message.as_str()).collect();
    assert!(said.contains(&"cancel requested by ann"), "{said:?}");
    assert_eq!(record(&lake, first).state, RunState::Cancelled);
    assert_eq!(lake.generation("top", day(1)), None);

    // Once more changes nothing, and the way is free.
    let before = record(&lake, first);
    assert_eq!(cancel(&node, first).await, run);
    assert_eq!(record(&lake, first), before);
    gate.open.add_permits(1);
    let third = node.submit("top", "2026-01-01", "").await;
    assert_eq!(node.ended(third).await.summary.state, RunState::Succeeded);
    node.stop().await;
}

#[tokio::test]
async fn while_it_waits_for_its_next_attempt() {
    let lake = Lake::new([1]);
    let gate = Gate::new(100);
    gate.lose.store(1, std::sync::atomic::Ordering::SeqCst);
    let options = NodeOptions {
        limits: Limits {
            first_backoff: Duration::from_secs(3_600),
            longest_backoff: Duration::from_secs(3_600),
            ..Limits::default()
        },
        ..gated(&gate)
    };
    let node = Node::start(&lake, options).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "").await;
    until("it has failed once", || {
        record(&lake, id).not_before.is_some()
    })
    .await;
    let run = cancel(&node, id).await;
    assert_eq!(run.summary.state, RunState::Cancelled);
    node.stop().await;
    assert_eq!(record(&lake, id).state, RunState::Cancelled);
    assert_eq!(gate.begun(), 1);
}

/// All is written but the commit point.
#[tokio::test]
async fn while_it_publishes() {
    let lake = Lake::new([1]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let folder = lake.file("out/top/date=2026-01-01");
    std::fs::create_dir_all(&folder).unwrap();
    // Whoever commits locks the date's folder.
    let lock = File::create(folder.join(".rankmill.lock")).unwrap();
    lock.lock().unwrap();
    let id = node.submit("top", "2026-01-01", "").await;
    let run = node.reached(id, RunState::Publishing).await;
    assert!(run.dates.is_empty());
    // It is not waited for long.
    cancel(&node, id).await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Cancelled, "{run:?}");
    assert_eq!(lake.generation("top", day(1)), None);

    // But long enough to say what has come of it.
    let again = node.submit("top", "2026-01-01", "").await;
    node.reached(again, RunState::Publishing).await;
    cancel(&node, again).await;
    lock.unlock().unwrap();
    let run = node.ended(again).await;
    assert_eq!(run.dates.len(), 1, "{run:?}");
    assert!(lake.generation("top", day(1)).is_some());
    assert_eq!(record(&lake, id).state, RunState::Cancelled);
    node.stop().await;
}

/// Whichever comes first counts, and it stays.
#[tokio::test]
async fn while_it_succeeds() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let node = Node::start(&lake, gated(&gate)).await;
    node.apply("top").await;
    for round in 0..12 {
        lake.write_day(day(1), &vec![1; round + 1]);
        let before = lake.generation("top", day(1)).unwrap_or(0);
        let id = node.submit("top", "2026-01-01", "").await;
        until("it computes", || gate.begun() == round + 1).await;
        gate.open.add_permits(1);
        // Ever later, from at once to about its end.
        tokio::time::sleep(Duration::from_millis(3 * round as u64)).await;
        cancel(&node, id).await;
        let run = node.ended(id).await;
        let after = lake.generation("top", day(1)).unwrap_or(0);
        match run.summary.state {
            RunState::Succeeded => assert_eq!(after, before + 1),
            // What was published when it came is told.
            RunState::Cancelled => assert_eq!(after, before + run.dates.len() as u64),
            _ => panic!("{run:?}"),
        }
        assert!(run.attempts_made.iter().all(|a| a.finished_at.is_some()));
        assert_eq!(cancel(&node, id).await.summary.state, run.summary.state);
        assert_eq!(record(&lake, id).state, run.summary.state);
        // A computation that was stopped has not taken its permit.
        let left = gate.open.available_permits();
        gate.open.forget_permits(left);
    }
    node.stop().await;
}

/// A cancel that was recorded is carried out by whoever comes next.
#[tokio::test]
async fn when_the_scheduler_dies() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let node = Node::start(&lake, gated(&gate)).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "").await;
    until("it computes", || gate.begun() == 1).await;
    let cell = node.core.active(id).unwrap();
    let asked = |run: &mut crate::model::Run| run.cancel_requested = true;
    node.core.update(&cell, asked).await.unwrap();
    node.kill().await;
    let next = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let next = Node::start(&lake, next).await;
    assert_eq!(next.ended(id).await.summary.state, RunState::Cancelled);
    assert_eq!(lake.generation("top", day(1)), None);
    next.stop().await;
}

fn generation(options: &str) -> crate::model::SubmitRun {
    crate::model::SubmitRun {
        job: None,
        generate: Some(options.into()),
        from: None,
        to: None,
        ..crate::testing::submission("", "", "")
    }
}

#[tokio::test]
async fn load_generation_stops_too() {
    let lake = Lake::new([]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    let caller = Caller::default();
    let submit = async |options| {
        let run = node.service.submit(&caller, generation(options), None);
        run.await.unwrap().summary.id
    };
    let id = submit("wait").await;
    let running = node.reached(id, RunState::Running).await;
    assert_eq!(running.summary.job, None);
    // Another one waits for it.
    std::fs::write(lake.file("away"), "").unwrap();
    let next = submit("away").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waits = node.service.run(next).await.unwrap();
    assert_eq!(waits.summary.state, RunState::Queued);
    cancel(&node, id).await;
    assert_eq!(node.ended(id).await.summary.state, RunState::Cancelled);
    // It was told, and ended by itself.
    assert!(lake.file("made").exists());
    // A store that was away is asked again.
    let run = node.ended(next).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(run.attempts_made.len(), 2);
    node.stop().await;
}
