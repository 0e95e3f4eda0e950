//! Lists of runs: pages, filters, and ten thousand of them.

use std::sync::Arc;
use std::time::Instant;

use rankmill_engine::store::LocalStore;

use crate::error::ErrorKind;
use crate::model::{Run, RunId, RunState};
use crate::records::{Folder, Indexed, Layout, SEGMENT_RUNS, write_segment};
use crate::service::{RunFilter, RunPage};
use crate::testing::{Flaky, Lake, Node, NodeOptions};

/// So many runs have been recorded.
const RUNS: usize = 10_000;

/// A lake with many runs of twenty jobs, of which a few have failed, as housekeeping leaves it.
async fn full() -> (Lake, Vec<RunId>) {
    let lake = Lake::new([]);
    let failed = |number| number % 1_000 == 7;
    let of = |number, state| Lake::run_of(&format!("job-{}", number % 20), state);
    let runs: Vec<Run> = (0..RUNS)
        .map(|number| match failed(number) {
            true => of(number, RunState::Failed),
            false => of(number, RunState::Succeeded),
        })
        .collect();
    runs.iter().for_each(|run| lake.write_run(run));
    let place = rankmill_engine::Location::parse(&lake.path()).unwrap();
    let folder = Folder::new(Arc::new(LocalStore::new()), crate::core::RECORD_RETRY);
    let layout = Layout::new(place.path());
    // The last are in no segment yet.
    for some in runs[..RUNS - 150].chunks(SEGMENT_RUNS) {
        let month = some[0].id.month();
        let some = some.iter().map(Indexed::from).collect();
        write_segment(&folder, &layout, &month, some).await.unwrap();
    }
    let mut ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    ids.reverse();
    (lake, ids)
}

fn ids(page: &RunPage) -> Vec<RunId> {
    page.runs.iter().map(|run| run.id).collect()
}

#[tokio::test]
async fn a_list_of_many_runs_reads_nothing() {
    let (lake, all) = full().await;
    let store = Flaky::on_disk();
    let options = NodeOptions::over(&store, 1);
    let begun = Instant::now();
    let node = Node::idle(&lake, options).await.unwrap();
    let started = begun.elapsed();
    let requests = || {
        let mut faults = store.faults.lock().unwrap();
        (
            std::mem::take(&mut faults.reads),
            std::mem::take(&mut faults.lists),
        )
    };
    // Jobs, segments, the runs of a month or two, and what is in no segment.
    let (reads, lists) = requests();
    assert_eq!(reads, RUNS.div_ceil(SEGMENT_RUNS) + 150);
    assert!(lists <= 4, "{lists}");

    let list = |filter: RunFilter| {
        let service = node.service.clone();
        async move { service.runs(&filter).await.unwrap() }
    };
    let begun = Instant::now();
    let page = list(RunFilter::default()).await;
    let first = begun.elapsed();
    assert_eq!(ids(&page), all[..50]);

    let begun = Instant::now();
    let failed = RunFilter {
        states: vec![RunState::Failed],
        page_size: 1_000,
        ..RunFilter::default()
    };
    let page = list(failed).await;
    let rare = begun.elapsed();
    assert_eq!(page.runs.len(), RUNS / 1_000);
    assert_eq!(page.next_page_token, None);

    let of_job = RunFilter {
        job: Some("job-7".to_owned()),
        page_size: 3,
        ..RunFilter::default()
    };
    let page = list(of_job.clone()).await;
    assert!(
        page.runs
            .iter()
            .all(|run| run.job.as_deref() == Some("job-7"))
    );
    let next = RunFilter {
        page_token: page.next_page_token.clone(),
        ..of_job
    };
    let next = list(next).await;
    assert!(next.runs[0].id < page.runs[2].id);

    let begun = Instant::now();
    let mut found = Vec::new();
    let mut filter = RunFilter {
        page_size: 1_000,
        ..RunFilter::default()
    };
    loop {
        let page = list(filter.clone()).await;
        found.extend(ids(&page));
        match page.next_page_token {
            None => break,
            token => filter.page_token = token,
        }
    }
    let whole = begun.elapsed();
    assert_eq!(found, all);
    assert_eq!(requests(), (0, 0));

    node.core.with_index(|index| {
        assert_eq!(index.count(RunState::Failed), RUNS as u64 / 1_000);
        assert_eq!(
            index.count(RunState::Succeeded),
            (RUNS - RUNS / 1_000) as u64
        );
        assert_eq!(index.count(RunState::Running), 0);
    });
    let none = list(RunFilter {
        job: Some("nobody's".to_owned()),
        ..RunFilter::default()
    });
    assert_eq!(none.await.runs.len(), 0);
    let wrong = RunFilter {
        page_token: Some("../../x".to_owned()),
        ..RunFilter::default()
    };
    let refused = node.service.runs(&wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    // For people who run this with --nocapture.
    eprintln!(
        "{RUNS} runs: start {started:.1?}, first page {first:.1?}, \
         rare state {rare:.1?}, all pages {whole:.1?}"
    );
}
