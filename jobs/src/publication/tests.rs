use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutMode};
use proptest::prelude::*;

use super::*;

const DATE: NaiveDate = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();

fn target() -> Target {
    Target::new(Arc::new(InMemory::new()), Path::from("rankings/daily"))
}

fn fingerprint(inputs: u64) -> Fingerprint {
    Fingerprint {
        spec_hash: "spec".to_owned(),
        engine_version: "1".to_owned(),
        inputs: vec![InputFile {
            key: "part-0.parquet".to_owned(),
            size: inputs,
            e_tag: Some("e".to_owned()),
        }],
    }
}

fn draft(inputs: u64, content: &str) -> Draft {
    let file = |name: &str| DraftFile {
        name: name.to_owned(),
        rows: 2,
        bytes: Bytes::from(format!("{name}: {content}")),
    };
    Draft {
        job: "daily".to_owned(),
        fingerprint: fingerprint(inputs),
        rows: 2,
        files: vec![file("part-0.parquet"), file("ranking.json")],
    }
}

async fn publish(target: &Target, date: NaiveDate, inputs: u64) -> Outcome {
    let publication = Publication::begin(target, date, RunId::new())
        .await
        .unwrap();
    let draft = draft(inputs, &inputs.to_string());
    publication.commit(draft, false).await.unwrap()
}

