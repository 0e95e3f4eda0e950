use std::collections::HashSet;
use std::env;
use std::io::Write;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use object_store::{ObjectStoreExt, UpdateVersion};
use tempfile::TempDir;

use super::*;

const CHILD_ROOT: &str = "RANKMILL_TEST_LOCAL_STORE_ROOT";
const CHILD_ADDS: &str = "RANKMILL_TEST_LOCAL_STORE_ADDS";

fn update(e_tag: Option<String>) -> PutMode {
    PutMode::Update(UpdateVersion {
        e_tag,
        version: None,
    })
}

fn counter() -> Path {
    Path::from("date=2026-01-01/current.json")
}

async fn text(store: &LocalStore, location: &Path) -> String {
    let bytes = store.get(location).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Adds one by compare-and-swap until it has succeeded `adds` times. Each success is noted in
/// `journal` afterwards, so a killed process may have added one more than it noted.
async fn add(store: &LocalStore, adds: u64, mut journal: impl Write) {
    let mut done = 0;
    while done < adds {
        let read = store.get(&counter()).await.unwrap();
        let e_tag = read.meta.e_tag.clone();
        let value: u64 = String::from_utf8(read.bytes().await.unwrap().to_vec())
            .unwrap()
            .parse()
            .unwrap();
        // Padded, so that the size never tells two versions apart.
        let next = format!("{:08}", value + 1);
        match store
            .put_opts(&counter(), next.into(), update(e_tag).into())
            .await
        {
            Ok(_) => {
                done += 1;
                journal.write_all(b"+").unwrap();
            }
            Err(Error::Precondition { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_lose_no_update() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    store.put(&counter(), "00000000".into()).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { add(&store, 50, io::sink()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(text(&store, &counter()).await, "00000200");
}

/// The body of the child processes below; does nothing in an ordinary run.
#[tokio::test]
async fn child_process_adds() {
    let (Ok(root), Ok(adds)) = (env::var(CHILD_ROOT), env::var(CHILD_ADDS)) else {
        return;
    };
    let journal = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(FsPath::new(&root).join(format!("journal-{}", std::process::id())))
        .unwrap();
    let store = LocalStore::with_root(&root).unwrap();
    add(&store, adds.parse().unwrap(), journal).await;
}

fn spawn_child(root: &FsPath, adds: u64) -> Child {
    // The name of the test in this binary: the path of the module without the crate.
    let module = module_path!().split_once("::").unwrap().1;
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::child_process_adds")])
        .env(CHILD_ROOT, root)
        .env(CHILD_ADDS, adds.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_lose_no_update_even_when_some_are_killed() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    store.put(&counter(), "00000000".into()).await.unwrap();

    let mut steady = [spawn_child(root.path(), 100), spawn_child(root.path(), 100)];
    let kills = 3;
    for _ in 0..kills {
        let mut doomed = spawn_child(root.path(), u64::MAX);
        thread::sleep(Duration::from_millis(150));
        doomed.kill().unwrap(); // SIGKILL: the lock must go with the process
        doomed.wait().unwrap();
    }
    for child in &mut steady {
        assert!(child.wait().unwrap().success());
    }

    let noted: u64 = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("journal"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    let counted: u64 = text(&store, &counter()).await.parse().unwrap();
    assert!(noted > 200, "the killed processes added nothing: {noted}");
    assert!(
        (noted..=noted + kills).contains(&counted),
        "{noted} successes were noted, the counter says {counted}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creators_wins() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    for round in 0..20 {
        let location = Path::from(format!("round-{round}/object"));
        let tasks: Vec<_> = (0..4)
            .map(|writer| {
                let (store, location) = (store.clone(), location.clone());
                let body = writer.to_string();
                tokio::spawn(async move {
                    let put = store.put_opts(&location, body.into(), PutMode::Create.into());
                    put.await.map(|_| writer)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(writer) => winners.push(writer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(text(&store, &location).await, winners[0].to_string());
    }
}

#[tokio::test]
async fn stale_or_missing_etags_are_refused() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    let location = counter();
    let refused = async |mode: PutMode| {
        let put = store.put_opts(&location, "x".into(), mode.into()).await;
        assert!(matches!(put, Err(Error::Precondition { .. })), "{put:?}");
    };
    refused(update(Some("none".to_owned()))).await;
    assert!(!root.path().join("date=2026-01-01").exists());

    let first = store.put(&location, "a".into()).await.unwrap().e_tag;
    let second = store
        .put_opts(&location, "b".into(), update(first.clone()).into())
        .await
        .unwrap()
        .e_tag;
    refused(update(first)).await;
    refused(update(None)).await;
    assert_eq!(text(&store, &location).await, "b");

    store.delete(&location).await.unwrap();
    refused(update(second)).await;
    let gone = store.delete(&location).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

/// Same size, recycled inodes, a file time faster than any clock: no ETag comes back, not even
/// over a delete or when the clock is set back (a stamp in the future comes to the same): each
/// version is stamped later than all before it.
#[tokio::test]
async fn etags_are_unique_and_the_same_everywhere() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    let location = counter();
    let mut seen = HashSet::new();
    let mut latest = None;
    for round in 0..200 {
        if round == 100 {
            let file = File::options()
                .write(true)
                .open(root.path().join(location.as_ref()))
                .unwrap();
            let ahead = std::time::SystemTime::now() + Duration::from_secs(3600);
            file.set_modified(ahead).unwrap();
            latest = Some(ahead.into());
        }
        if round % 10 == 9 {
            store.delete(&location).await.unwrap();
        }
        let put = store.put(&location, "same".into()).await.unwrap().e_tag;
        assert!(seen.insert(put.clone()), "{put:?} came back");
        let head = store.head(&location).await.unwrap();
        assert!(latest < Some(head.last_modified), "round {round}");
        latest = Some(head.last_modified);
        let get = store.get(&location).await.unwrap().meta.e_tag;
        let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!([&head.e_tag, &get, &listed[0].e_tag], [&put, &put, &put]);
    }
}

#[tokio::test]
async fn copies_and_uploads_get_their_own_etag() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    let (a, b) = (Path::from("a"), Path::from("deep/er/b"));
    let mut upload = store.put_multipart(&a).await.unwrap();
    let parts = [
        upload.put_part("one ".into()),
        upload.put_part("two".into()),
    ];
    let [first, second] = parts;
    second.await.unwrap(); // parts may land in any order
    first.await.unwrap();
    let put = upload.complete().await.unwrap();
    assert_eq!(text(&store, &a).await, "one two");
    assert_eq!(put.e_tag, store.head(&a).await.unwrap().e_tag);
    assert!(upload.complete().await.is_err());

    store.copy(&a, &b).await.unwrap();
    assert_eq!(text(&store, &b).await, "one two");
    assert_ne!(put.e_tag, store.head(&b).await.unwrap().e_tag);
    let again = store.copy_if_not_exists(&a, &b).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    let missing = store.copy(&Path::from("missing"), &b).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    store.rename(&a, &b).await.unwrap();
    assert!(store.head(&a).await.is_err());

    let mut aborted = store.put_multipart(&a).await.unwrap();
    aborted.put_part("x".into()).await.unwrap();
    aborted.abort().await.unwrap();
    assert!(store.head(&a).await.is_err());
    assert_eq!(staging_files(root.path()), 0);
}

fn staging_files(folder: &FsPath) -> usize {
    let names = fs::read_dir(folder).unwrap();
    names
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains('#')
        })
        .count()
}

#[tokio::test]
async fn listings_hide_lock_and_staging_files() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    store.put(&counter(), "0".into()).await.unwrap();
    let folder = root.path().join("date=2026-01-01");
    // What a writer leaves that is killed before it lands.
    let mut leftover = Staged::beside(&folder.join("current.json")).unwrap();
    leftover.write(b"half").unwrap();
    std::mem::forget(leftover);
    assert!(folder.join(LOCK_NAME).exists());
    assert_eq!(staging_files(&folder), 1);

    let names = |metas: Vec<ObjectMeta>| -> Vec<Path> {
        metas.into_iter().map(|meta| meta.location).collect()
    };
    let all = store.list(None).try_collect().await.unwrap();
    assert_eq!(names(all), [counter()]);
    let from = store
        .list_with_offset(None, &Path::from("a"))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(names(from), [counter()]);
    let level = store
        .list_with_delimiter(Some(&Path::from("date=2026-01-01")))
        .await
        .unwrap();
    assert_eq!(names(level.objects), [counter()]);

    let lock = Path::from(format!("date=2026-01-01/{LOCK_NAME}"));
    assert!(store.get(&lock).await.is_err());
    assert!(store.put(&lock, "x".into()).await.is_err());
    assert!(store.delete(&lock).await.is_err());
}

#[test]
fn works_without_a_runtime() {
    let root = TempDir::new().unwrap();
    let store = LocalStore::with_root(root.path().join("made/on/the/way")).unwrap();
    futures::executor::block_on(async {
        store.put(&counter(), "1".into()).await.unwrap();
        assert_eq!(text(&store, &counter()).await, "1");
    });
}

#[tokio::test]
async fn errors_name_the_path_and_keep_the_cause() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("file"), "not a folder").unwrap();
    let store = LocalStore::with_root(root.path()).unwrap();
    let under_a_file = store.put(&Path::from("file/x"), "x".into()).await;
    let message = under_a_file.unwrap_err().to_string();
    assert!(message.contains("file"), "{message}");

    let path = FsPath::new("/lake/current.json");
    let full = io_failure("write", path, io::ErrorKind::StorageFull.into());
    assert!(
        full.to_string()
            .contains("/lake/current.json: the disk is full")
    );
    let denied = io_failure("write", path, io::ErrorKind::PermissionDenied.into());
    assert!(matches!(denied, Error::PermissionDenied { .. }));
    let cause = std::error::Error::source(&denied).unwrap().source();
    assert!(cause.unwrap().is::<io::Error>());
}
