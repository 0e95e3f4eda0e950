//! Repeating runs, backfills, and what is refused.

use crate::access::Access;
use crate::error::ErrorKind;
use crate::model::{
    BackfillOnly, BackfillOrder, BackfillRequest, DateState, RunId, RunState, SubmitRun, Trigger,
};
use crate::service::Caller;
use crate::testing::{Gate, Lake, Node, NodeOptions, day, submission, until};

fn anyone() -> Caller {
    Caller::default()
}

#[tokio::test]
async fn what_has_ended_can_be_repeated() {
    let lake = Lake::new([1]);
    let gate = Gate::new(0);
    let options = NodeOptions {
        gate: gate.clone(),
        ..NodeOptions::default()
    };
    let node = Node::start(&lake, options).await;
    node.apply("top").await;
    let first = node.submit("top", "2026-01-01", "").await;
    until("it computes", || gate.begun() == 1).await;
    let refused = node
        .service
        .retry(&anyone(), first, None)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    node.service.cancel(&anyone(), first).await.unwrap();
    node.ended(first).await;
    // The run's spec as it was, whatever has become of the job.
    node.service.delete_job(&anyone(), "top").await.unwrap();
    gate.open.add_permits(1);
    let again = node.service.retry(&anyone(), first, None).await.unwrap();
    assert_eq!(again.summary.trigger, Trigger::Retry { of: first });
    let run = node.ended(again.summary.id).await;
    assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
    assert_eq!(lake.generation("top", day(1)), Some(1));
    let missing = node.service.retry(&anyone(), RunId::new(), None).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    node.stop().await;
}

fn backfill(only: BackfillOnly) -> BackfillRequest {
    BackfillRequest {
        job: "top".to_owned(),
        from: "2026-01-01".to_owned(),
        to: "2026-01-05".to_owned(),
        only,
        order: BackfillOrder::Oldest,
        max_parallel: 1,
        dry_run: true,
    }
}

#[tokio::test]
async fn a_backfill_does_what_is_needed() {
    let lake = Lake::new(1..=4);
    let node = Node::start(&lake, NodeOptions::default()).await;
    node.apply("top").await;
    let done = node.submit("top", "2026-01-01", "2026-01-02").await;
    node.ended(done).await;
    lake.write_day(day(2), &[9]);
    std::fs::write(lake.file("log/date=2026-01-04/0.parquet"), "PAR1 no PAR1").unwrap();
    let broken = node.submit("top", "2026-01-04", "").await;
    assert_eq!(node.ended(broken).await.summary.state, RunState::Failed);
    lake.write_day(day(4), &[9]);

    for (only, expected) in [
        (BackfillOnly::Needed, vec![day(2), day(3), day(4)]),
        (BackfillOnly::Missing, vec![day(3), day(4)]),
        (BackfillOnly::Stale, vec![day(2)]),
        (BackfillOnly::Failed, vec![day(4)]),
        (BackfillOnly::All, (1..=4).map(day).collect()),
    ] {
        let plan = node
            .service
            .backfill(&anyone(), backfill(only), None)
            .await
            .unwrap();
        assert_eq!((plan.id, plan.run_ids.len()), (None, 0));
        let dates: Vec<_> = plan.dates.iter().map(|date| date.date).collect();
        assert_eq!(dates, expected, "{only:?}");
    }
    let real = BackfillRequest {
        dry_run: false,
        ..backfill(BackfillOnly::Needed)
    };
    let plan = node
        .service
        .backfill(&anyone(), real.clone(), None)
        .await
        .unwrap();
    assert_eq!(plan.run_ids.len(), 3);
    for (id, status) in plan.run_ids.iter().zip(&plan.dates) {
        let run = node.ended(*id).await;
        assert_eq!(run.summary.state, RunState::Succeeded, "{run:?}");
        assert_eq!(run.summary.from, Some(status.date));
    }
    // Nothing is left, and a date without input is no error.
    let plan = node
        .service
        .backfill(&anyone(), real.clone(), None)
        .await
        .unwrap();
    assert_eq!((plan.id, plan.run_ids.len()), (None, 0));
    let (from, to) = (day(1), day(5));
    let statuses = node.service.gaps("top", from, to).await.unwrap();
    let states: Vec<DateState> = statuses.iter().map(|status| status.state).collect();
    let published = DateState::Published;
    assert_eq!(
        states,
        [
            published,
            published,
            published,
            published,
            DateState::NoSource
        ]
    );
    // All of them again.
    let all = BackfillRequest {
        only: BackfillOnly::All,
        ..real
    };
    let plan = node.service.backfill(&anyone(), all, None).await.unwrap();
    for id in plan.run_ids {
        node.ended(id).await;
    }
    assert_eq!(lake.generation("top", day(1)), Some(2));
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply("top").await;
    let good = submission("top", "2026-01-01", "");
    let nothing = SubmitRun {
        job: None,
        ..good.clone()
    };
    let both = SubmitRun {
        spec: Some(Lake::spec("x")),
        ..good.clone()
    };
    let unknown = submission("pot", "2026-01-01", "");
    let backwards = submission("top", "2026-01-02", "2026-01-01");
    let ages = submission("top", "1990-01-01", "2026-01-01");
    let no_date = submission("top", "", "");
    let made = SubmitRun {
        job: None,
        generate: Some(7.into()),
        from: None,
        to: None,
        ..good.clone()
    };
    let made_for_a_date = SubmitRun {
        generate: Some("x".into()),
        from: Some("today".to_owned()),
        ..made.clone()
    };
    for (request, kind) in [
        (nothing, ErrorKind::Invalid),
        (both, ErrorKind::Invalid),
        (unknown, ErrorKind::NotFound),
        (backwards, ErrorKind::Invalid),
        (ages, ErrorKind::Invalid),
        (no_date, ErrorKind::Invalid),
        (made, ErrorKind::Invalid),
        (made_for_a_date, ErrorKind::Invalid),
    ] {
        let shown = format!("{request:?}");
        let refused = node.service.submit(&anyone(), request, None).await;
        assert_eq!(refused.unwrap_err().kind(), kind, "{shown}");
    }
    assert!(node.core.items().is_empty());
}