async fn served(target: &Target) -> String {
    let commit = read_current(target, DATE).await.unwrap().unwrap();
    let file = commit.file("ranking.json").unwrap();
    let bytes = read_file(target, &commit, file).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn publishes_once_and_serves_it() {
    let target = target();
    assert_eq!(read_current(&target, DATE).await.unwrap(), None);
    assert_eq!(read_latest(&target).await.unwrap(), None);
    let first = publish(&target, DATE, 1).await;
    assert_eq!(first, Outcome::Committed { generation: 1 });
    assert_eq!(served(&target).await, "ranking.json: 1");

    let objects = target.store.list(None).count().await;
    let again = publish(&target, DATE, 1).await;
    assert!(matches!(again, Outcome::AlreadyCurrent { by } if by.generation == 1));
    assert_eq!(target.store.list(None).count().await, objects);

    assert_eq!(
        publish(&target, DATE, 2).await,
        Outcome::Committed { generation: 2 }
    );
    let forced = Publication::begin(&target, DATE, RunId::new())
        .await
        .unwrap();
    assert!(forced.is_current(&fingerprint(2)));
    let forced = forced.commit(draft(2, "forced"), true).await.unwrap();
    assert_eq!(forced, Outcome::Committed { generation: 3 });
    assert_eq!(served(&target).await, "ranking.json: forced");

    let history = history(&target, DATE).await.unwrap();
    let generations: Vec<u64> = history.iter().map(|commit| commit.id.generation).collect();
    assert_eq!(generations, [3, 2, 1]);
    assert_eq!(list_dates(&target).await.unwrap(), [DATE]);
}

#[tokio::test]
async fn a_run_that_sleeps_is_fenced_and_cleans_up() {
    let target = target();
    let sleeper = Publication::begin(&target, DATE, RunId::new())
        .await
        .unwrap();
    publish(&target, DATE, 1).await;
    publish(&target, DATE, 2).await; // begun after the first commit: a higher epoch
    let objects = target.store.list(None).count().await;
    let outcome = sleeper.commit(draft(3, "late"), true).await.unwrap();
    assert!(matches!(outcome, Outcome::Fenced { by } if by.generation == 2));
    assert_eq!(served(&target).await, "ranking.json: 2");
    assert_eq!(target.store.list(None).count().await, objects);
}

#[tokio::test]
async fn a_rollback_serves_the_old_files_and_stays() {
    let target = target();
    for inputs in [1, 2, 3] {
        publish(&target, DATE, inputs).await;
    }
    let outcome = rollback(&target, DATE, 1, RunId::new()).await.unwrap();
    assert_eq!(outcome, Outcome::Committed { generation: 4 });
    assert_eq!(served(&target).await, "ranking.json: 1");
    let current = read_current(&target, DATE).await.unwrap().unwrap();
    assert_eq!(current.rolled_back_to, Some(1));
    assert_eq!(current.previous.unwrap().generation, 3);

    // The next scheduled run reads the same inputs: it must not undo the rollback.
    let scheduled = publish(&target, DATE, 3).await;
    assert!(matches!(scheduled, Outcome::AlreadyCurrent { .. }));
    // Nor after a second one, from which the first rejection is inherited.
    rollback(&target, DATE, 2, RunId::new()).await.unwrap();
    let scheduled = publish(&target, DATE, 3).await;
    assert!(matches!(scheduled, Outcome::AlreadyCurrent { .. }));
    // New inputs do.
    let newer = publish(&target, DATE, 4).await;
    assert_eq!(newer, Outcome::Committed { generation: 6 });
    let current = read_current(&target, DATE).await.unwrap().unwrap();
    assert!(current.rejected.is_empty());
}

#[tokio::test]
async fn a_rollback_to_what_cannot_be_served_is_refused() {
    let target = target();
    let nothing = rollback(&target, DATE, 1, RunId::new()).await;
    assert!(matches!(nothing, Err(Error::NotPublished { .. })));
    publish(&target, DATE, 1).await;
    publish(&target, DATE, 2).await;
    for generation in [0, 3, 99] {
        let none = rollback(&target, DATE, generation, RunId::new()).await;
        assert!(matches!(
            none,
            Err(Error::NoSuchGeneration { newest: 2, .. })
        ));
    }
    let same = rollback(&target, DATE, 2, RunId::new()).await.unwrap();
    assert!(matches!(same, Outcome::AlreadyCurrent { .. }));

    let old = history(&target, DATE).await.unwrap().pop().unwrap();
    let path = target.file_path(DATE, &old.files[1]).unwrap();
    target.store.put(&path, "flipped".into()).await.unwrap();
    let damaged = rollback(&target, DATE, 1, RunId::new()).await;
    assert!(matches!(damaged, Err(Error::Damaged { .. })));
    target.store.delete(&path).await.unwrap();
    let missing = rollback(&target, DATE, 1, RunId::new()).await;
    assert!(matches!(missing, Err(Error::Missing { .. })));
    assert_eq!(served(&target).await, "ranking.json: 2");
}

#[tokio::test]
async fn what_is_not_ours_is_never_overwritten() {
    let target = target();
    let path = target.current_path(DATE);
    for garbage in ["", "not json", r#"{"version": 1}"#, r#"{"version": 7}"#] {
        target.store.put(&path, garbage.into()).await.unwrap();
        let begun = Publication::begin(&target, DATE, RunId::new()).await;
        let error = begun.unwrap_err();
        assert!(error.to_string().contains(path.as_ref()), "{error}");
        assert!(!error.retryable());
    }

    // Also if it turns up between begin and commit, and even with force.
    target.store.delete(&path).await.unwrap();
    let publication = Publication::begin(&target, DATE, RunId::new())
        .await
        .unwrap();
    target.store.put(&path, "not json".into()).await.unwrap();
    let error = publication.commit(draft(1, "x"), true).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    let (bytes, _) = target.read(&path).await.unwrap().unwrap();
    assert_eq!(bytes, "not json");
}

#[tokio::test]
async fn a_run_id_is_good_for_one_run() {
    let target = target();
    let run_id = RunId::new();
    let publication = Publication::begin(&target, DATE, run_id).await.unwrap();
    publication.commit(draft(1, "x"), false).await.unwrap();
    let again = Publication::begin(&target, DATE, run_id).await;
    assert!(matches!(again, Err(Error::RunIdReused { .. })));
}

#[tokio::test]
async fn file_names_are_checked_before_anything_is_written() {
    let target = target();
    for names in [vec!["a/b"], vec![""], vec![".."], vec!["a", "a"]] {
        let mut draft = draft(1, "x");
        draft.files = names
            .into_iter()
            .map(|name| DraftFile {
                name: name.to_owned(),
                rows: 0,
                bytes: Bytes::new(),
            })
            .collect();
        let publication = Publication::begin(&target, DATE, RunId::new())
            .await
            .unwrap();
        assert!(publication.commit(draft, false).await.is_err());
    }
    assert_eq!(target.store.list(None).count().await, 0);
}

#[tokio::test]
async fn latest_never_moves_back_and_can_be_rebuilt() {
    let target = target();
    let newer = DATE.succ_opt().unwrap();
    publish(&target, newer, 1).await;
    publish(&target, DATE, 1).await; // a backfill
    let latest = read_latest(&target).await.unwrap();
    assert_eq!(latest.as_ref().unwrap().date, newer);
    publish(&target, newer, 2).await;
    assert_eq!(read_latest(&target).await.unwrap().unwrap().generation, 2);

    let path = target.latest_path();
    target.store.put(&path, "garbage".into()).await.unwrap();
    let corrupt = read_latest(&target).await;
    assert!(matches!(corrupt, Err(Error::Corrupt { .. })));
    // A date whose only run died before it committed is passed over.
    let orphan = target.data_folder(newer.succ_opt().unwrap(), RunId::new());
    let orphan = orphan.join("part-0.parquet");
    target.store.put(&orphan, "x".into()).await.unwrap();
    let rebuilt = rebuild_latest(&target).await.unwrap();
    assert_eq!(rebuilt, read_latest(&target).await.unwrap());
    assert_eq!(rebuilt.unwrap().date, newer);
}

#[tokio::test]
async fn every_commit_leaves_another_mark() {
    let target = target();
    let mut marks = vec![mark(&target).await.unwrap()];
    assert_eq!(marks, [None]);
    let newer = DATE.succ_opt().unwrap();
    for (date, version) in [(newer, 1), (DATE, 1), (newer, 2), (newer, 3), (DATE, 2)] {
        publish(&target, date, version).await;
        let left = mark(&target).await.unwrap();
        assert!(!marks.contains(&left), "{left:?}");
        publish(&target, date, version).await; // already current
        assert_eq!(mark(&target).await.unwrap(), left);
        marks.push(left);
    }
    rollback(&target, newer, 1, RunId::new()).await.unwrap();
    assert!(!marks.contains(&mark(&target).await.unwrap()));
}

#[tokio::test]
async fn the_probe_accepts_a_store_that_honours_conditions_and_leaves_nothing() {
    let target = target();
    probe(&target).await.unwrap();
    assert_eq!(target.store.list(None).count().await, 0);
}

/// A store that takes every write, as some that speak S3 do.
mod careless {
    use std::fmt;

    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
        PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    };

    use super::*;

    /// Which condition it ignores.
    #[derive(Debug)]
    pub(super) struct Careless(pub(super) InMemory, pub(super) fn(&PutMode) -> bool);

    impl fmt::Display for Careless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Careless")
        }
    }

    #[async_trait]
    impl ObjectStore for Careless {
        async fn put_opts(
            &self,
            location: &Path,
            payload: PutPayload,
            mut options: PutOptions,
        ) -> Result<PutResult> {
            if (self.1)(&options.mode) {
                options.mode = PutMode::Overwrite;
            }
            self.0.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(location, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.0.get_opts(location, options).await
        }

        fn delete_stream(
            &self,
            locations: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.0.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_ignores_conditions() {
    let ignores: [fn(&PutMode) -> bool; 2] = [
        |mode| *mode == PutMode::Create,
        |mode| matches!(mode, PutMode::Update(_)),
    ];
    for ignores in ignores {
        let store = careless::Careless(InMemory::new(), ignores);
        let target = Target::new(Arc::new(store), Path::from("out"));
        let error = probe(&target).await.unwrap_err();
        assert!(matches!(error, Error::ConditionalPutIgnored { .. }));
        assert!(error.to_string().starts_with("Careless ignores"), "{error}");
        assert_eq!(target.store.list(None).count().await, 0);
    }
}

proptest! {
    #[test]
    fn any_bytes_in_the_commit_point_are_an_error_not_a_panic(bytes: Vec<u8>) {
        prop_assert!(Commit::parse(&bytes, &Path::from("current.json"), DATE).is_err());
    }
}

/// The protocol on real files, under real concurrency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_runs_on_a_local_folder_end_in_one_chain() {
    let root = tempfile::TempDir::new().unwrap();
    let store = rankmill_engine::store::LocalStore::with_root(root.path()).unwrap();
    let target = Target::new(Arc::new(store), Path::from("out"));
    probe(&target).await.unwrap();
    let runs: Vec<_> = (0..8)
        .map(|inputs| {
            let target = target.clone();
            tokio::spawn(async move { publish(&target, DATE, inputs).await })
        })
        .collect();
    let mut committed = Vec::new();
    for run in runs {
        match run.await.unwrap() {
            Outcome::Committed { generation } => committed.push(generation),
            Outcome::Fenced { by } => assert!(by.generation > 0),
            other => panic!("no two runs read the same: {other:?}"),
        }
    }
    committed.sort_unstable_by(|a, b| b.cmp(a));
    let history = history(&target, DATE).await.unwrap();
    let generations: Vec<u64> = history.iter().map(|commit| commit.id.generation).collect();
    assert_eq!(generations, committed);
    for commit in &history {
        for file in &commit.files {
            read_file(&target, commit, file).await.unwrap();
        }
    }
}
