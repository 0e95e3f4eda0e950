//! What is left to be read one by one at the next start.

use chrono::{DateTime, Months, Utc};

use crate::model::{Run, RunId, RunKind, RunState, Trigger};
use crate::testing::{Lake, Node, NodeOptions};

/// Writes the record of a run of so many months ago.
fn write(lake: &Lake, months: u32, nth: i64, state: RunState) -> RunId {
    let now = Utc::now();
    let kind = RunKind::Generate {
        options: "x".into(),
    };
    let at: DateTime<Utc> = now.checked_sub_months(Months::new(months)).unwrap();
    let run = Run {
        id: RunId::of_firing("a", at + chrono::TimeDelta::milliseconds(nth)),
        state,
        finished_at: state.is_final().then_some(now),
        ..Run::new(kind, Trigger::Manual, at)
    };
    lake.write_run(&run);
    run.id
}

fn segments(lake: &Lake, id: RunId) -> usize {
    let folder = lake.file(&format!("_rankmill/index/{}", id.month()));
    let is_segment = |file: &std::path::Path| file.extension().is_some_and(|end| end == "json");
    std::fs::read_dir(folder).map_or(0, |found| {
        let files = found.map(|file| file.unwrap().path());
        files.filter(|file| is_segment(file)).count()
    })
}

#[tokio::test]
async fn months_that_are_over_are_indexed_whole() {
    let lake = Lake::new([1]);
    let older: Vec<RunId> = (0..3)
        .map(|nth| write(&lake, 4, nth, RunState::Succeeded))
        .collect();
    let open = write(&lake, 2, 0, RunState::Failed);
    let goes_on = write(&lake, 2, 1, RunState::Queued);
    let new = write(&lake, 0, 0, RunState::Succeeded);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.core.index_ended().await.unwrap();
    assert_eq!(segments(&lake, older[0]), 1);
    assert_eq!((segments(&lake, open), segments(&lake, new)), (0, 0));
    // Once its last run has ended.
    let cell = node.core.active(goes_on).unwrap();
    let ends = |run: &mut Run| run.state = RunState::Succeeded;
    node.core.update(&cell, ends).await.unwrap();
    for _ in 0..2 {
        node.core.index_ended().await.unwrap();
        assert_eq!(segments(&lake, older[0]), 1);
        assert_eq!((segments(&lake, open), segments(&lake, new)), (1, 0));
    }
    let states = [RunState::Succeeded, RunState::Failed, RunState::Queued];
    let count = |state| node.core.with_index(|index| index.count(state));
    assert_eq!(states.map(count), [5, 1, 0]);
}
