//! Which files a run reads, and what they look like.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use datafusion::common::ScalarValue;
use rankmill_engine::Session;
use rankmill_engine::functions::{TimeZone, day_bounds_us};
use rankmill_engine::source::{Format, SourceFile, SourcePath, SourceTable, list_files};

use crate::error::{Error, Result};
use crate::publication::InputFile;
use crate::spec::{CsvOptions, DateSpec, FormatSpec, Source, Spec};

/// The input that a spec calls `source`.
pub(crate) const SOURCE: &str = "source";

/// All inputs of a spec for some dates.
pub(crate) struct Inputs {
    job: String,
    /// `source` and `sources`, by name.
    pub(crate) logs: Vec<Input>,
    /// `lookups`, in the spec's order.
    pub(crate) lookups: Vec<Input>,
    /// `labels`, in the spec's order.
    pub(crate) labels: Vec<Input>,
}

/// One log or dimension.
pub(crate) struct Input {
    /// Field of the spec, for messages: `source`, `lookups[0]`.
    pub(crate) field: String,
    /// Its name as a table.
    pub(crate) name: String,
    pub(crate) source: SourcePath,
    pub(crate) format: Format,
    pub(crate) window_days: u32,
    pub(crate) date: Option<DateSpec>,
    pub(crate) filter: Option<String>,
    /// All files that any of the dates needs.
    files: Vec<SourceFile>,
    /// Where the date is in a column, only the footers tell which files a date needs.
    opened: Option<SourceTable>,
}

impl Inputs {
    /// Lists the files of every input that the given dates need.
    pub(crate) async fn list(session: &Session, spec: &Spec, dates: &[NaiveDate]) -> Result<Self> {
        let named = spec.source.iter().map(|source| (SOURCE, source));
        let others = spec.sources.iter().map(|(name, s)| (name.as_str(), s));
        let mut inputs = Self {
            job: spec.name.clone(),
            logs: Vec::new(),
            lookups: Vec::new(),
            labels: Vec::new(),
        };
        for (name, source) in named.chain(others) {
            let field = match spec.sources.contains_key(name) {
                true => format!("sources.{name}"),
                false => SOURCE.to_owned(),
            };
            let input = Input::new(&spec.name, field, name, source)?;
            inputs
                .logs
                .push(input.list(session, &spec.name, dates).await?);
        }
        for (i, lookup) in spec.lookups.iter().enumerate() {
            let source = dimension(&lookup.path, lookup.format, lookup.csv.as_ref());
            let input = Input::new(&spec.name, format!("lookups[{i}]"), "", &source)?;
            inputs
                .lookups
                .push(input.list(session, &spec.name, dates).await?);
        }
        for (i, labels) in spec.labels.iter().enumerate() {
            let source = dimension(&labels.path, labels.format, labels.csv.as_ref());
            let input = Input::new(&spec.name, format!("labels[{i}]"), "", &source)?;
            inputs
                .labels
                .push(input.list(session, &spec.name, dates).await?);
        }
        Ok(inputs)
    }

    fn all(&self) -> impl Iterator<Item = &Input> {
        self.logs.iter().chain(&self.lookups).chain(&self.labels)
    }

    /// What the ranking of a date is computed from, in a fixed order.
    pub(crate) fn fingerprint(&self, date: NaiveDate) -> Vec<InputFile> {
        let files = self.all().flat_map(|input| {
            let place = input.source.base();
            input.files_of(date).into_iter().map(|file| InputFile {
                key: place.display(&file.meta.location),
                size: file.meta.size,
                e_tag: file.meta.e_tag.clone(),
            })
        });
        let mut files: Vec<InputFile> = files.collect();
        files.sort();
        files.dedup();
        files
    }

    /// Where input for a date is missing: the first log with a date that has no file of it.
    pub(crate) fn gap(&self, date: NaiveDate) -> Option<Error> {
        self.logs
            .iter()
            .filter(|input| input.date.is_some())
            .find(|input| !input.has_date(date))
            .map(|input| Error::Gap {
                job: self.job.clone(),
                date,
                path: input.source.base().to_string(),
            })
    }

    /// Fails if a file was added, removed or rewritten since the listing.
    pub(crate) async fn check_unchanged(
        &self,
        session: &Session,
        spec: &Spec,
        dates: &[NaiveDate],
    ) -> Result<()> {
        let now = Self::list(session, spec, dates).await?;
        let before: BTreeMap<String, InputFile> = self.by_key(dates);
        let after = now.by_key(dates);
        let changed = before
            .iter()
            .find_map(|(key, file)| match after.get(key) {
                None => Some(format!("'{key}' is gone")),
                Some(other) if other != file => Some(format!("'{key}' was rewritten")),
                Some(_) => None,
            })
            .or_else(|| {
                let mut added = after.keys().filter(|key| !before.contains_key(*key));
                added.next().map(|key| format!("'{key}' came in"))
            });
        match changed {
            None => Ok(()),
            Some(what) => Err(Error::InputChanged {
                job: self.job.clone(),
                what,
            }),
        }
    }

    fn by_key(&self, dates: &[NaiveDate]) -> BTreeMap<String, InputFile> {
        let files = dates.iter().flat_map(|date| self.fingerprint(*date));
        files.map(|file| (file.key.clone(), file)).collect()
    }

    /// Turns an error of the engine into one of this job.
    pub(crate) fn engine_error(job: &str) -> impl Fn(rankmill_engine::Error) -> Error + use<> {
        let job = job.to_owned();
        move |source| Error::Engine {
            job: job.clone(),
            source: Box::new(source),
        }
    }
}

