//! Firings: each is queued once, whatever happens, and nothing else is.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{at, record, records};
use crate::model::{RunId, RunKind, RunState, Trigger};
use crate::service::Caller;
use crate::testing::{Lake, Node, NodeOptions, day};

fn daily(more: &str) -> String {
    let schedule = format!("schedule: {{ cron: '10 0 * * *', timezone: UTC{more} }}");
    Lake::spec_with("a", &schedule)
}

/// When the runs in the lake were due, and for which dates.
fn fired(lake: &Lake) -> Vec<(DateTime<Utc>, NaiveDate, NaiveDate)> {
    let runs = records(lake).into_iter().map(|run| {
        let Trigger::Schedule { fire_at } = run.trigger else {
            panic!("{run:?}");
        };
        let RunKind::Ranking { from, to, .. } = run.kind else {
            panic!("{run:?}");
        };
        (fire_at, from, to)
    });
    runs.collect()
}

#[tokio::test]
async fn each_firing_is_queued_once() {
    let lake = Lake::new(1..=5);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&daily("")).await;
    let entry = node.core.job("a").unwrap();
    let (from, now) = (at("2026-01-03T00:30:00Z"), at("2026-01-06T08:00:00Z"));
    let until = node.dispatcher.fire(&entry, from, now).await.unwrap();
    assert_eq!(until, at("2026-01-06T00:10:00Z"));
    let expected = [
        (at("2026-01-04T00:10:00Z"), day(2), day(3)),
        (at("2026-01-05T00:10:00Z"), day(3), day(4)),
        (at("2026-01-06T00:10:00Z"), day(4), day(5)),
    ];
    assert_eq!(fired(&lake), expected);
    // It died before it could remember that they have fired; so do two at once.
    let new = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let new = Node::idle(&lake, new).await.unwrap();
    let entry = new.core.job("a").unwrap();
    new.dispatcher.fire(&entry, from, now).await.unwrap();
    assert_eq!(fired(&lake), expected);
    assert_eq!(new.core.items().len(), 3);
    // The next day.
    let now = at("2026-01-07T00:10:00Z");
    new.dispatcher.fire(&entry, until, now).await.unwrap();
    assert_eq!(fired(&lake).len(), 4);
}

#[tokio::test]
async fn without_catching_up_only_the_newest_counts() {
    let lake = Lake::new(1..=5);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    let spec = daily(", catch_up: false, lookback_days: 0, deadline: 2h");
    node.apply_spec(&spec).await;
    let entry = node.core.job("a").unwrap();
    let from = at("2026-01-01T00:00:00Z");
    // Too late for any.
    let late = at("2026-01-04T08:00:00Z");
    let until = node.dispatcher.fire(&entry, from, late).await.unwrap();
    assert_eq!((until, fired(&lake)), (late, vec![]));
    let now = at("2026-01-05T01:00:00Z");
    node.dispatcher.fire(&entry, from, now).await.unwrap();
    assert_eq!(fired(&lake), [(at("2026-01-05T00:10:00Z"), day(4), day(4))]);
}

#[tokio::test]
async fn a_paused_job_misses_its_firings_for_good() {
    let lake = Lake::new(1..=5);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&daily("")).await;
    let caller = Caller::default();
    let pause = |paused| node.service.set_paused(&caller, "a", paused);
    let view = pause(true).await.unwrap();
    assert!(view.job.paused && view.next_at.is_none());
    let entry = node.core.job("a").unwrap();
    let applied = entry.job.fired_until;
    let later = applied + TimeDelta::days(3);
    node.dispatcher.fire(&entry, applied, later).await.unwrap();
    assert!(fired(&lake).is_empty());
    let resumed = pause(false).await.unwrap();
    assert!(resumed.job.fired_until > applied && resumed.next_at.is_some());
    // Applying it anew leaves it as it is, unless its schedule is another one.
    let spec = daily("").replace("top: 10", "top: 9");
    node.apply_spec(&spec).await;
    let again = node.core.job("a").unwrap();
    assert_eq!(again.job.fired_until, resumed.job.fired_until);
    assert_eq!(again.job.revision, 2);
    pause(true).await.unwrap();
    node.apply_spec(&daily(", lookback_days: 0")).await;
    let other = node.core.job("a").unwrap();
    assert!(other.job.fired_until > resumed.job.fired_until);
    assert!(other.job.paused, "applying is not resuming");
}

