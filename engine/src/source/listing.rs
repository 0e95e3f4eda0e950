//! Finds the files of a source: one file, a folder or a pattern, by date where the folders are.

use std::sync::Arc;

use chrono::NaiveDate;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::Format;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::session::Session;

/// Listings of single dates under way at once.
const CONCURRENT_LISTINGS: usize = 16;
/// Where Hive and Spark put rows whose partition column is null: they count for no date.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// One file of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    /// Path in the store, size in bytes, ETag.
    pub meta: ObjectMeta,
    /// The date in its path, where the source is partitioned by date.
    pub date: Option<NaiveDate>,
}

/// Where the files of a source lie: a file, a folder or a pattern with `*`, `**`, `?`, `[…]`.
#[derive(Debug, Clone)]
pub struct SourcePath {
    /// The file, or the folder below which the files are.
    base: Location,
    /// What paths in the store must match; none: everything below `base`.
    pattern: Option<Pattern>,
}

impl SourcePath {
    /// Parses what a spec calls a source's `path`.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(first_wildcard) = text.find(['*', '?', '[']) else {
            let base = Location::parse(text)?;
            return Ok(Self {
                base,
                pattern: None,
            });
        };
        let folder_end = text[..first_wildcard].rfind('/').map_or(0, |at| at + 1);
        let (folder, rest) = text.split_at(folder_end);
        let base = Location::parse(if folder.is_empty() { "./" } else { folder })?;
        let below = if rest.ends_with('/') {
            format!("{rest}**/*")
        } else {
            rest.to_owned()
        };
        let prefix = Pattern::escape(base.path().as_ref());
        let whole = format!("{prefix}/{below}");
        let pattern = Pattern::new(whole.trim_start_matches('/')).map_err(|e| Error::Location {
            path: text.into(),
            reason: e.to_string(),
        })?;
        Ok(Self {
            base,
            pattern: Some(pattern),
        })
    }

    /// The store, and the folder or file to start from.
    pub fn base(&self) -> &Location {
        &self.base
    }

    fn matches(&self, path: &Path) -> bool {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        self.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.matches_with(path.as_ref(), options))
    }
}

/// Lists a source's files, sorted by path. With `partition` each file's date is read from its
/// `partition=YYYY-MM-DD` folder, and with `dates` only files of those dates are listed. Files
/// and folders whose names start with `_` or `.` are no data, nor, in a folder, are files of
/// another format's ending.
pub async fn list_files(
    session: &Session,
    source: &SourcePath,
    format: Format,
    partition: Option<&str>,
    dates: Option<&[NaiveDate]>,
) -> Result<Vec<SourceFile>> {
    let store = session.stores().of(&source.base)?;
    let mut files = match (partition, dates, &source.pattern) {
        (Some(key), Some(dates), None) => match date_folders(&store, &source.base, key).await? {
            Some(folders) => list_folders(&store, &source.base, &folders, dates).await?,
            None => list_all(&store, &source.base).await?,
        },
        _ => list_all(&store, &source.base).await?,
    };
    let one_file = files.len() == 1 && &files[0].location == source.base.path();
    files.retain(|meta| {
        one_file
            || is_visible(&meta.location, source.base.path())
                && source.matches(&meta.location)
                && (source.pattern.is_some()
                    || format.matches_name(meta.location.filename().unwrap_or_default()))
    });
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let mut listed = Vec::with_capacity(files.len());
    let of_no_date = |meta: &ObjectMeta| {
        let in_folder = |key: &str| {
            let folder = format!("{key}={HIVE_NULL}");
            meta.location.parts().any(|part| part.as_ref() == folder)
        };
        partition.is_some_and(in_folder)
    };
    for meta in files.into_iter().filter(|meta| !of_no_date(meta)) {
        let date = match partition {
            None => None,
            Some(key) => Some(date_of(&source.base, &meta.location, key)?),
        };
        if date.is_none_or(|date| dates.is_none_or(|dates| dates.contains(&date))) {
            listed.push(SourceFile { meta, date });
        }
    }
    Ok(listed)
}

