//! Records: who may change them, and what becomes of answers that are lost.

use chrono::{TimeDelta, Utc};

use super::{happened, recover};
use crate::error::Error;
use crate::model::{Attempt, Interruption, Run, RunId, RunKind, RunState, Trigger};
use crate::options::Limits;
use crate::testing::{Faults, Flaky, Lake, Node, NodeOptions, day};

fn queued(job: &str) -> Run {
    let kind = RunKind::Ranking {
        job: job.to_owned(),
        spec: Lake::spec(job),
        set: Default::default(),
        from: day(1),
        to: day(1),
        force: false,
        allow_empty: false,
    };
    Run::new(kind, Trigger::Manual, Utc::now())
}

fn epoch(epoch: u64) -> NodeOptions {
    NodeOptions {
        epoch,
        ..NodeOptions::default()
    }
}

/// A run's record as it lies in the lake.
fn record(lake: &Lake, id: RunId) -> Run {
    let path = lake.file(&format!("_rankmill/runs/{}/{id}.json", id.month()));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn put_record(lake: &Lake, run: &Run) {
    let id = run.id;
    let path = lake.file(&format!("_rankmill/runs/{}/{id}.json", id.month()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_vec(run).unwrap()).unwrap();
}

#[tokio::test]
async fn an_old_leader_is_refused() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    let cell = old.core.queue(queued("a")).await.unwrap().unwrap();
    let running = |run: &mut Run| run.state = RunState::Running;
    old.core.update(&cell, running).await.unwrap();
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    // The new one has put it back into the queue; the old one knows nothing of it.
    let id = cell.run().id;
    assert_eq!(new.core.active(id).unwrap().run().state, RunState::Queued);
    let succeeded = |run: &mut Run| run.state = RunState::Succeeded;
    let refused = old.core.update(&cell, succeeded).await;
    assert!(
        matches!(refused, Err(Error::Fenced { epoch: 2 })),
        "{refused:?}"
    );
    assert_eq!(*old.core.fenced().borrow(), Some(2));
    assert!(matches!(
        old.core.check_leads(),
        Err(Error::Fenced { epoch: 2 })
    ));
    assert_eq!(record(&lake, id).state, RunState::Queued);
    assert_eq!(record(&lake, id).epoch, 2);
}

#[tokio::test]
async fn the_last_words_of_an_old_leader_count() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    let cell = old.core.queue(queued("a")).await.unwrap().unwrap();
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    // Written after the new one has read the queue, and before it has written itself.
    let ends = |run: &mut Run| run.state = RunState::Succeeded;
    old.core.update(&cell, ends).await.unwrap();
    let known = new.core.active(cell.run().id).unwrap();
    let starts = |run: &mut Run| {
        if !run.state.is_final() {
            run.state = RunState::Running;
        }
    };
    let run = new.core.update(&known, starts).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded);
    assert!(new.core.active(run.id).is_none());
}

#[tokio::test]
async fn a_lost_answer_is_found_out() {
    let lake = Lake::new([1]);
    let flaky = Flaky::on_disk();
    let options = NodeOptions::over(&flaky, 1);
    let node = Node::idle(&lake, options).await.unwrap();
    let lose = |lose_answers| {
        flaky.set(Faults {
            lose_answers,
            ..Faults::default()
        });
    };
    lose(1);
    let cell = node.core.queue(queued("a")).await.unwrap().unwrap();
    let id = cell.run().id;
    let now = Utc::now();
    let say = |what: &'static str| move |run: &mut Run| happened(run, now, what);
    lose(1);
    node.core.update(&cell, say("one")).await.unwrap();
    // All tries fail, though the first has taken effect.
    lose(1);
    flaky.faults.lock().unwrap().fail_writes = 0;
    let version = record(&lake, id);
    flaky.set(Faults {
        lose_answers: 1,
        ..Faults::default()
    });
    let mut calls = 0;
    let change = |run: &mut Run| {
        calls += 1;
        happened(run, now, "two");
    };
    node.core.update(&cell, change).await.unwrap();
    assert_ne!(version, record(&lake, id));
    // The store is away for longer than anybody tries.
    flaky.set(Faults {
        fail_writes: usize::MAX,
        ..Faults::default()
    });
    let failed = node.core.update(&cell, say("three")).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
    assert_eq!(cell.run().events.len(), 2);
    lose(0);
    node.core.update(&cell, say("four")).await.unwrap();
    let said: Vec<String> = record(&lake, id)
        .events
        .into_iter()
        .map(|e| e.message)
        .collect();
    assert_eq!(said, ["one", "two", "four"]);
}