#[tokio::test]
async fn after_its_deadline_a_run_is_late() {
    let lake = Lake::new(1..=5);
    let mut node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&daily(", deadline: 30m")).await;
    let entry = node.core.job("a").unwrap();
    // Long ago, so that it is late before it starts.
    let (from, now) = (at("2026-01-05T00:00:00Z"), at("2026-01-05T00:10:00Z"));
    node.dispatcher.fire(&entry, from, now).await.unwrap();
    let id = RunId::of_firing("a", now);
    assert_eq!(record(&lake, id).deadline, Some(at("2026-01-05T00:40:00Z")));
    let view = node.service.run(id).await.unwrap();
    assert!(view.summary.late && view.summary.state == RunState::Queued);
    node.core.count_late();
    node.core.count_late();
    node.work();
    let view = node.ended(id).await;
    assert!(view.summary.late && view.summary.state == RunState::Succeeded);
    let told = node.service.metrics().encode().unwrap();
    let late = told.lines().find(|line| line.contains("late_runs_total "));
    assert!(late.is_some_and(|line| line.ends_with(" 1")), "{told}");
    // One that is in time.
    let spec = daily(", deadline: 30m").replace("10 0 *", "* * *");
    node.apply_spec(&spec).await;
    let entry = node.core.job("a").unwrap();
    let now = Utc::now();
    let from = now - TimeDelta::minutes(1);
    let fired = node.dispatcher.fire(&entry, from, now).await.unwrap();
    let view = node.ended(RunId::of_firing("a", fired)).await;
    assert!(
        !view.summary.late && view.summary.deadline.is_some(),
        "{view:?}"
    );
    node.stop().await;
}

/// On a day of 23 hours the time that is skipped is made up for, on one of 25 hours the time
/// that comes twice counts once; each run has its own date.
#[tokio::test]
async fn days_of_23_and_25_hours() {
    for (from, now, expected) in [
        (
            "2026-03-27T12:00:00Z",
            "2026-03-30T12:00:00Z",
            [
                ("2026-03-28T01:30:00Z", "2026-03-27"),
                ("2026-03-29T01:00:00Z", "2026-03-28"),
                ("2026-03-30T00:30:00Z", "2026-03-29"),
            ],
        ),
        (
            "2026-10-23T12:00:00Z",
            "2026-10-26T12:00:00Z",
            [
                ("2026-10-24T00:30:00Z", "2026-10-23"),
                ("2026-10-25T00:30:00Z", "2026-10-24"),
                ("2026-10-26T01:30:00Z", "2026-10-25"),
            ],
        ),
    ] {
        let lake = Lake::new([]);
        let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
        let spec = daily(", lookback_days: 0").replace("10 0", "30 2");
        node.apply_spec(&spec.replace("UTC", "Europe/Berlin")).await;
        let entry = node.core.job("a").unwrap();
        node.dispatcher
            .fire(&entry, at(from), at(now))
            .await
            .unwrap();
        let expected = expected.map(|(fire_at, date)| {
            let date: NaiveDate = date.parse().unwrap();
            (at(fire_at), date, date)
        });
        assert_eq!(fired(&lake), expected);
    }
}

/// By itself: what was missed while no scheduler was there is made up for at the start.
#[tokio::test]
async fn a_scheduler_that_starts_makes_up_for_what_was_missed() {
    let lake = Lake::new([]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply_spec(&daily("")).await;
    let mut job = node.core.job("a").unwrap().job.clone();
    let today = Utc::now().date_naive();
    job.fired_until = Utc::now() - TimeDelta::days(3);
    for days in 1..=5 {
        lake.write_day(today - TimeDelta::days(days), &[1, 2]);
    }
    let record = serde_json::to_vec(&job).unwrap();
    std::fs::write(lake.file("_rankmill/jobs/a.json"), record).unwrap();
    let next = NodeOptions {
        epoch: 2,
        ..NodeOptions::default()
    };
    let next = Node::start(&lake, next).await;
    crate::testing::until("they have fired", || {
        next.core.job("a").unwrap().job.fired_until > job.fired_until
    })
    .await;
    let ids: Vec<RunId> = records(&lake).iter().map(|run| run.id).collect();
    assert_eq!(ids.len(), 3);
    for id in ids {
        let run = next.ended(id).await;
        assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    }
    next.stop().await;
}