/// Who is held to a folder can neither use nor stop nor change what others may touch.
#[tokio::test]
async fn a_token_keeps_to_its_folders() {
    let lake = Lake::new([1]);
    let node = Node::idle(&lake, NodeOptions::default()).await.unwrap();
    node.apply("top").await;
    let others = node.submit("top", "2026-01-01", "").await;
    let own = format!("{}/team", lake.path());
    let team = Caller {
        name: Some("team".to_owned()),
        access: Some(std::sync::Arc::new(Access::new(&[own]).unwrap())),
    };
    let service = &node.service;
    let own = Lake::spec("own")
        .replace("{lake}/log/", "{lake}/team/log/")
        .replace("{lake}/out/", "{lake}/team/out/");
    let foreign = |part: &str| {
        own.replace(
            &format!("{{lake}}/team/{part}"),
            &format!("{{lake}}/{part}"),
        )
    };
    let applied = service.apply_job(&team, &own, Default::default()).await;
    assert_eq!(applied.unwrap().job.name, "own");
    let mut refused = Vec::new();
    // By the job, its runs, its name.
    refused.push(service.cancel(&team, others).await.err());
    refused.push(service.retry(&team, others, None).await.err());
    refused.push(service.set_paused(&team, "top", true).await.err());
    refused.push(service.delete_job(&team, "top").await.err());
    let request = submission("top", "2026-01-01", "");
    refused.push(service.submit(&team, request.clone(), None).await.err());
    let all = BackfillRequest {
        dry_run: false,
        ..backfill(BackfillOnly::All)
    };
    refused.push(service.backfill(&team, all, None).await.err());
    for spec in [
        own.replace("name: own", "name: top"),
        foreign("log/"),
        foreign("out/"),
    ] {
        let applied = service.apply_job(&team, &spec, Default::default()).await;
        refused.push(applied.err());
        if spec.contains("name: top") {
            continue;
        }
        let once = SubmitRun {
            job: None,
            spec: Some(spec),
            ..request.clone()
        };
        refused.push(service.submit(&team, once, None).await.err());
    }
    // By a placeholder of a job of its own.
    let set = own.replace("{lake}/team/log/", "{from}");
    let inside = [("from".to_owned(), format!("{}/team/log/", lake.path()))];
    service.apply_job(&team, &set, inside.into()).await.unwrap();
    let outside = SubmitRun {
        set: [("from".to_owned(), format!("{}/log/", lake.path()))].into(),
        ..submission("own", "2026-01-01", "")
    };
    refused.push(service.submit(&team, outside, None).await.err());
    // Under another's name.
    let once = SubmitRun {
        job: None,
        spec: Some(own.replace("name: own", "name: top")),
        ..request.clone()
    };
    refused.push(service.submit(&team, once, None).await.err());
    // All over the lake.
    let generated = SubmitRun {
        job: None,
        generate: Some("x".into()),
        from: None,
        to: None,
        ..request
    };
    let made = service.submit(&anyone(), generated.clone(), None).await;
    let made = made.unwrap().summary.id;
    refused.push(service.submit(&team, generated, None).await.err());
    refused.push(service.cancel(&team, made).await.err());
    service.cancel(&anyone(), made).await.unwrap();
    refused.push(service.retry(&team, made, None).await.err());
    for (i, error) in refused.into_iter().enumerate() {
        let kind = error.as_ref().map(crate::Error::kind);
        assert_eq!(kind, Some(ErrorKind::Forbidden), "{i}: {error:?}");
    }
    let still = service.run(others).await.unwrap();
    assert_eq!(still.summary.state, RunState::Queued);
    assert_eq!(node.core.items().len(), 1);
    // To others nothing is forbidden.
    service.cancel(&anyone(), others).await.unwrap();
}