impl Input {
    fn new(job: &str, field: String, name: &str, source: &Source) -> Result<Self> {
        Ok(Self {
            field,
            name: name.to_owned(),
            source: SourcePath::parse(&source.path).map_err(Inputs::engine_error(job))?,
            format: format_of(source.format, source.csv.as_ref()),
            window_days: source.window_days,
            date: source.date.clone(),
            filter: source.filter.clone(),
            files: Vec::new(),
            opened: None,
        })
    }

    async fn list(mut self, session: &Session, job: &str, dates: &[NaiveDate]) -> Result<Self> {
        let partition = self
            .date
            .as_ref()
            .and_then(|date| date.partition.as_deref());
        let days = self.days_of_all(dates);
        let wanted = partition.map(|_| days.as_slice());
        let engine_error = Inputs::engine_error(job);
        self.files = list_files(session, &self.source, self.format, partition, wanted)
            .await
            .map_err(&engine_error)?;
        if self.date_column().is_some() && !self.files.is_empty() {
            let opened = self.open_files(session, self.files.clone());
            self.opened = Some(opened.await.map_err(&engine_error)?);
        }
        if self.date.is_none() && self.files.is_empty() {
            let path = self.source.base().to_string();
            return Err(engine_error(rankmill_engine::Error::NoFiles { path }));
        }
        Ok(self)
    }

    /// The table over the files that the dates need. Where there are none it has no rows, and
    /// the columns of the newest file of any date.
    pub(crate) async fn open(
        &self,
        session: &Session,
        job: &str,
        dates: &[NaiveDate],
    ) -> Result<SourceTable> {
        if let Some(opened) = &self.opened {
            return Ok(self.in_span(opened.clone(), dates));
        }
        let engine_error = Inputs::engine_error(job);
        let days = self.days_of_all(dates);
        let needed = |file: &&SourceFile| file.date.is_none_or(|date| days.contains(&date));
        let files: Vec<SourceFile> = self.files.iter().filter(needed).cloned().collect();
        if !files.is_empty() {
            let table = self.open_files(session, files).await;
            return table.map_err(&engine_error);
        }
        let partition = self
            .date
            .as_ref()
            .and_then(|date| date.partition.as_deref());
        let any_date = list_files(session, &self.source, self.format, partition, None);
        let newest = any_date.await.map_err(&engine_error)?.pop();
        let table = self.open_files(session, newest.into_iter().collect()).await;
        table.map(SourceTable::without_files).map_err(&engine_error)
    }

    async fn open_files(
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

    /// All files listed.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
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

    fn files_of(&self, date: NaiveDate) -> Vec<SourceFile> {
        if let Some(opened) = &self.opened {
            return self
                .in_span(opened.clone(), &[date])
                .files()
                .cloned()
                .collect();
        }
        let days: Vec<NaiveDate> = self.days_of(date).collect();
        let needed = |file: &&SourceFile| file.date.is_none_or(|date| days.contains(&date));
        self.files.iter().filter(needed).cloned().collect()
    }

    fn has_date(&self, date: NaiveDate) -> bool {
        match &self.opened {
            // Footers give a span, not the dates in it: whether there are rows, the run will see.
            Some(opened) => self
                .in_days(opened.clone(), date, date)
                .files()
                .next()
                .is_some(),
            None => self.files.iter().any(|file| file.date == Some(date)),
        }
    }

    fn in_span(&self, table: SourceTable, dates: &[NaiveDate]) -> SourceTable {
        match self.days_of_all(dates).as_slice() {
            [first, .., last] => self.in_days(table, *first, *last),
            [day] => self.in_days(table, *day, *day),
            [] => table,
        }
    }

    /// Only the files that may have rows of the days `first..=last`.
    fn in_days(&self, table: SourceTable, first: NaiveDate, last: NaiveDate) -> SourceTable {
        let Some((column, zone)) = self.date_column() else {
            return table;
        };
        let (start_us, end_us) = (day_bounds_us(first, zone).0, day_bounds_us(last, zone).1);
        table.retain_by_range(column, |min, max| match (min, max) {
            (ScalarValue::Date32(Some(min)), ScalarValue::Date32(Some(max))) => {
                let day = |date: NaiveDate| (date - NaiveDate::default()).num_days();
                i64::from(*max) >= day(first) && i64::from(*min) <= day(last)
            }
            (min, max) => match (instant_us(min), instant_us(max)) {
                (Some(min), Some(max)) => max >= start_us && min < end_us,
                _ => true,
            },
        })
    }
}

/// Microseconds since 1970 of a timestamp, rounded down.
fn instant_us(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampSecond(Some(v), _) => v.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(v), _) => v.checked_mul(1_000),
        ScalarValue::TimestampMicrosecond(Some(v), _) => Some(*v),
        ScalarValue::TimestampNanosecond(Some(v), _) => Some(v.div_euclid(1_000)),
        _ => None,
    }
}

fn format_of(format: FormatSpec, csv: Option<&CsvOptions>) -> Format {
    match format {
        FormatSpec::Parquet => Format::Parquet,
        FormatSpec::Json => Format::Json,
        FormatSpec::Csv => Format::Csv {
            delimiter: csv.and_then(CsvOptions::delimiter_byte).unwrap_or(b','),
            header: csv.is_none_or(|csv| csv.header),
        },
    }
}

/// A dimension as a source without dates.
fn dimension(path: &str, format: FormatSpec, csv: Option<&CsvOptions>) -> Source {
    Source {
        path: path.to_owned(),
        format,
        csv: csv.cloned(),
        date: None,
        filter: None,
        window_days: 1,
    }
}
