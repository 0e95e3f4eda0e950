//! The lake as an object store sees it: whole objects written, folders looked for and deleted.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use crate::{Error, Table, truth};

/// Larger objects are written in pieces.
const MULTIPART_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 16 << 20;

/// Where the lake goes.
#[derive(Clone, Debug)]
pub(crate) struct Lake {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
}

impl Lake {
    /// The lake at a path of a store.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &Path) -> Self {
        let prefix = prefix.clone();
        Self { store, prefix }
    }

    /// The path of something in the lake.
    pub(crate) fn path(&self, relative: &str) -> Path {
        let segments = relative.split('/');
        segments.fold(self.prefix.clone(), |path, segment| path.join(segment))
    }

    /// Writes an object, whole or not at all.
    pub(crate) async fn put(&self, relative: &str, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(relative);
        let written = if bytes.len() <= MULTIPART_BYTES {
            self.store.put(&path, bytes.into()).await.map(drop)
        } else {
            self.put_pieces(&path, bytes).await
        };
        written.map_err(|source| Error::store("write", &path, source))
    }

    async fn put_pieces(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let upload = self.store.put_multipart(path).await?;
        let mut pieces = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        // A failed piece shows when the upload is finished, which then aborts it.
        pieces.put(bytes);
        pieces.finish().await.map(drop)
    }

    /// Reads a small object; `None` if it isn't there.
    pub(crate) async fn get(&self, relative: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(relative);
        let read = async { self.store.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::store("read", &path, source)),
        }
    }

    /// Deletes an object, if it is there.
    pub(crate) async fn delete(&self, relative: &str) -> Result<(), Error> {
        self.delete_path(&self.path(relative)).await
    }

    /// Deletes an object by its path in the store, if it is there.
    pub(crate) async fn delete_path(&self, path: &Path) -> Result<(), Error> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::store("delete", path, source)),
        }
    }

    /// An object of one of the tables, or an unreadable truth: whatever is in the way of a new lake.
    pub(crate) async fn anything_there(&self) -> Result<Option<Path>, Error> {
        let truth = self.path(truth::FILE);
        match self.store.head(&truth).await {
            Ok(_) => return Ok(Some(truth)),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(Error::store("read", &truth, source)),
        }
        for table in Table::ALL {
            let folder = self.path(table.folder());
            let mut objects = self.store.list(Some(&folder));
            match objects.next().await {
                Some(Ok(found)) => return Ok(Some(found.location)),
                Some(Err(source)) => return Err(Error::store("list", &folder, source)),
                None => {}
            }
        }
        Ok(None)
    }

    /// Bytes of all objects in the tables' folders.
    pub(crate) async fn bytes_there(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for table in Table::ALL {
            let folder = self.path(table.folder());
            let mut objects = self.store.list(Some(&folder));
            while let Some(object) = objects.next().await {
                let object = object.map_err(|source| Error::store("list", &folder, source))?;
                bytes += object.size;
            }
        }
        Ok(bytes)
    }

    /// Deletes the truth first, for without it nobody takes the rest for a lake, then the tables.
    pub(crate) async fn clear(&self) -> Result<(), Error> {
        self.delete(truth::FILE).await?;
        for table in Table::ALL {
            let folder = self.path(table.folder());
            let found = self.store.list(Some(&folder)).map_ok(|meta| meta.location);
            self.store
                .delete_stream(found.boxed())
                .try_for_each(|_| async { Ok(()) })
                .await
                .map_err(|source| Error::store("delete", &folder, source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn large_objects_arrive_whole() {
        let lake = Lake {
            store: Arc::new(InMemory::new()),
            prefix: Path::from("a"),
        };
        let mut bytes = vec![7; MULTIPART_BYTES + 1];
        bytes[PIECE_BYTES] = 8;
        let bytes = Bytes::from(bytes);
        lake.put("b/date=1/c", bytes.clone()).await.unwrap();
        let found = lake.store.get(&Path::from("a/b/date=1/c")).await.unwrap();
        assert!(found.bytes().await.unwrap() == bytes);
        let there = lake.anything_there().await.unwrap();
        assert_eq!(there, None, "not one of the tables");
    }
}
