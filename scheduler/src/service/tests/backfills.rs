//! Which runs a backfill queues.

use chrono::NaiveDate;

use crate::model::{BackfillOnly, BackfillOrder, BackfillPlan, BackfillRequest, RunState, Trigger};
use crate::service::Caller;
use crate::testing::{Lake, Node, NodeOptions, day};

fn request(from: u32, to: u32) -> BackfillRequest {
    BackfillRequest {
        job: "a".to_owned(),
        from: day(from).to_string(),
        to: day(to).to_string(),
        only: BackfillOnly::Needed,
        order: BackfillOrder::Newest,
        max_parallel: 3,
        dry_run: false,
    }
}

fn dates(plan: &BackfillPlan) -> Vec<NaiveDate> {
    plan.dates.iter().map(|status| status.date).collect()
}

async fn ask(node: &Node, request: &BackfillRequest) -> BackfillPlan {
    let caller = Caller::default();
    let asked = node.service.backfill(&caller, request.clone(), None);
    asked.await.unwrap()
}

async fn apply(node: &Node, spec: &str) {
    let caller = Caller::default();
    let applied = node.service.apply_job(&caller, spec, Default::default());
    applied.await.unwrap();
}

/// A ranking that is compared with the one of the day before is not stale once a backfill is
/// through, whatever was published before and in whatever order was asked.
#[tokio::test]
async fn a_job_that_compares_ranks_is_current_afterwards() {
    let lake = Lake::new(1..=5);
    let node = Node::start(&lake, NodeOptions::default()).await;
    let compares = "top: 10\n  rank_change: true";
    apply(&node, &Lake::spec("a").replace("top: 10", compares)).await;
    for date in ["2026-01-02", "2026-01-04"] {
        let id = node.submit("a", date, date).await;
        assert_eq!(node.ended(id).await.summary.state, RunState::Succeeded);
    }
    // The fourth lies after the last date asked for, the fifth is nobody's business.
    let dry = BackfillRequest {
        dry_run: true,
        ..request(1, 3)
    };
    let would = ask(&node, &dry).await;
    assert!(would.in_order && would.id.is_none() && would.run_ids.is_empty());
    assert_eq!(dates(&would), [day(1), day(2), day(3), day(4)]);
    let plan = ask(&node, &request(1, 3)).await;
    assert_eq!(dates(&plan), dates(&would));
    for id in &plan.run_ids {
        assert_eq!(node.ended(*id).await.summary.state, RunState::Succeeded);
    }
    let left = ask(&node, &request(1, 4)).await;
    assert_eq!(dates(&left), []);
    assert_eq!(lake.generation("a", day(2)), Some(2));
    assert_eq!(lake.generation("a", day(4)), Some(2));
    assert_eq!(lake.generation("a", day(5)), None);
    node.stop().await;
}

#[tokio::test]
async fn what_is_under_way_is_not_queued_once_more() {
    let lake = Lake::new(1..=3);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply("a").await;
    let first = ask(&node, &request(2, 3)).await;
    assert!(!first.in_order);
    assert_eq!(dates(&first), [day(3), day(2)]);
    let more = ask(&node, &request(1, 3)).await;
    assert_eq!(dates(&more), [day(3), day(2), day(1)]);
    assert_eq!(more.run_ids[..2], first.run_ids);
    assert_eq!(node.core.unfinished().len(), 3);
    let third = node.core.unfinished().pop().unwrap();
    assert!(matches!(third.trigger, Trigger::Backfill { id, .. } if Some(id) == more.id));
    let nothing = ask(&node, &request(1, 3)).await;
    assert_eq!((nothing.id, nothing.run_ids), (None, more.run_ids));
    // To publish again what is current is more than these do.
    let all = BackfillRequest {
        only: BackfillOnly::All,
        ..request(1, 1)
    };
    ask(&node, &all).await;
    assert_eq!(node.core.unfinished().len(), 4);
    // A run of an older spec doesn't do it either.
    apply(&node, &Lake::spec("a").replace("top: 10", "top: 9")).await;
    ask(&node, &request(1, 1)).await;
    assert_eq!(node.core.unfinished().len(), 5);
}
