//! A folder of the local file system is a lake like any other.

use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use rankmill_datagen::{Error, Plan, Report, generate};

use crate::lake::{Lake, Quiet, small};

fn generate_into(folder: &std::path::Path) -> Result<Report, Error> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap());
    let plan = Plan::new(&small())?;
    let prefix = Path::from("a/lake");
    generate(&plan, store, &prefix, 2, runtime.handle(), false, &Quiet)
}

#[test]
fn a_folder_holds_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    generate_into(folder.path()).unwrap();
    for (path, bytes) in Lake::of(&small(), 2).objects() {
        let found = std::fs::read(folder.path().join(&path)).unwrap();
        assert!(found == bytes, "{path}");
    }
}

#[test]
fn a_failed_write_leaves_no_truth() {
    let folder = tempfile::tempdir().unwrap();
    let dates = folder.path().join("a/lake/stage/web_logs");
    std::fs::create_dir_all(&dates).unwrap();
    // A device where the second date's folder belongs: no object, so nothing is found to be in the way.
    let blocked = folder.path().join("a/lake/stage/web_logs/date=2026-06-02");
    std::os::unix::fs::symlink("/dev/null", &blocked).unwrap();
    match generate_into(folder.path()) {
        Err(Error::Store { action, path, .. }) => {
            assert_eq!(action, "write");
            assert!(path.contains("web_logs/date=2026-06-02/"), "{path}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert!(!folder.path().join("a/lake/truth.json").exists());
    // What was written is not in the way of the next try, which gets through once nothing else is.
    let error = generate_into(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    std::fs::remove_file(&blocked).unwrap();
    assert!(!generate_into(folder.path()).unwrap().already_there);
}
