//! How many runs go on at once, and which.

use std::time::Duration;

use super::at;
use crate::model::{BackfillRequest, Interruption, RunId, RunState};
use crate::options::Limits;
use crate::service::Caller;
use crate::testing::{Gate, Lake, Node, NodeOptions, until};

fn limited(gate: &std::sync::Arc<Gate>, limits: Limits) -> NodeOptions {
    NodeOptions {
        gate: gate.clone(),
        limits: Limits {
            first_backoff: Duration::from_millis(1),
            longest_backoff: Duration::from_millis(1),
            ..limits
        },
        ..NodeOptions::default()
    }
}

async fn all_succeed(node: &Node, ids: &[RunId]) {
    for id in ids {
        let run = node.ended(*id).await;
        assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    }
}

#[tokio::test]
async fn runs_at_once() {
    let lake = Lake::new(1..=4);
    let gate = Gate::new(0);
    let limits = Limits {
        runs: 2,
        ..Limits::default()
    };
    let mut node = Node::idle(&lake, limited(&gate, limits)).await.unwrap();
    let mut ids = Vec::new();
    for job in ["a", "b", "c", "d"] {
        node.apply(job).await;
        ids.push(node.submit(job, "2026-01-01", "").await);
    }
    node.work();
    until("two compute", || gate.begun() == 2).await;
    let waiting = node.core.items();
    let waiting = waiting.iter().filter(|(_, s)| *s == RunState::Queued);
    assert_eq!(waiting.count(), 2);
    gate.open.add_permits(4);
    all_succeed(&node, &ids).await;
    assert_eq!(gate.most(), 2);
    node.stop().await;
}

#[tokio::test]
async fn runs_of_one_job_at_once() {
    for (runs_per_job, apart) in [(1, true), (2, true), (4, false)] {
        let lake = Lake::new(1..=4);
        let gate = Gate::new(0);
        let limits = Limits {
            runs: 4,
            runs_per_job,
            ..Limits::default()
        };
        let mut node = Node::idle(&lake, limited(&gate, limits)).await.unwrap();
        node.apply("a").await;
        let mut ids = Vec::new();
        for day in 1..=4 {
            // Runs of the same dates never go on at once.
            let date = format!("2026-01-0{}", if apart { day } else { 1 });
            ids.push(node.submit("a", &date, "").await);
        }
        node.work();
        let most = if apart { runs_per_job } else { 1 };
        until("as many as may compute", || gate.begun() == most).await;
        gate.open.add_permits(4);
        all_succeed(&node, &ids).await;
        assert_eq!(gate.most(), most);
        node.stop().await;
    }
}

fn backfill(from: &str, to: &str, max_parallel: u32) -> BackfillRequest {
    BackfillRequest {
        job: "a".to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        only: Default::default(),
        order: Default::default(),
        max_parallel,
        dry_run: false,
    }
}

const SCHEDULE: &str = "schedule: { cron: '10 0 * * *', timezone: UTC, lookback_days: 1 }";

#[tokio::test]
async fn todays_run_and_a_backfill_both_go_on() {
    let lake = Lake::new(1..=6);
    let gate = Gate::new(0);
    let limits = Limits {
        runs: 1,
        background_runs: 1,
        ..Limits::default()
    };
    let node = Node::start(&lake, limited(&gate, limits)).await;
    node.apply_spec(&Lake::spec_with("a", SCHEDULE)).await;
    let caller = Caller::default();
    let plan = backfill("2026-01-01", "2026-01-04", 4);
    let plan = node.service.backfill(&caller, plan, None).await.unwrap();
    assert_eq!(plan.run_ids.len(), 4);
    until("the backfill computes", || gate.begun() == 1).await;
    let entry = node.core.job("a").unwrap();
    let (from, now) = (at("2026-01-07T00:00:00Z"), at("2026-01-07T00:10:00Z"));
    node.dispatcher.fire(&entry, from, now).await.unwrap();
    let today = RunId::of_firing("a", now);
    // Nothing has ended.
    until("today's run computes", || gate.begun() == 2).await;
    // Another waits for today's slot; the backfill doesn't.
    node.apply("b").await;
    let other = node.submit("b", "2026-01-01", "").await;
    gate.open.add_permits(100);
    all_succeed(&node, &plan.run_ids).await;
    all_succeed(&node, &[today, other]).await;
    let run = node.service.run(today).await.unwrap();
    assert_eq!(run.attempts_made.len(), 1);
    // The newest date first.
    let mut started = Vec::new();
    for id in &plan.run_ids {
        let run = node.service.run(*id).await.unwrap();
        started.push((run.summary.started_at, run.summary.from));
    }
    started.sort();
    let dates: Vec<_> = started.iter().map(|(_, date)| date.unwrap()).collect();
    assert!(dates.is_sorted_by(|a, b| a > b), "{dates:?}");
    node.stop().await;
}

/// Also where the backfill is at today's dates.
#[tokio::test]
async fn a_backfill_makes_room_for_todays_run() {
    let lake = Lake::new(1..=6);
    let gate = Gate::new(0);
    let node = Node::start(&lake, limited(&gate, Limits::default())).await;
    node.apply_spec(&Lake::spec_with("a", SCHEDULE)).await;
    let caller = Caller::default();
    let plan = backfill("2026-01-04", "2026-01-06", 1);
    let plan = node.service.backfill(&caller, plan, None).await.unwrap();
    until("the backfill computes", || gate.begun() == 1).await;
    let entry = node.core.job("a").unwrap();
    let (from, now) = (at("2026-01-07T00:00:00Z"), at("2026-01-07T00:10:00Z"));
    node.dispatcher.fire(&entry, from, now).await.unwrap();
    let today = RunId::of_firing("a", now);
    node.reached(today, RunState::Running).await;
    let first = node.service.run(plan.run_ids[0]).await.unwrap();
    let gave_way = &first.attempts_made[0];
    assert_eq!(gave_way.interrupted, Some(Interruption::GaveWay));
    gate.open.add_permits(100);
    all_succeed(&node, &[today]).await;
    all_succeed(&node, &plan.run_ids).await;
    node.stop().await;
}

#[tokio::test]
async fn a_backfill_keeps_to_its_own_limit() {
    let lake = Lake::new(1..=6);
    let gate = Gate::new(0);
    let limits = Limits {
        background_runs: 6,
        runs_per_job: 1,
        ..Limits::default()
    };
    let node = Node::start(&lake, limited(&gate, limits)).await;
    node.apply("a").await;
    let caller = Caller::default();
    let plan = backfill("2026-01-01", "2026-01-06", 3);
    let plan = node.service.backfill(&caller, plan, None).await.unwrap();
    until("three compute", || gate.begun() == 3).await;
    gate.open.add_permits(6);
    all_succeed(&node, &plan.run_ids).await;
    assert_eq!(gate.most(), 3);
    node.stop().await;
}
