//! The faulty store: answers get lost, requests too, and some arrive when nobody waits any more.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::world::{Object, World, Write, precondition, step};

#[derive(Debug, Clone)]
pub(super) struct FaultyStore(pub(super) World);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It takes effect, the answer is lost.
    AnswerLost,
    /// It takes effect, the answer is lost, and the client's own second request meets it.
    MetItself,
    /// It never arrives.
    RequestLost,
    /// It is reported as failed and arrives later.
    Late,
    /// It is turned down for no reason of ours.
    Spurious,
}

impl FaultyStore {
    fn roll<const N: usize>(&self, faults: [Fault; N]) -> Option<Fault> {
        let mut state = self.0.state();
        let rate = state.faults;
        let fault = state.rng.chance(rate).then(|| state.rng.pick(&faults));
        if let Some(fault) = fault {
            state.note(|| format!("fault: {fault:?}"));
        }
        fault
    }
}

/// A request on its way. When its client dies it may still arrive.
struct InFlight {
    world: World,
    write: Option<Write>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            let mut state = self.world.state();
            if state.rng.chance(500) {
                state.adrift.push(write);
            }
        }
    }
}

impl InFlight {
    fn arrive(&mut self) -> Result<PutResult> {
        let write = self.write.take().unwrap();
        self.world.state().apply(write)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let conditional = options.mode != PutMode::Overwrite;
        let mut request = InFlight {
            world: self.0.clone(),
            write: Some(Write {
                path: location.clone(),
                bytes: Bytes::from(payload),
                mode: options.mode,
            }),
        };
        step().await;
        use Fault::*;
        let answer = match self.roll([AnswerLost, MetItself, RequestLost, Late, Spurious]) {
            None => request.arrive(),
            Some(AnswerLost) => request.arrive().and(Err(timeout())),
            Some(MetItself) if conditional => request.arrive().and(Err(precondition(location))),
            Some(Spurious) if conditional => {
                request.write = None;
                Err(precondition(location))
            }
            Some(Late) => {
                let mut state = self.0.state();
                state.adrift.extend(request.write.take());
                Err(timeout())
            }
            Some(RequestLost | MetItself | Spurious) => {
                request.write = None;
                Err(timeout())
            }
        };
        step().await;
        answer
    }

    async fn get_opts(&self, location: &Path, _: GetOptions) -> Result<GetResult> {
        step().await;
        if self.roll([Fault::RequestLost]).is_some() {
            step().await;
            return Err(timeout());
        }
        let found = self.0.state().objects.get(location).cloned();
        step().await;
        let object = found.ok_or_else(|| Error::NotFound {
            path: location.to_string(),
            source: "no such object".into(),
        })?;
        let meta = meta(location, &object);
        Ok(GetResult {
            range: 0..meta.size,
            payload: GetResultPayload::Stream(stream::iter([Ok(object.bytes)]).boxed()),
            attributes: Default::default(),
            meta,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Path| {
            let store = store.clone();
            async move {
                step().await;
                let fault = store.roll([Fault::AnswerLost, Fault::RequestLost]);
                if fault != Some(Fault::RequestLost) {
                    store.0.state().remove(&location);
                }
                step().await;
                fault.map_or(Ok(location), |_| Err(timeout()))
            }
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        let store = self.clone();
        let listed = async move {
            step().await;
            if store.roll([Fault::RequestLost]).is_some() {
                return Err(timeout());
            }
            let state = store.0.state();
            let found = state.objects.iter();
            let found = found.filter(|(path, _)| path.prefix_matches(&prefix));
            let metas: Vec<_> = found.map(|(path, object)| Ok(meta(path, object))).collect();
            Ok(stream::iter(metas))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn get_ranges(&self, _: &Path, _: &[Range<u64>]) -> Result<Vec<Bytes>> {
        unused("get_ranges")
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unused("put_multipart_opts")
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unused("list_with_delimiter")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unused("copy_opts")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn meta(location: &Path, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: location.clone(),
        last_modified: DateTime::UNIX_EPOCH,
        size: object.bytes.len() as u64,
        e_tag: Some(object.e_tag.clone()),
        version: None,
    }
}

fn timeout() -> Error {
    Error::Generic {
        store: "FaultyStore",
        source: "timed out".into(),
    }
}

fn unused<T>(operation: &str) -> Result<T> {
    Err(Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "FaultyStore".to_owned(),
    })
}
