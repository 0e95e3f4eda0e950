//! Requests that are made twice, to one scheduler or to two.

use crate::error::{Error, ErrorKind};
use crate::model::{BackfillOnly, BackfillOrder, BackfillRequest, RunState};
use crate::service::Caller;
use crate::testing::{Faults, Flaky, Lake, Node, NodeOptions, submission};

fn epoch(epoch: u64) -> NodeOptions {
    NodeOptions {
        epoch,
        ..NodeOptions::default()
    }
}

fn caller(name: &str) -> Caller {
    Caller {
        name: Some(name.to_owned()),
        access: None,
    }
}

fn backfill(to: &str) -> BackfillRequest {
    BackfillRequest {
        job: "a".to_owned(),
        from: "2026-01-01".to_owned(),
        to: to.to_owned(),
        only: BackfillOnly::Needed,
        order: BackfillOrder::Oldest,
        max_parallel: 1,
        dry_run: false,
    }
}

fn key() -> Option<String> {
    Some("monday".to_owned())
}

#[tokio::test]
async fn two_schedulers_do_it_once() {
    let lake = Lake::new([1, 2, 3]);
    let old = Node::idle(&lake, epoch(1)).await.unwrap();
    old.apply("a").await;
    // The new one has read the records before the old one got the requests.
    let new = Node::idle(&lake, epoch(2)).await.unwrap();
    let ada = caller("ada");
    let submit = |node: &Node| {
        let service = node.service.clone();
        let ada = ada.clone();
        async move {
            let request = submission("a", "2026-01-01", "2026-01-01");
            service
                .submit(&ada, request, key())
                .await
                .unwrap()
                .summary
                .id
        }
    };
    let first = submit(&old).await;
    assert_eq!(submit(&new).await, first);
    assert_eq!(submit(&old).await, first);
    assert_eq!(new.core.unfinished().len(), 1);
    // Another request, and another caller.
    let request = submission("a", "2026-01-02", "2026-01-02");
    let other = new.service.submit(&ada, request.clone(), key()).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Conflict);
    let other = new
        .service
        .backfill(&ada, backfill("2026-01-03"), key())
        .await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Conflict);
    let bob = caller("bob");
    let other = new.service.submit(&bob, request, key()).await.unwrap();
    assert_ne!(other.summary.id, first);

    let cell = new.core.active(first).unwrap();
    let ends = |run: &mut crate::model::Run| run.state = RunState::Succeeded;
    new.core.update(&cell, ends).await.unwrap();
    let again = |node: &Node| {
        let service = node.service.clone();
        let ada = ada.clone();
        async move {
            let key = Some("again".to_owned());
            service.retry(&ada, first, key).await.unwrap().summary.id
        }
    };
    let third = Node::idle(&lake, epoch(3)).await.unwrap();
    let repeated = again(&new).await;
    assert_ne!(repeated, first);
    assert_eq!(again(&third).await, repeated);
    assert_eq!(again(&new).await, repeated);
}

#[tokio::test]
async fn a_backfill_that_failed_half_way_is_completed() {
    let lake = Lake::new([1, 2, 3]);
    let flaky = Flaky::on_disk();
    let options = NodeOptions::over(&flaky, 1);
    let node = Node::idle(&lake, options).await.unwrap();
    node.apply("a").await;
    let ada = caller("ada");
    let ask = |node: &Node, to: &str| {
        let (service, ada, request) = (node.service.clone(), ada.clone(), backfill(to));
        async move { service.backfill(&ada, request, key()).await }
    };
    // The store goes away once what is to be done is written down.
    flaky.set(Faults {
        fail_writes_after: Some(2),
        ..Faults::default()
    });
    let failed = ask(&node, "2026-01-03").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unsure, "{failed:?}");
    flaky.set(Faults::default());
    // Whoever leads then.
    let next = Node::idle(&lake, epoch(2)).await.unwrap();
    let before = next.core.unfinished().len();
    assert!((1..3).contains(&before), "{before} were queued");
    let plan = ask(&next, "2026-01-03").await.unwrap();
    let known: Vec<_> = next.core.unfinished().iter().map(|run| run.id).collect();
    assert_eq!(plan.run_ids.len(), 3);
    assert!(known.len() == 3 && plan.run_ids.iter().all(|id| known.contains(id)));
    assert_eq!(ask(&next, "2026-01-03").await.unwrap(), plan);
    assert_eq!(next.core.unfinished().len(), 3);
    let other = ask(&next, "2026-01-02").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
}

/// "Unavailable" means that nothing was done; a client then asks the next scheduler.
#[tokio::test]
async fn what_may_have_been_done_is_not_said_to_be_undone() {
    let lake = Lake::new([1]);
    let flaky = Flaky::on_disk();
    let options = NodeOptions::over(&flaky, 1);
    let node = Node::idle(&lake, options).await.unwrap();
    node.apply("a").await;
    let ada = caller("ada");
    let request = || submission("a", "2026-01-01", "2026-01-01");
    flaky.set(Faults {
        lose_answers: usize::MAX,
        ..Faults::default()
    });
    // The lead is lost while the record is written.
    let lost = crate::lease::Standing::Lost { epoch: None };
    let submitted = node.service.submit(&ada, request(), None);
    let (submitted, ()) = tokio::join!(submitted, async {
        node.standing.send(lost).unwrap();
    });
    let error = submitted.unwrap_err();
    assert!(matches!(error, Error::Unsure { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unsure);
    // Before it, nothing is done.
    let error = node
        .service
        .submit(&ada, request(), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
