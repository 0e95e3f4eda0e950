//! A store whose answers can be made to fail.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rankmill_engine::store::LocalStore;
use tokio::sync::watch;

/// What goes wrong next.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// So many writes take effect, but their answers are lost.
    pub(crate) lose_answers: usize,
    /// So many writes fail.
    pub(crate) fail_writes: usize,
    /// All writes fail after so many.
    pub(crate) fail_writes_after: Option<usize>,
    /// So many reads were made.
    pub(crate) reads: usize,
    /// So many listings were made.
    pub(crate) lists: usize,
    /// Who uses the store dies.
    pub(crate) death: Option<Death>,
}

/// The end of a process in the middle of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// So many writes go before it.
    pub(crate) after: usize,
    /// Whether the write that it dies at takes effect.
    pub(crate) acted: bool,
}

/// Another store, with faults.
#[derive(Debug)]
pub(crate) struct Flaky {
    inner: Arc<dyn ObjectStore>,
    pub(crate) faults: Mutex<Faults>,
    /// What was written, in order.
    pub(crate) written: Mutex<Vec<(Path, Bytes)>>,
    dead: watch::Sender<bool>,
}

impl Flaky {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            faults: Mutex::default(),
            written: Mutex::default(),
            dead: watch::channel(false).0,
        })
    }

    /// Over the disk.
    pub(crate) fn on_disk() -> Arc<Self> {
        Self::new(Arc::new(LocalStore::new()))
    }

    /// Until whoever uses it has died.
    pub(crate) async fn died(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// The dead get no answers.
    async fn alive(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    async fn put(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
        let put = self.inner.put_opts(location, payload, options).await?;
        let mut written = self.written.lock().unwrap();
        written.push((location.clone(), bytes.into()));
        Ok(put)
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flaky {}", self.inner)
    }
}

fn away() -> Error {
    Error::Generic {
        store: "flaky",
        source: "it is away".into(),
    }
}

/// Counts one down, if there is one left.
fn take(left: &mut usize) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.alive().await;
        let death = self.faults.lock().unwrap().death.as_mut().map(|death| {
            let dies = !take(&mut death.after);
            dies.then_some(death.acted)
        });
        if let Some(Some(acted)) = death {
            if acted {
                let _ = self.put(location, payload, options).await;
            }
            self.dead.send_replace(true);
            return std::future::pending().await;
        }
        let fails = {
            let mut faults = self.faults.lock().unwrap();
            let gone = faults
                .fail_writes_after
                .as_mut()
                .is_some_and(|left| !take(left));
            gone || take(&mut faults.fail_writes)
        };
        if fails {
            return Err(away());
        }
        let put = self.put(location, payload, options).await?;
        if take(&mut self.faults.lock().unwrap().lose_answers) {
            return Err(away());
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive().await;
        self.faults.lock().unwrap().reads += 1;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faults.lock().unwrap().lists += 1;
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.faults.lock().unwrap().lists += 1;
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