/// The folders `key=DATE` directly below a place and their dates, so that of a long history only
/// the dates wanted need to be listed; `None` if something else is there too: files may then lie
/// anywhere.
async fn date_folders(
    store: &Arc<dyn ObjectStore>,
    base: &Location,
    key: &str,
) -> Result<Option<Vec<(Path, NaiveDate)>>> {
    let path = base.path();
    let prefix = (!path.as_ref().is_empty()).then_some(path);
    let listed = match store.list_with_delimiter(prefix).await {
        Ok(listed) => listed,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        // What a file answers differs between stores and systems.
        Err(_) if base.store_url().scheme() == "file" => return Ok(None),
        Err(source) => return Err(list_error(base, source)),
    };
    let is_data = |path: &&Path| is_visible(path, base.path());
    if listed.objects.iter().any(|meta| is_data(&&meta.location)) {
        return Ok(None);
    }
    let mut folders = Vec::new();
    for folder in listed.common_prefixes.iter().filter(is_data) {
        let name = folder.filename().unwrap_or_default();
        let value = name
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix('='));
        match value {
            None => return Ok(None),
            Some(HIVE_NULL) => {}
            Some(_) => folders.push((folder.clone(), date_of(base, folder, key)?)),
        }
    }
    Ok((!folders.is_empty()).then_some(folders))
}

async fn list_folders(
    store: &Arc<dyn ObjectStore>,
    base: &Location,
    folders: &[(Path, NaiveDate)],
    dates: &[NaiveDate],
) -> Result<Vec<ObjectMeta>> {
    // Boxed: the compiler can't prove nested closures over references to be `Send`.
    let listings: Vec<BoxFuture<'_, Result<Vec<ObjectMeta>>>> = folders
        .iter()
        .filter(|(_, date)| dates.contains(date))
        .map(|(folder, _)| list_below(store, base, folder).boxed())
        .collect();
    let listings: Vec<Vec<ObjectMeta>> = stream::iter(listings)
        .buffer_unordered(CONCURRENT_LISTINGS)
        .try_collect()
        .await?;
    Ok(listings.into_iter().flatten().collect())
}

async fn list_all(store: &Arc<dyn ObjectStore>, base: &Location) -> Result<Vec<ObjectMeta>> {
    if !base.is_folder() {
        match store.get_opts(base.path(), head_only()).await {
            Ok(found) => return Ok(vec![found.meta]),
            Err(object_store::Error::NotFound { .. }) => {}
            // What a folder answers differs between stores and systems; the listing tells.
            Err(_) if base.store_url().scheme() == "file" => {}
            Err(source) => return Err(list_error(base, source)),
        }
    }
    list_below(store, base, base.path()).await
}

fn head_only() -> object_store::GetOptions {
    object_store::GetOptions {
        head: true,
        ..Default::default()
    }
}

async fn list_below(
    store: &Arc<dyn ObjectStore>,
    base: &Location,
    folder: &Path,
) -> Result<Vec<ObjectMeta>> {
    let prefix = (!folder.as_ref().is_empty()).then_some(folder);
    match store.list(prefix).try_collect().await {
        Ok(files) => Ok(files),
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        Err(source) => Err(list_error(base, source)),
    }
}

fn list_error(place: &Location, source: object_store::Error) -> Error {
    Error::List {
        path: place.to_string(),
        source,
    }
}

/// Spark, Hive and Hadoop leave `_SUCCESS`, `_temporary/`, `.part.crc` and the like.
fn is_visible(path: &Path, base: &Path) -> bool {
    path.prefix_match(base).is_some_and(|parts| {
        parts
            .into_iter()
            .all(|part| !part.as_ref().starts_with(['_', '.']))
    })
}

