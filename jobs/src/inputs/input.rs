//! One log or dimension: its files, and which of them a date needs.

use std::sync::Arc;

use chrono::{Days, NaiveDate};
use rankmill_engine::Session;
use rankmill_engine::functions::TimeZone;
use rankmill_engine::source::{Format, SourceFile, SourcePath, SourceTable, list_files};

use super::listing::{ListedFile, Listing};
use super::shared::Lister;
use super::span::Span;
use super::{Inputs, format_of};
use crate::error::Result;
use crate::publication::FilesDigest;
use crate::spec::{DateSpec, Source};

/// One log or dimension.
pub(crate) struct Input {
    /// Field of the spec, for messages: `source`, `lookups[0]`.
    pub(crate) field: String,
    /// Its name as a table.
    pub(crate) name: String,
    pub(crate) source: SourcePath,
    /// The same as the spec writes it.
    pub(super) path: String,
    pub(crate) format: Format,
    pub(crate) window_days: u32,
    pub(crate) date: Option<DateSpec>,
    pub(crate) filter: Option<String>,
    /// All files that any of the dates needs.
    listing: Arc<Listing>,
    /// Where the date is in a column, only the footers tell which files a date needs: what they
    /// say of each file of the listing.
    spans: Vec<Span>,
    /// The table over all files, if the footers had to be read for the spans.
    opened: Option<SourceTable>,
}

impl Input {
    pub(super) fn new(job: &str, field: String, name: &str, source: &Source) -> Result<Self> {
        Ok(Self {
            field,
            name: name.to_owned(),
            source: SourcePath::parse(&source.path).map_err(Inputs::engine_error(job))?,
            format: format_of(source.format, source.csv.as_ref()),
            window_days: source.window_days,
            date: source.date.clone(),
            filter: source.filter.clone(),
            path: source.path.clone(),
            listing: Arc::default(),
            spans: Vec::new(),
            opened: None,
        })
    }

    pub(super) async fn list(
        mut self,
        lister: &Lister<'_>,
        job: &str,
        dates: &[NaiveDate],
    ) -> Result<Self> {
        let engine_error = Inputs::engine_error(job);
        let days = self.days_of_all(dates);
        self.listing = lister.list(&self, &days).await.map_err(&engine_error)?;
        if self.date_column().is_some() && !self.listing.files.is_empty() {
            (self.spans, self.opened) = lister.spans(&self).await.map_err(&engine_error)?;
        }
        if self.date.is_none() && self.listing.files.is_empty() {
            let path = self.source.base().to_string();
            return Err(engine_error(rankmill_engine::Error::NoFiles { path }));
        }
        Ok(self)
    }

    /// Names the files as they are now: another version of any of them gives another text.
    pub(crate) fn identity(&self) -> String {
        let files = self.listing.files.iter().map(|listed| {
            let meta = &listed.source.meta;
            let etag = meta.e_tag.as_deref().unwrap_or_default();
            let modified = meta.last_modified.timestamp_micros();
            format!("{} {} {etag} {modified}", meta.location, meta.size)
        });
        let files: Vec<String> = files.collect();
        format!("{} {}", self.source.base(), files.join("\n"))
    }

    /// The key of the folders that carry the date.
    pub(super) fn partition(&self) -> Option<&str> {
        self.date.as_ref()?.partition.as_deref()
    }

    /// The table over the files that the dates need. Where there are none it has no rows, and
    /// the columns of the newest file of any date.
    pub(crate) async fn open(
        &self,
        session: &Session,
        job: &str,
        dates: &[NaiveDate],
    ) -> Result<SourceTable> {
        let days = self.days_of_all(dates);
        if let Some(opened) = &self.opened {
            return Ok(opened.clone().retain(|place| self.needs(place, &days)));
        }
        let engine_error = Inputs::engine_error(job);
        let files = self.listing.files.iter().enumerate();
        let needed = files.filter(|(place, _)| self.needs(*place, &days));
        let files: Vec<SourceFile> = needed.map(|(_, file)| file.source.clone()).collect();
        if !files.is_empty() {
            let table = self.open_files(session, files).await;
            return table.map_err(&engine_error);
        }
        let any_date = list_files(session, &self.source, self.format, self.partition(), None);
        let newest = any_date.await.map_err(&engine_error)?.pop();
        let table = self.open_files(session, newest.into_iter().collect()).await;
        table.map(SourceTable::without_files).map_err(&engine_error)
    }

