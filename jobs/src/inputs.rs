//! Which files a run reads, and what they look like.

mod input;
mod listing;
mod shared;
mod span;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use rankmill_engine::Session;
use rankmill_engine::source::Format;

use crate::ENGINE_VERSION;
use crate::error::{Error, Result};
use crate::publication::{Commit, Digest, FilesDigest, Fingerprint, InputFile};
use crate::run::PARQUET_NAME;
use crate::spec::{CsvOptions, FormatSpec, Source, Spec};

pub(crate) use self::input::Input;
use self::listing::ListedFile;
pub(crate) use self::shared::{Lister, Listings, Spans};

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

impl Inputs {
    /// Lists the files of every input that the given dates need.
    pub(crate) async fn list(session: &Session, spec: &Spec, dates: &[NaiveDate]) -> Result<Self> {
        Self::list_with(&Lister::anew(session), spec, dates).await
    }

    /// The same, by way of what was listed already.
    pub(crate) async fn list_with(
        lister: &Lister<'_>,
        spec: &Spec,
        dates: &[NaiveDate],
    ) -> Result<Self> {
        let job = &spec.name;
        let mut inputs = Vec::new();
        let named = spec.source.iter().map(|source| (SOURCE, source));
        let others = spec.sources.iter().map(|(name, s)| (name.as_str(), s));
        for (name, source) in named.chain(others) {
            let field = match spec.sources.contains_key(name) {
                true => format!("sources.{name}"),
                false => SOURCE.to_owned(),
            };
            inputs.push(Input::new(job, field, name, source)?);
        }
        for (i, lookup) in spec.lookups.iter().enumerate() {
            let source = dimension(&lookup.path, lookup.format, lookup.csv.as_ref());
            inputs.push(Input::new(job, format!("lookups[{i}]"), "", &source)?);
        }
        for (i, labels) in spec.labels.iter().enumerate() {
            let source = dimension(&labels.path, labels.format, labels.csv.as_ref());
            inputs.push(Input::new(job, format!("labels[{i}]"), "", &source)?);
        }
        // Boxed: the compiler can't prove nested closures over references to be `Send`.
        let listed: Vec<BoxFuture<'_, Result<Input>>> = inputs
            .into_iter()
            .map(|input| input.list(lister, job, dates).boxed())
            .collect();
        let mut logs = try_join_all(listed).await?;
        let labels = logs.split_off(logs.len() - spec.labels.len());
        let lookups = logs.split_off(logs.len() - spec.lookups.len());
        Ok(Self {
            job: job.clone(),
            logs,
            lookups,
            labels,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Input> {
        self.logs.iter().chain(&self.lookups).chain(&self.labels)
    }

    /// The files that the ranking of a date is computed from, in a fixed order.
    fn files_of(&self, date: NaiveDate) -> Vec<&ListedFile> {
        let mut files: Vec<&ListedFile> =
            self.all().flat_map(|input| input.files_of(date)).collect();
        files.sort_unstable_by(|a, b| a.input.cmp(&b.input));
        files.dedup_by(|a, b| a.input == b.input);
        files
    }

    /// Stored bytes of the logs that a date needs.
    pub(crate) fn log_bytes(&self, date: NaiveDate) -> u64 {
        let files = self.logs.iter().flat_map(|input| input.files_of(date));
        files.map(|file| file.input.size).sum()
    }

    /// Stored bytes of the dimensions that the logs are joined with.
    pub(crate) fn lookup_bytes(&self) -> u64 {
        let files = self.lookups.iter().flat_map(Input::listed);
        files.map(|file| file.input.size).sum()
    }

    /// What the ranking of a date is computed from. `previous` is what is published for the day
    /// before, if the ranking is compared with it.
    pub(crate) fn fingerprint(
        &self,
        spec_hash: &str,
        date: NaiveDate,
        previous: Option<&Commit>,
    ) -> Fingerprint {
        let files = self.files_of(date);
        let mut inputs: Vec<InputFile> = files.iter().map(|file| file.input.clone()).collect();
        inputs.extend(previous.and_then(previous_ranking));
        Fingerprint {
            spec_hash: spec_hash.to_owned(),
            engine_version: ENGINE_VERSION.to_owned(),
            inputs,
        }
    }

    /// The digest of the [`fingerprint`](Self::fingerprint), `previous` being that of
    /// [`previous_ranking`].
    pub(crate) fn digest(
        &self,
        spec_hash: &str,
        date: NaiveDate,
        previous: Option<FilesDigest>,
    ) -> Digest {
        let files = self.files_of(date);
        let inputs = files.iter().map(|file| file.digest).chain(previous);
        Digest::new(spec_hash, ENGINE_VERSION, inputs.collect())
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
        let files = dates.iter().flat_map(|date| self.files_of(*date));
        files
            .map(|file| (file.input.key.clone(), file.input.clone()))
            .collect()
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

/// A published ranking as an input of the next day's, which is compared with it.
pub(crate) fn previous_ranking(commit: &Commit) -> Option<InputFile> {
    commit.file(PARQUET_NAME).map(|file| InputFile {
        key: format!("the day before: {}", file.path),
        size: file.bytes,
        e_tag: Some(file.sha256.clone()),
    })
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
