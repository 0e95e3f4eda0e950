//! Listings that several jobs share, and footers that were read before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::NaiveDate;
use rankmill_engine::source::{Format, SourceFile, SourceTable, list_files};
use rankmill_engine::{Result, Session};
use tokio::sync::OnceCell;

use super::input::Input;
use super::listing::{ListedFile, Listing};
use super::span::Span;
use crate::publication::FilesDigest;

/// Up to this many days are listed one by one; for more, everything is listed at once.
const DAYS_LISTED_ONE_BY_ONE: usize = 32;
/// Files whose footers are remembered.
const MAX_SPANS: usize = 200_000;

/// How inputs are listed.
pub(crate) struct Lister<'a> {
    session: &'a Session,
    shared: Option<(&'a Listings, &'a Spans)>,
}

/// The listings of one inspection, each made once, however many jobs ask for it.
#[derive(Default)]
pub(crate) struct Listings(Mutex<HashMap<ListingKey, Arc<OnceCell<Arc<Listing>>>>>);

#[derive(PartialEq, Eq, Hash)]
struct ListingKey {
    path: String,
    format: Format,
    partition: Option<String>,
    /// None: of all days.
    days: Option<Vec<NaiveDate>>,
}

/// What the footers of files say of a date column, kept from one inspection to the next.
#[derive(Default)]
pub(crate) struct Spans(Mutex<HashMap<SpanKey, Span>>);

#[derive(PartialEq, Eq, Hash)]
struct SpanKey {
    file: FilesDigest,
    column: String,
}

impl<'a> Lister<'a> {
    /// Everything is listed and read anew.
    pub(crate) fn anew(session: &'a Session) -> Self {
        Self {
            session,
            shared: None,
        }
    }

    /// What was listed or read already is taken as it was.
    pub(crate) fn shared(session: &'a Session, listings: &'a Listings, spans: &'a Spans) -> Self {
        Self {
            session,
            shared: Some((listings, spans)),
        }
    }

    /// The files of an input, at least those of the given days.
    pub(super) async fn list(&self, input: &Input, days: &[NaiveDate]) -> Result<Arc<Listing>> {
        let partition = input.partition();
        let Some((listings, _)) = self.shared else {
            return self.list_anew(input, partition.map(|_| days)).await;
        };
        let one_by_one = partition.is_some() && days.len() <= DAYS_LISTED_ONE_BY_ONE;
        let days = one_by_one.then_some(days);
        let key = ListingKey {
            path: input.path.clone(),
            format: input.format,
            partition: partition.map(str::to_owned),
            days: days.map(<[_]>::to_vec),
        };
        let cell = {
            let mut listings = listings.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(listings.entry(key).or_default())
        };
        let listed = cell.get_or_try_init(|| self.list_anew(input, days));
        listed.await.map(Arc::clone)
    }

    async fn list_anew(&self, input: &Input, days: Option<&[NaiveDate]>) -> Result<Arc<Listing>> {
        let (source, format) = (&input.source, input.format);
        let files = list_files(self.session, source, format, input.partition(), days).await?;
        Ok(Arc::new(Listing::new(source.base(), files)))
    }

    /// What the footers of an input's files say of its date column; also the table over them, if
    /// all had to be read.
    pub(super) async fn spans(&self, input: &Input) -> Result<(Vec<Span>, Option<SourceTable>)> {
        let Some((_, spans)) = self.shared else {
            let table = input.open_files(self.session, input.files()).await?;
            return Ok((spans_of(input, &table), Some(table)));
        };
        let known = spans.get(input);
        let listed = input.listed().iter();
        let new: Vec<&ListedFile> = listed
            .zip(&known)
            .filter(|(_, span)| span.is_none())
            .map(|(file, _)| file)
            .collect();
        if new.is_empty() {
            return Ok((known.into_iter().flatten().collect(), None));
        }
        let files: Vec<SourceFile> = new.iter().map(|file| file.source.clone()).collect();
        let table = input.open_files(self.session, files).await?;
        let read = spans_of(input, &table);
        spans.add(
            input,
            new.iter()
                .zip(&read)
                .map(|(file, span)| (file.digest, *span)),
        );
        let mut read = read.into_iter();
        let all = known
            .into_iter()
            .filter_map(|span| span.or_else(|| read.next()));
        Ok((all.collect(), None))
    }
}

impl Spans {
    /// For each file, if it is known.
    fn get(&self, input: &Input) -> Vec<Option<Span>> {
        let spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let column = column_of(input);
        let key = |file: &ListedFile| SpanKey {
            file: file.digest,
            column: column.clone(),
        };
        let files = input.listed().iter();
        files.map(|file| spans.get(&key(file)).copied()).collect()
    }

    fn add(&self, input: &Input, new: impl Iterator<Item = (FilesDigest, Span)>) {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() > MAX_SPANS {
            spans.clear();
        }
        let column = column_of(input);
        spans.extend(new.map(|(file, span)| {
            let column = column.clone();
            (SpanKey { file, column }, span)
        }));
    }
}

fn column_of(input: &Input) -> String {
    let column = input.date_column();
    column.map_or_else(String::new, |(column, _)| column.to_owned())
}

fn spans_of(input: &Input, table: &SourceTable) -> Vec<Span> {
    let ranges = table.ranges(&column_of(input));
    ranges.iter().map(|(min, max)| Span::of(min, max)).collect()
}
