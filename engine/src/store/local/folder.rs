//! The folder of an object: its lock, and making its entries durable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use object_store::{Error, Result};

use super::io_failure;

/// One lock file a folder, hidden from listings and never deleted.
pub(super) const LOCK_NAME: &str = ".rankmill.lock";

/// How long to wait for a lock. Holders keep it for a sync and a rename, so a longer wait means a
/// stopped process or a hung disk: better an error that can be retried than a writer that hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// The exclusive right to change entries of a folder, among threads and processes.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

impl FolderLock {
    pub(super) fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_NAME);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|source| io_failure("open", &path, source))?;
            wait(&file, deadline).map_err(|source| io_failure("lock", &path, source))?;
            // Somebody may have removed the folder meanwhile: a lock on a file without a name
            // excludes nobody.
            if is_file_at(&file, &path) {
                return Ok(Self { file });
            }
        }
    }

    /// The latest modification time given to an object of this folder. The lock file itself
    /// carries it, so that it outlives the object.
    pub(super) fn latest_stamp(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|meta| meta.modified()).ok()
    }

    /// Remembers `stamp` for [`Self::latest_stamp`].
    pub(super) fn remember(&self, stamp: SystemTime) -> io::Result<()> {
        self.file.set_modified(stamp)
    }
}

fn wait(file: &File, deadline: Instant) -> io::Result<()> {
    let mut nap = Duration::from_micros(100);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(source),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(TryLockError::WouldBlock) => {
                thread::sleep(nap);
                nap = (nap * 2).min(LONGEST_NAP);
            }
        }
    }
}

#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_file_at(_file: &File, path: &Path) -> bool {
    path.exists() // an open file cannot be removed there
}

/// The folder that holds `path`.
pub(super) fn of(path: &Path) -> Result<&Path> {
    path.parent().ok_or_else(|| Error::Generic {
        store: "LocalStore",
        source: format!("{} has no parent folder", path.display()).into(),
    })
}

/// Creates `folder` and what is missing above it, durably.
pub(super) fn ensure(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    fs::create_dir_all(folder).map_err(|source| io_failure("create folder", folder, source))?;
    for parent in missing.iter().rev().filter_map(|made| made.parent()) {
        sync(parent)?;
    }
    Ok(())
}

/// Makes renames and removals in `folder` survive a power cut.
pub(super) fn sync(folder: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(()); // a folder cannot be opened there
    }
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| io_failure("sync folder", folder, source))
}
