//! Idempotency keys.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{RunState, RunView, SubmitRun};
use crate::service::Caller;
use crate::testing::{Faults, Flaky, Lake, Node, NodeOptions, submission};

fn caller(name: &str) -> Caller {
    Caller {
        name: Some(name.to_owned()),
        access: None,
    }
}

async fn submit(node: &Node, by: &str, request: &SubmitRun, key: &str) -> Result<RunView> {
    let (request, key) = (request.clone(), Some(key.to_owned()));
    node.service.submit(&caller(by), request, key).await
}

async fn runs(node: &Node) -> usize {
    let page = node.service.runs(&Default::default()).await.unwrap();
    page.runs.len()
}

#[tokio::test]
async fn the_same_key_is_the_same_run() {
    let lake = Lake::new([1]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let request = submission("top", "2026-01-01", "");
    let first = submit(&node, "ann", &request, "k").await.unwrap();
    let id = first.summary.id;
    let again = submit(&node, "ann", &request, "k").await.unwrap();
    assert_eq!(again.summary.id, id);
    // Also when it has ended, and for the next scheduler.
    node.ended(id).await;
    let ended = submit(&node, "ann", &request, "k").await.unwrap();
    assert_eq!(ended.summary.id, id);
    assert_eq!(ended.summary.state, RunState::Succeeded);

    let others = [
        submission("top", "2026-01-02", ""),
        submission("top", "2026-01-01", "2026-01-01"),
        SubmitRun {
            force: true,
            ..request.clone()
        },
        SubmitRun {
            set: [("a".to_owned(), "b".to_owned())].into(),
            ..request.clone()
        },
        // What is no request at all.
        submission("nothing", "x", "y"),
    ];
    for other in &others {
        let refused = submit(&node, "ann", other, "k").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        assert!(refused.to_string().contains(&id.to_string()), "{refused}");
    }
    // Another's key, another key, none.
    let ben = submit(&node, "ben", &request, "k").await.unwrap();
    assert_ne!(ben.summary.id, id);
    let other = submit(&node, "ann", &request, "K").await.unwrap();
    assert_ne!(other.summary.id, id);
    let ann = caller("ann");
    for _ in 0..2 {
        let run = node.service.submit(&ann, request.clone(), None);
        assert_ne!(run.await.unwrap().summary.id, id);
    }
    assert_eq!(runs(&node).await, 5);
    node.stop().await;

    let next = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let next = Node::start(&lake, next).await;
    let known = submit(&next, "ann", &request, "k").await.unwrap();
    assert_eq!(known.summary.id, id);
    assert_eq!(runs(&next).await, 5);
    next.stop().await;
}

#[tokio::test]
async fn at_once_it_is_one_run_too() {
    let lake = Lake::new([1]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let request = submission("top", "2026-01-01", "");
    let all = (0..16).map(|_| submit(&node, "ann", &request, "k"));
    let all = futures::future::try_join_all(all).await.unwrap();
    assert!(all.iter().all(|run| run.summary.id == all[0].summary.id));
    assert_eq!(runs(&node).await, 1);
    node.stop().await;
}

/// A refused request uses up no key; neither does one whose record could not be written.
#[tokio::test]
async fn a_key_counts_once_there_is_a_run() {
    let lake = Lake::new([1]);
    let store = Flaky::on_disk();
    let options = NodeOptions::over(&store, 1);
    let node = Node::start(&lake, options).await;
    node.apply("top").await;
    let wrong = submission("top", "the day before", "");
    let refused = submit(&node, "ann", &wrong, "k").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let request = submission("top", "2026-01-01", "");
    store.set(Faults {
        fail_writes: usize::MAX,
        ..Faults::default()
    });
    let failed = submit(&node, "ann", &request, "k").await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
    store.set(Faults::default());
    let run = submit(&node, "ann", &request, "k").await.unwrap();
    node.ended(run.summary.id).await;
    assert_eq!(runs(&node).await, 1);
    for key in ["", &"k".repeat(256)] {
        let refused = submit(&node, "ann", &request, key).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    node.stop().await;
}
