//! [`LocalStore`]: a folder as an object store that honours conditional writes.

mod folder;
mod read;
mod staged;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{FutureExt, ready};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

use self::folder::{FolderLock, LOCK_NAME};
use self::read::Buffers;
use self::staged::Staged;

/// A folder as an object store, with `PutMode::Update` and durable writes.
///
/// It reads like [`LocalFileSystem`] (same layout, same ETags) and adds what a commit point needs:
///
/// - **Compare-and-swap.** A write, copy or delete happens under an exclusive advisory lock on
///   `.rankmill.lock` in the object's folder. The kernel drops the lock when its holder dies, also
///   by `kill -9`, so two processes are as safe from each other as with S3's conditional PUT.
/// - **ETags that never come back.** `LocalFileSystem` makes an ETag of inode, modification time
///   and size. Inodes are recycled, clocks are set back, and the kernel stamps files with its last
///   tick, milliseconds ago: the third version of an object may look like the first. Here each
///   version is stamped later than every earlier one in its folder, so the same cheap ETag is
///   unique, for big data files too, and `head`, `get`, `list` and `put` agree on it.
/// - **Durability.** A write is staged, synced, renamed, and its folder synced, before it is
///   answered. A write whose future is dropped may still take effect, like a request in flight.
///
/// Lock files, and staging files that a killed writer left, are hidden from listings.
///
/// All writers of a folder must go through `LocalStore`. On NFS the lock is only as good as the
/// mount: Linux maps `flock` to a server lock, but not with `nolock` or `local_lock=flock`, where
/// it holds within one machine only.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: LocalFileSystem,
    buffers: Arc<Buffers>,
}

impl LocalStore {
    /// The whole file system: locations are absolute paths, as in `file:///` URLs.
    pub fn new() -> Self {
        Self {
            inner: LocalFileSystem::new(),
            buffers: Arc::default(),
        }
    }

    /// Locations are relative to `root`, which is created if it is missing.
    ///
    /// # Errors
    /// If `root` cannot be created or resolved; the error names it.
    pub fn with_root(root: impl AsRef<FsPath>) -> Result<Self> {
        folder::ensure(root.as_ref())?;
        Ok(Self {
            inner: LocalFileSystem::new_with_prefix(root)?,
            buffers: Arc::default(),
        })
    }

    fn file_path(&self, location: &Path) -> Result<PathBuf> {
        if is_hidden(location) {
            return Err(not_found(location));
        }
        self.inner.path_to_filesystem(location)
    }
}

