//! The files of a source, as listed once.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rankmill_engine::Location;
use rankmill_engine::source::SourceFile;

use crate::publication::{FilesDigest, InputFile};

/// The files of a source, in order of their paths.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(super) files: Vec<ListedFile>,
    /// Places in `files`, of those whose path has a date.
    by_date: BTreeMap<NaiveDate, Vec<usize>>,
}

/// A file of a source.
#[derive(Debug)]
pub(crate) struct ListedFile {
    pub(super) source: SourceFile,
    /// The same as part of a fingerprint.
    pub(super) input: InputFile,
    /// Stands for `input`.
    pub(super) digest: FilesDigest,
}

impl Listing {
    pub(super) fn new(base: &Location, files: Vec<SourceFile>) -> Self {
        let mut by_date: BTreeMap<NaiveDate, Vec<usize>> = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            if let Some(date) = file.date {
                by_date.entry(date).or_default().push(place);
            }
        }
        let listed = files.into_iter().map(|source| {
            let input = InputFile {
                key: base.display(&source.meta.location),
                size: source.meta.size,
                e_tag: source.meta.e_tag.clone(),
            };
            ListedFile {
                digest: FilesDigest::from(&input),
                input,
                source,
            }
        });
        Self {
            files: listed.collect(),
            by_date,
        }
    }

    /// The files whose path has a date.
    pub(super) fn of(&self, date: NaiveDate) -> impl Iterator<Item = &ListedFile> {
        let places = self.by_date.get(&date).into_iter().flatten();
        places.map(|place| &self.files[*place])
    }
}
