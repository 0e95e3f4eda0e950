//! Which dates are mended, and when.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::dispatch::tests::at;
use crate::model::{Run, RunId, RunKind, RunState, Trigger};
use crate::testing::{Lake, Node, NodeOptions, day};

fn daily(more: &str) -> String {
    let schedule = "schedule: { cron: '10 0 * * *', timezone: UTC, repair_days: 4 }";
    Lake::spec_with("a", schedule) + more
}

/// Looks for gaps; gives the runs that go on now with their dates, in the order of their ids.
async fn repair(node: &Node, now: DateTime<Utc>) -> Vec<(RunId, NaiveDate)> {
    let entry = node.core.job("a").unwrap();
    node.dispatcher.repair_job(&entry, now).await.unwrap();
    let date = |run: &Run| match run.kind {
        RunKind::Ranking { from, .. } => from,
        RunKind::Generate { .. } => panic!("{run:?}"),
    };
    let runs = node.core.unfinished();
    runs.iter().map(|run| (run.id, date(run))).collect()
}

fn dates(found: &[(RunId, NaiveDate)]) -> Vec<NaiveDate> {
    found.iter().map(|(_, date)| *date).collect()
}

/// Ends a run as if it had been tried.
async fn end(node: &Node, id: RunId, state: RunState, at: DateTime<Utc>, gap: bool) {
    let cell = node.core.active(id).unwrap();
    let changed = node.core.update(&cell, |run| {
        run.state = state;
        run.finished_at = Some(at);
        if let (true, RunKind::Ranking { from, .. }) = (gap, &run.kind) {
            run.dates = vec![crate::model::DateResult {
                date: *from,
                outcome: "gap".to_owned(),
                generation: 0,
                rows: 0,
            }];
        }
    });
    changed.await.unwrap();
}

#[tokio::test]
async fn only_what_the_schedule_has_fired_for() {
    let lake = Lake::new([3, 4, 5, 6]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    // The fifth is a Monday.
    let weekly = "schedule: { cron: '10 0 * * 1', timezone: UTC, repair_days: 2 }";
    node.apply_spec(&Lake::spec_with("a", weekly)).await;
    let found = repair(&node, at("2026-01-08T12:00:00Z")).await;
    assert_eq!(dates(&found), [day(4), day(3)]);
}

#[tokio::test]
async fn input_that_comes_after_the_run_is_not_waited_for() {
    let lake = Lake::new([5]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&daily("")).await;
    let now = at("2026-01-06T01:00:00Z");
    let [(id, _)] = repair(&node, now).await[..] else {
        panic!("one date has input");
    };
    end(&node, id, RunState::Failed, now, true).await;
    let [(id, _)] = repair(&node, now + TimeDelta::minutes(5)).await[..] else {
        panic!("it has input now");
    };
    // It could not be read.
    end(&node, id, RunState::Failed, now, false).await;
    let soon = repair(&node, now + TimeDelta::hours(5)).await;
    assert_eq!(soon, []);
    let [(id, _)] = repair(&node, now + TimeDelta::hours(7)).await[..] else {
        panic!("it is tried again");
    };
    let later = now + TimeDelta::hours(8);
    end(&node, id, RunState::Cancelled, later, false).await;
    assert_eq!(repair(&node, later + TimeDelta::minutes(5)).await, []);
}

/// A date whose ranking is compared with that of the day before comes after it, and with it.
#[tokio::test]
async fn dates_that_are_compared_go_from_the_oldest_on() {
    let lake = Lake::new([2, 3, 4]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    let spec = daily("").replace("top: 10", "top: 10\n  rank_change: true");
    node.apply_spec(&spec).await;
    let id = node.submit("a", "2026-01-03", "2026-01-03").await;
    node.ended(id).await;
    node.stop().await;

    let options = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let node = Node::idle(&lake, options).await.unwrap();
    let found = repair(&node, at("2026-01-06T12:00:00Z")).await;
    assert_eq!(dates(&found), [day(2), day(3), day(4)]);
    let triggers = node
        .core
        .unfinished()
        .into_iter()
        .map(|run| run.trigger.clone());
    assert!(
        triggers
            .into_iter()
            .all(|trigger| trigger == Trigger::Repair)
    );
}