/// A write that was given up takes effect later: the next one builds on it.
#[tokio::test]
async fn a_late_write_of_its_own_is_no_conflict() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, epoch(3)).await.unwrap();
    let cell = node.core.queue(queued("a")).await.unwrap().unwrap();
    let now = Utc::now();
    let mut late = (*cell.run()).clone();
    happened(&mut late, now, "late");
    put_record(&lake, &late);
    let run = node
        .core
        .update(&cell, |run| happened(run, now, "next"))
        .await
        .unwrap();
    let said: Vec<&str> = run.events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(said, ["late", "next"]);
}

#[tokio::test]
async fn broken_records_are_left_alone_and_stop_nobody() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, epoch(1)).await.unwrap();
    node.apply("good").await;
    let cell = node.core.queue(queued("good")).await.unwrap().unwrap();
    let broken = [
        "_rankmill/jobs/broken.json",
        "_rankmill/runs/2026-01/019b0000-0000-7000-8000-000000000000.json",
        "_rankmill/index/2026-01/broken.json",
    ];
    for file in broken {
        let path = lake.file(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "{ half").unwrap();
    }
    let next = Node::idle(&lake, epoch(2)).await.unwrap();
    assert_eq!(next.core.jobs().len(), 1);
    assert!(next.core.active(cell.run().id).is_some());
    assert_eq!(next.core.state().corrupt.len(), 3);
    for file in broken {
        assert_eq!(std::fs::read_to_string(lake.file(file)).unwrap(), "{ half");
    }
    // Broken while it goes on.
    let id = cell.run().id;
    let path = lake.file(&format!("_rankmill/runs/{}/{id}.json", id.month()));
    std::fs::write(&path, "{ half").unwrap();
    let known = next.core.active(id).unwrap();
    let ends = |run: &mut Run| run.state = RunState::Succeeded;
    let refused = next.core.update(&known, ends).await;
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "{ half");
}

#[tokio::test]
async fn nothing_is_queued_without_the_lead() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, epoch(1)).await.unwrap();
    let lost = crate::lease::Standing::Lost { epoch: None };
    node.standing.send(lost).unwrap();
    let refused = node.core.queue(queued("a")).await.err();
    assert!(
        matches!(refused, Some(Error::Standby { .. })),
        "{refused:?}"
    );
    assert!(!lake.file("_rankmill/runs").exists());
}

#[tokio::test]
async fn strays_are_found() {
    let lake = Lake::new([1]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    old.apply("late").await;
    let cell = old.core.queue(queued("late")).await.unwrap().unwrap();
    assert!(new.core.active(cell.run().id).is_none());
    new.core.find_strays().await.unwrap();
    assert!(new.core.active(cell.run().id).is_some());
    assert!(new.core.job("late").is_ok());
    old.core.remove_job("late").await.unwrap();
    new.core.find_strays().await.unwrap();
    assert!(new.core.job("late").is_err());
}

#[test]
fn recovers() {
    let now = Utc::now();
    let limits = Limits {
        max_interruptions: 2,
        ..Limits::default()
    };
    let attempt = |interrupted: Option<Interruption>| Attempt {
        started_at: now - TimeDelta::minutes(1),
        finished_at: interrupted.map(|_| now),
        reason: None,
        interrupted,
    };
    let mut run = Run {
        state: RunState::Publishing,
        attempts: vec![attempt(None)],
        ..queued("a")
    };
    recover(&mut run, &limits, now);
    assert_eq!(run.state, RunState::Queued);
    assert_eq!(run.attempts[0].finished_at, Some(now));
    let died = Some(Interruption::SchedulerDied);
    assert_eq!(run.attempts[0].interrupted, died);
    let reason = run.attempts[0].reason.as_deref();
    assert_eq!(reason, Some("the scheduler that ran it died"));

    let mut cancelled = Run {
        cancel_requested: true,
        ..run.clone()
    };
    recover(&mut cancelled, &limits, now);
    assert_eq!(cancelled.state, RunState::Cancelled);
    assert_eq!(cancelled.finished_at, Some(now));

    let mut deadly = Run {
        state: RunState::Running,
        attempts: vec![attempt(died), attempt(died), attempt(None)],
        ..run.clone()
    };
    recover(&mut deadly, &limits, now);
    assert_eq!(deadly.state, RunState::Failed);
    let error = deadly.error.as_deref();
    assert_eq!(error, Some("3 schedulers died while they ran it"));

    let ended = Run {
        state: RunState::Succeeded,
        ..run
    };
    let mut same = ended.clone();
    recover(&mut same, &limits, now);
    assert_eq!(same, ended);
}
