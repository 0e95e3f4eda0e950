//! The folder of one start of an executor, and the removal of those of dead ones.
//!
//! `{work_dir}/executor-{id}/` holds `lock`, `shuffle/` and `spill/`. The lock is an advisory one
//! that the kernel drops when the process ends, however it ends; a folder of this shape whose
//! lock can be had belongs to a dead executor. Nothing else below `work_dir` is ever touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{Error, Result};

const PREFIX: &str = "executor-";
/// A folder that is being made bears this until its lock is held, so that nobody sweeps it.
const NEW_PREFIX: &str = ".new-executor-";
const LOCK: &str = "lock";

/// The folder of this start; removed when dropped.
#[derive(Debug)]
pub(crate) struct WorkDir {
    folder: PathBuf,
    id: String,
    _lock: File,
}

impl WorkDir {
    /// Removes the folders of dead executors and makes a new one, with a fresh id.
    pub(crate) fn open(parent: &Path) -> Result<Self> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::WorkDir { path, source }
        };
        let parent = std::path::absolute(parent).map_err(failed(parent))?;
        fs::create_dir_all(&parent).map_err(failed(&parent))?;
        sweep(&parent).map_err(failed(&parent))?;
        let id = Uuid::now_v7().to_string();
        let (new, folder) = (
            parent.join(format!("{NEW_PREFIX}{id}")),
            parent.join(format!("{PREFIX}{id}")),
        );
        let lock = make(&new).map_err(failed(&new))?;
        fs::rename(&new, &folder).map_err(failed(&folder))?;
        Ok(Self {
            folder,
            id,
            _lock: lock,
        })
    }

    /// The id of this executor.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where Ballista keeps shuffle files: a folder for each job.
    pub(crate) fn shuffle(&self) -> PathBuf {
        self.folder.join("shuffle")
    }

    /// Where operators put what doesn't fit in memory.
    pub(crate) fn spill(&self) -> PathBuf {
        self.folder.join("spill")
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Tasks may still be writing; what remains is swept by the next start.
        if let Err(e) = remove(&self.folder) {
            tracing::debug!(folder = %self.folder.display(), error = %e, "left for the next sweep");
        }
    }
}

fn make(folder: &Path) -> io::Result<File> {
    fs::create_dir(folder)?;
    let lock = File::create(folder.join(LOCK))?;
    lock.try_lock()?;
    fs::create_dir(folder.join("shuffle"))?;
    fs::create_dir(folder.join("spill"))?;
    Ok(lock)
}

/// Removes the folders of dead executors below `parent`.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let folder = entry?.path();
        if !is_ours(&folder) {
            continue;
        }
        match sweep_one(&folder) {
            Ok(true) => {
                tracing::info!(folder = %folder.display(), "removed a dead executor's files")
            }
            Ok(false) => {}
            // Another executor may be sweeping too.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                tracing::warn!(folder = %folder.display(), error = %e, "cannot remove a dead executor's files");
            }
        }
    }
    Ok(())
}

/// Whether this is a folder that an executor made, by its name, kind and lock file.
fn is_ours(folder: &Path) -> bool {
    let named = folder
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix(PREFIX))
        .is_some_and(|id| Uuid::parse_str(id).is_ok());
    let is = |path: &Path, kind: fn(&fs::FileType) -> bool| {
        path.symlink_metadata()
            .is_ok_and(|metadata| kind(&metadata.file_type()))
    };
    named && is(folder, fs::FileType::is_dir) && is(&folder.join(LOCK), fs::FileType::is_file)
}

fn sweep_one(folder: &Path) -> io::Result<bool> {
    let lock = File::open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => remove(folder).map(|()| true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Removes a folder, its lock file last: if this is interrupted, the rest is still recognised.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(folder.join(LOCK))?;
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn dead_executors_are_swept_and_living_ones_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = WorkDir::open(parent.path()).unwrap();
        let dead = parent.path().join(format!("{PREFIX}{}", Uuid::now_v7()));
        fs::create_dir_all(dead.join("shuffle/job/1")).unwrap();
        fs::write(dead.join("shuffle/job/1/data.arrow"), b"rows").unwrap();
        fs::write(dead.join(LOCK), b"").unwrap();
        let next = WorkDir::open(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.shuffle().is_dir() && next.spill().is_dir());
        assert_ne!(living.id(), next.id());
        drop((living, next));
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let parent = tempfile::tempdir().unwrap();
        let id = Uuid::now_v7();
        fs::create_dir_all(parent.path().join("executor-notes")).unwrap();
        fs::write(parent.path().join("executor-notes").join(LOCK), b"").unwrap();
        // No lock file: nothing says that an executor made it.
        fs::create_dir_all(parent.path().join(format!("{PREFIX}{id}/data"))).unwrap();
        fs::write(parent.path().join("file"), b"").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), b"").unwrap();
        fs::write(elsewhere.path().join("precious"), b"").unwrap();
        let link = parent.path().join(format!("{PREFIX}{}", Uuid::now_v7()));
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        let before = names(parent.path());
        drop(WorkDir::open(parent.path()).unwrap());
        assert_eq!(names(parent.path()), before);
        assert_eq!(names(elsewhere.path()), ["lock", "precious"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = WorkDir::open(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("file/below"), "{error}");
    }
}
