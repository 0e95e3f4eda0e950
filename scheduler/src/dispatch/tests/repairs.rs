//! Gaps that are mended without being asked.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{at, records};
use crate::model::{RunId, RunKind, RunState, Trigger};
use crate::service::Caller;
use crate::testing::{Lake, Node, NodeOptions, day};

const SCHEDULE: &str = "schedule: { cron: '10 0 * * *', timezone: UTC, repair_days: 4 }";

/// The runs that looking for gaps queues, and their dates.
async fn repaired(node: &Node, lake: &Lake, now: DateTime<Utc>) -> Vec<(RunId, NaiveDate)> {
    let before: Vec<RunId> = records(lake).iter().map(|run| run.id).collect();
    let entry = node.core.job("a").unwrap();
    node.dispatcher.repair_job(&entry, now).await.unwrap();
    let new = records(lake)
        .into_iter()
        .filter(|run| !before.contains(&run.id));
    let date = |run: &crate::model::Run| {
        assert_eq!(run.trigger, Trigger::Repair);
        let RunKind::Ranking { from, to, .. } = run.kind else {
            panic!("{run:?}");
        };
        assert_eq!(from, to);
        from
    };
    let mut new: Vec<(RunId, NaiveDate)> = new.map(|run| (run.id, date(&run))).collect();
    new.sort_by_key(|(_, date)| *date);
    new
}

fn dates(found: &[(RunId, NaiveDate)]) -> Vec<NaiveDate> {
    found.iter().map(|(_, date)| *date).collect()
}

#[tokio::test]
async fn what_is_missing_or_stale_is_mended() {
    // The fourth is missing, and the first is too long ago.
    let lake = Lake::new([1, 2, 3, 5]);
    let mut node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&Lake::spec_with("a", SCHEDULE)).await;
    let now = at("2026-01-06T12:00:00Z");
    let found = repaired(&node, &lake, now).await;
    assert_eq!(dates(&found), [day(2), day(3), day(5)]);
    // They are on their way.
    assert_eq!(repaired(&node, &lake, now).await, []);
    node.work();
    for (id, _) in found {
        assert_eq!(node.ended(id).await.summary.state, RunState::Succeeded);
    }
    assert_eq!(lake.generation("a", day(5)), Some(1));
    assert_eq!(lake.generation("a", day(1)), None);
    assert_eq!(repaired(&node, &lake, now).await, []);
    // Input that comes late, or differs.
    lake.write_day(day(4), &[7]);
    lake.write_day(day(3), &[7, 7, 8]);
    let found = repaired(&node, &lake, now).await;
    assert_eq!(dates(&found), [day(3), day(4)]);
    for (id, _) in found {
        assert_eq!(node.ended(id).await.summary.state, RunState::Succeeded);
    }
    assert_eq!(lake.generation("a", day(3)), Some(2));
    node.stop().await;
}

#[tokio::test]
async fn what_failed_or_was_stopped_is_left_alone_for_a_while() {
    let lake = Lake::new([4, 5]);
    let mut node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&Lake::spec_with("a", SCHEDULE)).await;
    std::fs::write(lake.file("log/date=2026-01-05/0.parquet"), "PAR1 no PAR1").unwrap();
    let now = at("2026-01-06T12:00:00Z");
    let (stopped, failed) = match repaired(&node, &lake, now).await[..] {
        [(stopped, _), (failed, _)] => (stopped, failed),
        ref other => panic!("{other:?}"),
    };
    let caller = Caller::default();
    node.service.cancel(&caller, stopped).await.unwrap();
    node.work();
    assert_eq!(node.ended(failed).await.summary.state, RunState::Failed);
    // The clock of the records is the real one.
    let now = |hours| Utc::now() + TimeDelta::hours(hours);
    let horizon = Utc::now().date_naive() - day(5);
    let far = SCHEDULE.replace('4', &(horizon.num_days() + 10).to_string());
    node.apply_spec(&Lake::spec_with("a", &far)).await;
    assert_eq!(repaired(&node, &lake, now(5)).await, []);
    lake.write_day(day(5), &[1]);
    let found = repaired(&node, &lake, now(7)).await;
    assert_eq!(dates(&found), [day(4), day(5)]);
    node.stop().await;
}

#[tokio::test]
async fn only_where_it_is_wanted() {
    let lake = Lake::new([4, 5]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    let now = at("2026-01-06T12:00:00Z");
    for schedule in ["", "schedule: { cron: '10 0 * * *', timezone: UTC }"] {
        node.apply_spec(&Lake::spec_with("a", schedule)).await;
        assert_eq!(repaired(&node, &lake, now).await, []);
    }
    node.apply_spec(&Lake::spec_with("a", SCHEDULE)).await;
    let caller = Caller::default();
    let pause = |paused| node.service.set_paused(&caller, "a", paused);
    pause(true).await.unwrap();
    assert_eq!(repaired(&node, &lake, now).await, []);
    pause(false).await.unwrap();
    // The schedule will do the newest date itself.
    let early = at("2026-01-06T00:05:00Z");
    assert_eq!(dates(&repaired(&node, &lake, early).await), [day(4)]);
    assert_eq!(dates(&repaired(&node, &lake, now).await), [day(5)]);
}
