//! Where data lies: a local path, `file://` or `s3://bucket/prefix`.

use std::fmt;
use std::path::PathBuf;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;
use url::Url;

use crate::error::{Error, Result};

/// A place in an object store: the store's address and a path in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    store: Url,
    path: Path,
    /// Whether the text ended in `/`: then it names a folder.
    folder: bool,
}

impl Location {
    /// Parses `s3://bucket/prefix`, `file:///folder` or a local path (relative to the current
    /// folder). The place need not exist.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::Location {
            path: text.into(),
            reason: reason.into(),
        };
        let folder = text.ends_with('/');
        if let Some(rest) = text
            .strip_prefix("s3://")
            .or_else(|| text.strip_prefix("s3a://"))
        {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let store = Url::parse(&format!("s3://{bucket}"))
                .ok()
                .filter(|_| !bucket.is_empty())
                .ok_or_else(|| wrong("expected s3://bucket/prefix"))?;
            let path = Path::parse(key.trim_matches('/')).map_err(|e| wrong(&e.to_string()))?;
            return Ok(Self {
                store,
                path,
                folder,
            });
        }
        let local = match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => PathBuf::from(path),
            Some(("file", _)) => return Err(wrong("expected file:///absolute/path")),
            Some((scheme, _)) => {
                return Err(wrong(&format!(
                    "'{scheme}' is not supported; use a local path, file:// or s3://"
                )));
            }
            None if text.is_empty() => return Err(wrong("it is empty")),
            None => PathBuf::from(text),
        };
        let absolute = std::path::absolute(&local).map_err(|e| wrong(&e.to_string()))?;
        // `absolute` keeps `..`; resolved by name, as the target need not exist.
        let mut parts: Vec<&str> = Vec::new();
        for part in absolute.components() {
            match part {
                std::path::Component::Normal(name) => {
                    parts.push(name.to_str().ok_or_else(|| wrong("it is not UTF-8"))?);
                }
                std::path::Component::ParentDir => {
                    parts.pop();
                }
                _ => {}
            }
        }
        let path = Path::parse(parts.join("/")).map_err(|e| wrong(&e.to_string()))?;
        let store = Url::parse("file:///").map_err(|e| wrong(&e.to_string()))?;
        Ok(Self {
            store,
            path,
            folder,
        })
    }

    /// Address of the store: `file:///` or `s3://bucket`.
    pub fn store_url(&self) -> &Url {
        &self.store
    }

    /// The same, as DataFusion's type.
    pub fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        let text = match self.store.scheme() {
            "file" => "file://".to_owned(),
            _ => self.store.as_str().trim_end_matches('/').to_owned(),
        };
        ObjectStoreUrl::parse(text).map_err(Error::from)
    }

    /// Path in the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was written as a folder, with a slash at the end.
    pub fn is_folder(&self) -> bool {
        self.folder
    }

    /// The place of a path in the same store, for messages: `s3://bucket/key` or `/folder/file`.
    pub fn display(&self, path: &Path) -> String {
        match self.store.scheme() {
            "file" => format!("/{path}"),
            _ => format!("{}/{path}", self.store.as_str().trim_end_matches('/')),
        }
    }

    /// The folder `name` in this place.
    pub fn join(&self, name: &str) -> Self {
        let mut joined = self.clone();
        for part in name.split('/').filter(|part| !part.is_empty()) {
            joined.path = joined.path.clone().join(part);
        }
        joined.folder = name.ends_with('/');
        joined
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let s3 = Location::parse("s3://lake/a/b/").unwrap();
        assert_eq!(s3.store_url().as_str(), "s3://lake");
        assert_eq!((s3.path().as_ref(), s3.is_folder()), ("a/b", true));
        assert_eq!(s3.to_string(), "s3://lake/a/b");
        let local = Location::parse("/tmp/x/../lake/").unwrap();
        assert_eq!(local.to_string(), "/tmp/lake");
        assert_eq!(
            Location::parse("file:///tmp/lake").unwrap().to_string(),
            "/tmp/lake"
        );
        assert_eq!(
            local.join("date=2026-01-01/").to_string(),
            "/tmp/lake/date=2026-01-01"
        );
        assert!(
            Location::parse("lake")
                .unwrap()
                .to_string()
                .ends_with("/lake")
        );
        assert!(
            Location::parse("s3://bucket")
                .unwrap()
                .path()
                .as_ref()
                .is_empty()
        );
    }

    #[test]
    fn refuses() {
        for text in ["", "s3://", "gs://bucket/x", "file://relative"] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}
