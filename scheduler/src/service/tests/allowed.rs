//! Callers that are held to a part of the lake.

use std::sync::Arc;

use crate::access::Access;
use crate::error::ErrorKind;
use crate::model::{RunState, SubmitRun};
use crate::service::Caller;
use crate::testing::{Lake, Node, NodeOptions};

fn generation(options: &str) -> SubmitRun {
    SubmitRun {
        job: None,
        spec: None,
        generate: Some(options.into()),
        set: Default::default(),
        from: None,
        to: None,
        force: false,
        allow_empty: false,
    }
}

#[tokio::test]
async fn a_load_generation_needs_the_whole_lake() {
    let lake = Lake::new([1]);
    let node = Node::start(&lake, NodeOptions::default()).await;
    let held_to = |prefix: &str| Caller {
        name: None,
        access: Some(Arc::new(Access::new(&[prefix.to_owned()]).unwrap())),
    };
    let tenant = held_to(&format!("{}/a", lake.path()));
    let whole = held_to(&lake.path());
    let forbidden = |result: crate::Result<crate::model::RunView>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Forbidden);
    };

    let submitted = node.service.submit(&tenant, generation("now"), None);
    forbidden(submitted.await);
    assert!(!lake.file("made").exists());
    let submitted = node.service.submit(&whole, generation("wait"), None);
    let id = submitted.await.unwrap().summary.id;
    forbidden(node.service.cancel(&tenant, id).await);
    assert!(!node.service.run(id).await.unwrap().summary.state.is_final());
    node.service.cancel(&whole, id).await.unwrap();
    assert_eq!(node.ended(id).await.summary.state, RunState::Cancelled);
    forbidden(node.service.retry(&tenant, id, None).await);
    node.stop().await;

    // What the scheduler allows to all is less than the lake.
    let node = Node::start(
        &lake,
        NodeOptions {
            epoch: 2,
            allowed: Some(format!("{}/a", lake.path())),
            ..NodeOptions::default()
        },
    );
    let node = node.await;
    let anybody = Caller::default();
    let submitted = node.service.submit(&anybody, generation("now"), None);
    forbidden(submitted.await);
    node.stop().await;
}