    pub(super) async fn open_files(
        &self,
        session: &Session,
        files: Vec<SourceFile>,
    ) -> rankmill_engine::Result<SourceTable> {
        SourceTable::open(session, &self.source, self.format, files).await
    }

    /// What its table is called in plans: `source`, `users`, `lookup0`.
    pub(crate) fn table_name(&self) -> String {
        match self.name.as_str() {
            "" => self
                .field
                .replace(['[', ']'], "")
                .replace("lookups", "lookup"),
            name => name.to_owned(),
        }
    }

    /// All files listed, in order of their paths.
    pub(super) fn listed(&self) -> &[ListedFile] {
        &self.listing.files
    }

    /// All files listed.
    pub(crate) fn files(&self) -> Vec<SourceFile> {
        let files = self.listing.files.iter();
        files.map(|file| file.source.clone()).collect()
    }

    /// The days that a run for a date reads, in order.
    pub(crate) fn days_of(&self, date: NaiveDate) -> impl Iterator<Item = NaiveDate> {
        let days = if self.date.is_some() {
            self.window_days
        } else {
            1
        };
        (0..u64::from(days))
            .rev()
            .filter_map(move |back| date.checked_sub_days(Days::new(back)))
    }

    /// The days that runs for several dates read, in order.
    pub(crate) fn days_of_all(&self, dates: &[NaiveDate]) -> Vec<NaiveDate> {
        let mut days: Vec<NaiveDate> = dates.iter().flat_map(|date| self.days_of(*date)).collect();
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Column and zone, where the date comes from a column.
    pub(crate) fn date_column(&self) -> Option<(&str, TimeZone)> {
        let date = self.date.as_ref()?;
        let zone = date.timezone.as_deref().and_then(|zone| zone.parse().ok());
        Some((date.column.as_deref()?, zone.unwrap_or(TimeZone::UTC)))
    }

    /// The files that a run for a date reads.
    pub(super) fn files_of(&self, date: NaiveDate) -> Vec<&ListedFile> {
        let days: Vec<NaiveDate> = self.days_of(date).collect();
        if self.partition().is_some() {
            let of_days = days.iter().flat_map(|day| self.listing.of(*day));
            return of_days.collect();
        }
        let files = self.listing.files.iter().enumerate();
        files
            .filter(|(place, _)| self.needs(*place, &days))
            .map(|(_, file)| file)
            .collect()
    }

    /// Whether some of the days, which are in order, need the file at a place of the listing.
    fn needs(&self, place: usize, days: &[NaiveDate]) -> bool {
        if let Some(date) = self.listing.files[place].source.date {
            return days.binary_search(&date).is_ok();
        }
        match (self.date_column(), self.spans.get(place), days) {
            (Some((_, zone)), Some(span), [first, .., last] | [first @ last]) => {
                span.touches(*first, *last, zone)
            }
            _ => true,
        }
    }

    /// Whether there may be rows of a date. Footers give a span, not the dates in it: whether
    /// there are rows, the run will see.
    pub(super) fn has_date(&self, date: NaiveDate) -> bool {
        match self.date_column() {
            Some((_, zone)) => self.spans.iter().any(|span| span.touches(date, date, zone)),
            None => self.listing.of(date).next().is_some(),
        }
    }

    /// Whether the footers tell for certain that there is a row of a date.
    pub(crate) fn surely_has(&self, date: NaiveDate) -> bool {
        self.date_column().is_some_and(|(_, zone)| {
            let mut spans = self.spans.iter();
            spans.any(|span| span.surely_has(date, zone))
        })
    }

    /// Stands for the files that may have rows of a day.
    pub(crate) fn digest_of_day(&self, day: NaiveDate) -> FilesDigest {
        let files = self.listing.files.iter().enumerate();
        let needed = files.filter(|(place, _)| self.needs(*place, &[day]));
        needed.map(|(_, file)| file.digest).collect()
    }
}
