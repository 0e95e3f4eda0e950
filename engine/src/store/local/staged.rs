//! A file written beside the object that it will become, then renamed over it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path as FsPath, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path;
use object_store::{Error, PutMode, PutResult, Result};

use super::folder::{self, FolderLock};
use super::io_failure;

/// How far a stamp is moved on until the file system tells it from the one before. An ETag holds
/// microseconds; some file systems keep milliseconds, whole seconds, or (FAT) every second one.
const STAMP_STEPS: [Duration; 4] = [
    Duration::from_micros(1),
    Duration::from_millis(10),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A staging file: removed when dropped before it lands.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    path: PathBuf,
    destination: PathBuf,
    landed: bool,
}

impl Staged {
    /// Opens a new file named `{destination}#{digits}`, a name that `LocalFileSystem` also hides,
    /// and creates the folder if need be.
    pub(super) fn beside(destination: &FsPath) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        folder::ensure(folder::of(destination)?)?;
        loop {
            let mut name = destination.as_os_str().to_owned();
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            name.push(format!("#{}{number:06}", process::id()));
            let path = PathBuf::from(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        destination: destination.to_path_buf(),
                        landed: false,
                    });
                }
                // Left by a killed process that had the same id.
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(io_failure("create", &path, source)),
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|source| io_failure("write", &self.destination, source))
    }

    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map_err(|source| io_failure("write", &self.destination, source))?;
        self.write(bytes)
    }

    pub(super) fn copy_from(&mut self, source: &mut File) -> Result<()> {
        let copied = io::copy(source, &mut self.file);
        copied
            .map(drop)
            .map_err(|source| io_failure("write", &self.destination, source))
    }

    /// Becomes the object at `location` if `mode` allows it, durably, or leaves no trace.
    pub(super) fn land(mut self, location: &Path, mode: &PutMode) -> Result<PutResult> {
        let destination = self.destination.clone();
        let failed = |action| {
            let destination = destination.clone();
            move |source| io_failure(action, &destination, source)
        };
        let folder = folder::of(&destination)?;
        // The bulk goes to disk before the lock is taken.
        self.file.sync_data().map_err(failed("sync"))?;

        let lock = FolderLock::acquire(folder)?;
        let existing = match fs::metadata(&destination) {
            Ok(meta) => Some(meta),
            Err(source) if source.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(failed("look at")(source)),
        };
        check(location, mode, existing.as_ref())?;

        let replaced = existing.as_ref().and_then(|meta| meta.modified().ok());
        let stamped = self.stamp_after(lock.latest_stamp().max(replaced));
        let (meta, stamp) = stamped.map_err(failed("stamp"))?;
        self.file.sync_all().map_err(failed("sync"))?;
        // Before the rename: a crash between the two must not forget a stamp in use.
        lock.remember(stamp).map_err(failed("lock"))?;
        fs::rename(&self.path, &destination).map_err(failed("replace"))?;
        self.landed = true;
        folder::sync(folder)?;
        Ok(PutResult {
            e_tag: Some(e_tag(&meta)),
            version: None,
        })
    }

    /// Gives the file a modification time after `latest`, as the file system will report it.
    fn stamp_after(&self, latest: Option<SystemTime>) -> io::Result<(Metadata, SystemTime)> {
        let mut stamp = SystemTime::now();
        let floor = latest.map_or(0, micros);
        for step in STAMP_STEPS {
            if let Some(latest) = latest {
                stamp = stamp.max(latest + step);
            }
            self.file.set_modified(stamp)?;
            let meta = self.file.metadata()?;
            let kept = meta.modified()?;
            if micros(kept) > floor {
                return Ok((meta, kept));
            }
        }
        Err(io::Error::other("the file system does not keep file times"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.landed {
            // A leftover is hidden and harmless.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check(location: &Path, mode: &PutMode, existing: Option<&Metadata>) -> Result<()> {
    match (mode, existing) {
        (PutMode::Overwrite, _) | (PutMode::Create, None) => Ok(()),
        (PutMode::Create, Some(_)) => Err(Error::AlreadyExists {
            path: location.to_string(),
            source: "another writer created it".into(),
        }),
        (PutMode::Update(_), None) => Err(precondition(location, "it does not exist")),
        (PutMode::Update(expected), Some(meta)) => match &expected.e_tag {
            None => Err(precondition(location, "the update names no ETag")),
            Some(expected) if *expected == e_tag(meta) => Ok(()),
            Some(_) => Err(precondition(location, "it has changed since it was read")),
        },
    }
}

pub(super) fn precondition(location: &Path, reason: &'static str) -> Error {
    Error::Precondition {
        path: location.to_string(),
        source: reason.into(),
    }
}

/// The same ETag as `LocalFileSystem` gives (a test holds us to it), so that its `get`, `head` and
/// `list` can be used as they are.
fn e_tag(meta: &Metadata) -> String {
    let stamp = meta.modified().map_or(0, micros);
    format!("{:x}-{stamp:x}-{:x}", inode(meta), meta.len())
}

fn micros(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros()
}

#[cfg(unix)]
fn inode(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_meta: &Metadata) -> u64 {
    0
}
