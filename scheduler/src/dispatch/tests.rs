//! Runs over a small lake, with real computations.

use crate::model::RunState;
use crate::testing::{Lake, Node, NodeOptions, day};

#[tokio::test]
async fn a_submitted_run_publishes() {
    let lake = Lake::new([1, 2]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let id = node.submit("top", "2026-01-01", "2026-01-03").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    let outcomes: Vec<&str> = run.dates.iter().map(|date| date.outcome.as_str()).collect();
    assert_eq!(outcomes, ["published", "published", "gap"]);
    assert_eq!(lake.generation("top", day(1)), Some(1));
    assert_eq!(lake.generation("top", day(2)), Some(1));
    let said: Vec<&str> = run.events.iter().map(|e| e.message.as_str()).collect();
    assert!(said.contains(&"no input for 2026-01-03"), "{said:?}");
    // Again: nothing to do.
    let id = node.submit("top", "2026-01-01", "2026-01-02").await;
    let run = node.ended(id).await;
    assert_eq!(run.summary.state, RunState::Succeeded);
    assert!(
        run.dates
            .iter()
            .all(|date| date.outcome == "already_current")
    );
    assert_eq!(lake.generation("top", day(1)), Some(1));
    node.stop().await;
}