impl Default for LocalStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStore over {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if !options.attributes.is_empty() {
            return Err(no_attributes("put_opts"));
        }
        let path = self.file_path(location)?;
        let location = location.clone();
        blocking(move || {
            if matches!(options.mode, PutMode::Update(_)) && !path.exists() {
                // Before staging, which would create the folder.
                return Err(staged::precondition(&location, "it does not exist"));
            }
            let mut staged = Staged::beside(&path)?;
            for part in &payload {
                staged.write(part)?;
            }
            staged.land(&location, &options.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(no_attributes("put_multipart_opts"));
        }
        let path = self.file_path(location)?;
        let staged = blocking(move || Staged::beside(&path)).await?;
        Ok(Box::new(Upload {
            location: location.clone(),
            staged: Arc::new(Mutex::new(Some(staged))),
            next_offset: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if is_hidden(location) {
            return Err(not_found(location));
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = self.file_path(location)?;
        let (location, ranges) = (location.clone(), ranges.to_vec());
        let buffers = Arc::clone(&self.buffers);
        blocking(move || {
            let failed = |source| failure("read", &path, &location, source);
            let file = File::open(&path).map_err(failed)?;
            let read = ranges.iter().map(|range| buffers.read(&file, range));
            read.collect::<io::Result<_>>().map_err(failed)
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let path = store.file_path(&location);
                blocking(move || {
                    delete(&path?, &location)?;
                    Ok(location)
                })
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        visible(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        visible(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|meta| !is_hidden(&meta.location));
        Ok(listed)
    }

    /// A true copy: a hard link would share the source's ETag.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let source = self.file_path(from)?;
        let path = self.file_path(to)?;
        let (from, to) = (from.clone(), to.clone());
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        blocking(move || {
            let mut source_file = File::open(&source)
                .map_err(|source_error| failure("read", &source, &from, source_error))?;
            let mut staged = Staged::beside(&path)?;
            staged.copy_from(&mut source_file)?;
            staged.land(&to, &mode).map(drop)
        })
        .await
    }
}

/// A multipart upload: parts are written where they belong in one staging file.
#[derive(Debug)]
struct Upload {
    location: Path,
    /// `None` once it is completed or aborted.
    staged: Arc<Mutex<Option<Staged>>>,
    next_offset: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.next_offset;
        self.next_offset += data.content_length() as u64;
        let (staged, location) = (Arc::clone(&self.staged), self.location.clone());
        blocking(move || {
            let mut staged = staged.lock().unwrap_or_else(PoisonError::into_inner);
            let staged = staged.as_mut().ok_or_else(|| ended(&location))?;
            for part in &data {
                staged.write_at(offset, part)?;
                offset += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, location) = (Arc::clone(&self.staged), self.location.clone());
        blocking(move || {
            let staged = staged.lock().unwrap_or_else(PoisonError::into_inner).take();
            let staged = staged.ok_or_else(|| ended(&location))?;
            staged.land(&location, &PutMode::Overwrite)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = Arc::clone(&self.staged);
        blocking(move || {
            drop(staged.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
        .await
    }
}

fn delete(path: &FsPath, location: &Path) -> Result<()> {
    // Looked at first, because locking would create the lock file.
    fs::symlink_metadata(path).map_err(|source| failure("delete", path, location, source))?;
    let folder = folder::of(path)?;
    let _lock = FolderLock::acquire(folder)?;
    fs::remove_file(path).map_err(|source| failure("delete", path, location, source))?;
    folder::sync(folder)
}

fn is_hidden(location: &Path) -> bool {
    location.filename() == Some(LOCK_NAME)
}

fn visible(
    listed: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    listed
        .try_filter(|meta| ready(!is_hidden(&meta.location)))
        .boxed()
}

/// File I/O blocks: on a runtime it goes to the blocking threads, else it runs in place.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

/// What failed and where; the cause is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{}", path.display(), reason(source))]
struct Failure {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn reason(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => ": the disk is full",
        io::ErrorKind::QuotaExceeded => ": the disk quota is used up",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        io::ErrorKind::PermissionDenied => ": permission denied",
        io::ErrorKind::TimedOut => ": another process holds its lock",
        _ => "",
    }
}

fn io_failure(action: &'static str, path: &FsPath, source: io::Error) -> Error {
    let kind = source.kind();
    let path = path.to_path_buf();
    let shown = path.display().to_string();
    let source = Box::new(Failure {
        action,
        path,
        source,
    });
    match kind {
        io::ErrorKind::PermissionDenied => Error::PermissionDenied {
            path: shown,
            source,
        },
        _ => Error::Generic {
            store: "LocalStore",
            source,
        },
    }
}

/// As [`io_failure`], for an object that may just not be there.
fn failure(action: &'static str, path: &FsPath, location: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound {
            path: location.to_string(),
            source: source.into(),
        },
        _ => io_failure(action, path, source),
    }
}

fn not_found(location: &Path) -> Error {
    Error::NotFound {
        path: location.to_string(),
        source: "the name is reserved for the store's lock".into(),
    }
}

fn ended(location: &Path) -> Error {
    Error::Generic {
        store: "LocalStore",
        source: format!("the upload of {location} is already completed or aborted").into(),
    }
}

fn no_attributes(operation: &str) -> Error {
    Error::NotImplemented {
        operation: format!("`{operation}` with attributes"),
        implementer: "LocalStore".to_owned(),
    }
}