fn date_of(base: &Location, path: &Path, key: &str) -> Result<NaiveDate> {
    path.parts()
        .filter_map(|part| {
            let value = part
                .as_ref()
                .strip_prefix(key)?
                .strip_prefix('=')?
                .to_owned();
            Some(value)
        })
        .next_back()
        .and_then(|value| {
            NaiveDate::parse_from_str(&value, "%Y-%m-%d")
                .or_else(|_| NaiveDate::parse_from_str(&value, "%Y%m%d"))
                .ok()
        })
        .ok_or_else(|| Error::PartitionDate {
            path: base.display(path),
            key: key.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionOptions;

    async fn listed(
        path: &str,
        format: Format,
        partition: Option<&str>,
        dates: &[&str],
    ) -> Vec<String> {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let source = SourcePath::parse(path).unwrap();
        let dates: Vec<NaiveDate> = dates.iter().map(|d| d.parse().unwrap()).collect();
        let dates = (!dates.is_empty()).then_some(dates);
        list_files(&session, &source, format, partition, dates.as_deref())
            .await
            .unwrap()
            .into_iter()
            .map(|f| f.meta.location.filename().unwrap().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn files_folders_patterns_and_dates() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "date=2026-01-01/a.parquet",
            "date=2026-01-02/b.parquet",
            "date=2026-01-02/_SUCCESS",
            "date=2026-01-02/.b.parquet.crc",
            "date=2026-01-03/_temporary/c.parquet",
            "mixed/date=20260102/e.parquet",
            "mixed/date=2026-01-01/f.parquet",
            "mixed/date=__HIVE_DEFAULT_PARTITION__/g.parquet",
            "readme.md",
            "deep/region=kr/date=20260102/d.parquet",
            "logs/x.csv.gz",
            "logs/y.csv",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let base = folder.path().to_str().unwrap().to_owned();
        let csv = Format::Csv {
            delimiter: b',',
            header: true,
        };
        let parquet = Format::Parquet;
        let day = ["2026-01-02"];
        assert_eq!(
            listed(&format!("{base}/"), parquet, None, &[]).await,
            [
                "a.parquet",
                "b.parquet",
                "d.parquet",
                "f.parquet",
                "e.parquet",
                "g.parquet"
            ]
        );
        // Other folders lie beside the dates: theirs count too.
        assert_eq!(
            listed(&base, parquet, Some("date"), &day).await,
            ["b.parquet", "d.parquet", "e.parquet"]
        );
        // Only dates, in both spellings, and a folder for rows without one.
        let mixed = format!("{base}/mixed");
        let days = ["2026-01-01", "2026-01-02"];
        assert_eq!(
            listed(&mixed, parquet, Some("date"), &days).await,
            ["f.parquet", "e.parquet"]
        );
        assert_eq!(
            listed(&format!("{base}/deep/"), parquet, Some("date"), &day).await,
            ["d.parquet"]
        );
        assert_eq!(
            listed(
                &format!("{base}/date=*/*.parquet"),
                parquet,
                Some("date"),
                &day
            )
            .await,
            ["b.parquet"]
        );
        assert_eq!(
            listed(&format!("{base}/*/a.parquet"), parquet, None, &[]).await,
            ["a.parquet"]
        );
        assert_eq!(
            listed(&format!("{base}/date=2026-01-0[12]/"), parquet, None, &[]).await,
            ["a.parquet", "b.parquet"]
        );
        assert_eq!(
            listed(&format!("{base}/readme.md"), csv, None, &[]).await,
            ["readme.md"]
        );
        assert_eq!(
            listed(&format!("{base}/logs/"), csv, None, &[]).await,
            ["x.csv.gz", "y.csv"]
        );
        assert!(
            listed(&format!("{base}/nowhere/"), parquet, None, &[])
                .await
                .is_empty()
        );
    }

    #[tokio::test]
    async fn a_partition_that_is_no_date_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("date=yesterday/a.parquet");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "x").unwrap();
        let session = Session::new(&SessionOptions::default()).unwrap();
        let source = SourcePath::parse(folder.path().to_str().unwrap()).unwrap();
        let error = list_files(&session, &source, Format::Parquet, Some("date"), None)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("date=yesterday/a.parquet"),
            "{error}"
        );
    }
}
