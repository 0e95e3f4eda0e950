//! Where a spec may read and write: only under the prefixes that are allowed, whatever a
//! placeholder holds or a symbolic link points to, and never in rankmill's own records.
//!
//! What a path leads to is checked, not what lies below it: a listing follows the links that it
//! meets, so whoever can make links in an allowed folder is trusted with what they point to.

use std::io;
use std::path::{Path as FsPath, PathBuf};

use chrono::NaiveDate;
use object_store::path::Path;
use rankmill_engine::Location;
use rankmill_engine::source::SourcePath;
use rankmill_jobs::spec::{Params, Spec};

use crate::error::{Error, Result};

/// Folder of the lake that holds rankmill's own records.
const RECORDS: &str = "_rankmill";

/// The prefixes under which specs may read and write.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    prefixes: Vec<Location>,
}

impl Access {
    /// Each prefix is a folder: `s3://bucket/prefix`, `file:///folder` or a local path. Nothing
    /// is allowed under none.
    pub fn new(prefixes: &[String]) -> Result<Self> {
        let parse = |text: &String| {
            Location::parse(text).map_err(|error| Error::Setup {
                what: format!("the allowed prefix '{text}'"),
                reason: error.to_string(),
            })
        };
        Ok(Self {
            prefixes: prefixes.iter().map(parse).collect::<Result<_>>()?,
        })
    }

    /// Fails with the first path of the spec, filled in, that is not allowed.
    pub fn check(&self, spec: &Spec, params: &Params) -> Result<()> {
        let lake = parse("lake", params.lake())?;
        // Dates are digits and dashes, so one stands for all.
        for (field, place) in places(&spec.fill(params, NaiveDate::default()))? {
            self.check_place(&field, &place, &lake)?;
        }
        Ok(())
    }

    /// Fails unless the whole lake is allowed, as what writes anywhere in it needs.
    pub fn check_lake(&self, field: &str, lake: &str) -> Result<()> {
        let lake = parse("lake", lake)?;
        self.check_place(field, &lake, &lake)
    }

    fn check_place(&self, field: &str, place: &Location, lake: &Location) -> Result<()> {
        let forbidden = || Error::Forbidden {
            field: field.to_owned(),
            path: place.to_string(),
        };
        if !self.prefixes.iter().any(|prefix| is_under(place, prefix)) {
            return Err(forbidden());
        }
        let in_records = || {
            Error::invalid(
                field,
                format!(
                    "'{place}' belongs to rankmill's own records; \
                     choose a folder outside {lake}/{RECORDS}"
                ),
            )
        };
        if place.store_url() == lake.store_url() && is_record(place.path(), lake.path()) {
            return Err(in_records());
        }
        if place.store_url().scheme() != "file" {
            return Ok(());
        }
        // By name it is inside; so must be the folder that the name leads to.
        let real = real_path(place).map_err(|_| forbidden())?;
        let leads_inside = |prefix: &Location| {
            prefix.store_url() == place.store_url()
                && real_path(prefix).is_ok_and(|prefix| real.starts_with(prefix))
        };
        if !self.prefixes.iter().any(leads_inside) {
            return Err(forbidden());
        }
        if lake.store_url() == place.store_url()
            && let Ok(records) = real_path(&lake.join(RECORDS))
            && real.starts_with(records)
        {
            return Err(in_records());
        }
        Ok(())
    }
}

/// Every place that a spec names, by field.
fn places(spec: &Spec) -> Result<Vec<(String, Location)>> {
    // All fields are named, so that a new one can't be forgotten here.
    let Spec {
        version: _,
        name: _,
        description: _,
        schedule: _,
        source,
        sources,
        lookups,
        ranking: _,
        labels,
        // Names only declared tables; see `compile_query` in jobs.
        sql: _,
        output,
    } = spec;
    let mut read: Vec<(String, &str)> = Vec::new();
    if let Some(source) = source {
        read.push(("source.path".to_owned(), &source.path));
    }
    for (name, source) in sources {
        read.push((format!("sources.{name}.path"), &source.path));
    }
    for (i, lookup) in lookups.iter().enumerate() {
        read.push((format!("lookups[{i}].path"), &lookup.path));
    }
    for (i, label) in labels.iter().enumerate() {
        read.push((format!("labels[{i}].path"), &label.path));
    }
    let mut places = Vec::new();
    for (field, path) in read {
        // A pattern only ever matches what lies below its base.
        let source = SourcePath::parse(path).map_err(|e| Error::invalid(&field, e))?;
        places.push((field, source.base().clone()));
    }
    let field = "output.path";
    places.push((field.to_owned(), parse(field, &output.path)?));
    Ok(places)
}

fn parse(field: &str, path: &str) -> Result<Location> {
    Location::parse(path).map_err(|error| Error::invalid(field, error))
}

/// Part by part: `/lake` holds `/lake/x`, not `/lake2`.
fn is_under(place: &Location, prefix: &Location) -> bool {
    place.store_url() == prefix.store_url() && place.path().prefix_matches(prefix.path())
}

/// Ignores case, as some file systems do.
fn is_record(path: &Path, lake: &Path) -> bool {
    path.prefix_match(lake)
        .and_then(|mut below| below.next())
        .is_some_and(|part| part.as_ref().eq_ignore_ascii_case(RECORDS))
}

/// Where a local path leads when all links are followed. The end of it need not exist.
fn real_path(place: &Location) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!("/{}", place.path()));
    let mut existing: &FsPath = &path;
    loop {
        match existing.canonicalize() {
            Ok(real) => {
                let missing = path.strip_prefix(existing).map_err(io::Error::other)?;
                return Ok(if missing.as_os_str().is_empty() {
                    real
                } else {
                    real.join(missing)
                });
            }
            // A link to what isn't there yet: a write would create it.
            Err(error) if existing.symlink_metadata().is_ok() => return Err(error),
            Err(error) => existing = existing.parent().ok_or(error)?,
        }
    }
}

#[cfg(test)]
mod tests;
