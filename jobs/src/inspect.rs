//! Where the dates of a job stand: what a run would find, found for many dates and jobs at once
//! and without computing anything.
//!
//! The answer for a date is the one that [`run`](crate::run()) would come to if it were asked for
//! that date alone, now. It costs a listing of each input and a look at the output folder: commit
//! points, footers and what was found in files are remembered by their ETags.

mod commits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::NaiveDate;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use rankmill_engine::Session;

use self::commits::{Commits, Facts};
use crate::error::Result;
use crate::inputs::{Input, Inputs, Lister, Listings, Spans};
use crate::publication::{Digest, FilesDigest};
use crate::run::has_rows;
use crate::spec::{Params, Spec};

/// Dates that are listed, or whose files are looked into, at once.
const CONCURRENT_DATES: usize = 8;
/// Days of which it is remembered whether files have rows of them.
const MAX_DAYS: usize = 100_000;

/// Where a date of a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The date.
    pub date: NaiveDate,
    /// Where it stands.
    pub status: Status,
    /// The generation that is published, if there is one.
    pub generation: Option<u64>,
}

/// What a run would do about a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing: there is no input.
    NoSource,
    /// Publish it for the first time.
    Missing,
    /// Publish it anew.
    Stale(Change),
    /// Nothing: it is current.
    Published,
}

/// What has changed since a date was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The spec or a value of its placeholders; perhaps more.
    Spec,
    /// The input; perhaps the engine too.
    Input,
    /// The engine's version alone.
    Engine,
}

/// Inspects jobs. Cheap to clone; clones share what they remember, which is bounded.
#[derive(Clone)]
pub struct Inspector {
    session: Session,
    memory: Arc<Memory>,
}

/// What is remembered from one inspection to the next.
#[derive(Default)]
struct Memory {
    commits: Commits,
    spans: Spans,
    days: Mutex<HashMap<DayKey, bool>>,
}

/// A day of some files.
#[derive(PartialEq, Eq, Hash)]
struct DayKey {
    files: FilesDigest,
    column: String,
    zone: &'static str,
    day: NaiveDate,
}

/// Inspections that share their listings: what changes after the first look at a source is seen
/// by the next round only.
pub struct Round {
    inspector: Inspector,
    listings: Listings,
}

impl Inspector {
    /// Remembers nothing yet.
    pub fn new(session: Session) -> Self {
        Self {
            session,
            memory: Arc::default(),
        }
    }

    /// A round of inspections, which list each source once.
    pub fn round(&self) -> Round {
        Round {
            inspector: self.clone(),
            listings: Listings::default(),
        }
    }
}

impl Round {
    /// Where each of the dates stands, in their order.
    ///
    /// # Errors
    /// Those on which a run of the dates would fail before it computes: a dimension without
    /// files, a broken footer, a commit point that is not ours, a store that fails.
    pub async fn inspect(
        &self,
        spec: &Spec,
        params: &Params,
        dates: &[NaiveDate],
    ) -> Result<Vec<Inspection>> {
        let days_before = dates.iter().filter_map(|date| date.pred_opt());
        let days_before = days_before.filter(|_| spec.compares_ranks());
        let mut published: Vec<NaiveDate> = dates.iter().copied().chain(days_before).collect();
        published.sort_unstable();
        published.dedup();
        let Inspector { session, memory } = &self.inspector;
        let facts = memory.commits.of(session, spec, params, &published);
        let inputs = self.inputs(spec, params, dates);
        let (facts, inputs) = futures::try_join!(facts, inputs)?;
        let spec_hash = spec.hash(params);
        let inspected: Vec<BoxFuture<'_, Result<Inspection>>> = dates
            .iter()
            .map(|date| {
                let inputs = inputs.of(*date);
                let before = date.pred_opt().filter(|_| spec.compares_ranks());
                let previous = before
                    .and_then(|day| facts.get(&day))
                    .and_then(|facts| facts.as_previous);
                let current = facts.get(date).map(Arc::as_ref);
                self.inspect_date(spec, &spec_hash, inputs, *date, current, previous)
                    .boxed()
            })
            .collect();
        stream::iter(inspected)
            .buffered(CONCURRENT_DATES)
            .try_collect()
            .await
    }

    async fn inspect_date(
        &self,
        spec: &Spec,
        spec_hash: &str,
        inputs: &Inputs,
        date: NaiveDate,
        current: Option<&Facts>,
        previous: Option<FilesDigest>,
    ) -> Result<Inspection> {
        let inspection = |status| Inspection {
            date,
            status,
            generation: current.map(|current| current.generation),
        };
        if inputs.gap(date).is_some() {
            return Ok(inspection(Status::NoSource));
        }
        let now = inputs.digest(spec_hash, date, previous);
        if current.is_some_and(|current| current.covers(&now)) {
            return Ok(inspection(Status::Published));
        }
        for input in &inputs.logs {
            if !self.has_rows(spec, inputs, input, date).await? {
                return Ok(inspection(Status::NoSource));
            }
        }
        Ok(inspection(match current {
            None => Status::Missing,
            Some(current) => Status::Stale(change(current, &now)),
        }))
    }

    /// Whether an input has rows of a date, where only its files can tell.
    async fn has_rows(
        &self,
        spec: &Spec,
        inputs: &Inputs,
        input: &Input,
        date: NaiveDate,
    ) -> Result<bool> {
        let Some((column, zone)) = input.date_column() else {
            return Ok(true);
        };
        let key = DayKey {
            files: input.digest_of_day(date),
            column: column.to_owned(),
            zone: zone.name(),
            day: date,
        };
        let Inspector { session, memory } = &self.inspector;
        let days = || memory.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = days().get(&key) {
            return Ok(*known);
        }
        let found = has_rows(session, spec, inputs, input, date).await?;
        let mut days = days();
        if days.len() >= MAX_DAYS {
            days.clear();
        }
        days.insert(key, found);
        Ok(found)
    }

    async fn inputs(&self, spec: &Spec, params: &Params, dates: &[NaiveDate]) -> Result<Listed> {
        let Inspector { session, memory } = &self.inspector;
        let lister = Lister::shared(session, &self.listings, &memory.spans);
        if !spec.reads_by_date() {
            let filled = spec.fill(params, dates.first().copied().unwrap_or_default());
            let inputs = Inputs::list_with(&lister, &filled, dates).await?;
            return Ok(Listed::Together(Box::new(inputs)));
        }
        let lister = &lister;
        let listed: Vec<BoxFuture<'_, Result<(NaiveDate, Inputs)>>> = dates
            .iter()
            .map(|date| {
                let filled = spec.fill(params, *date);
                let listed = async move {
                    let inputs = Inputs::list_with(lister, &filled, &[*date]).await?;
                    Ok((*date, inputs))
                };
                listed.boxed()
            })
            .collect();
        let listed = stream::iter(listed).buffer_unordered(CONCURRENT_DATES);
        Ok(Listed::Apart(listed.try_collect().await?))
    }
}

/// The inputs of some dates.
enum Listed {
    /// They read the same paths.
    Together(Box<Inputs>),
    /// The paths depend on the date.
    Apart(HashMap<NaiveDate, Inputs>),
}

impl Listed {
    fn of(&self, date: NaiveDate) -> &Inputs {
        match self {
            Self::Together(inputs) => inputs,
            Self::Apart(inputs) => &inputs[&date],
        }
    }
}

/// What differs between what is published and what would be. After a rollback it is compared
/// with what was rolled back from as well, whichever is nearer.
fn change(published: &Facts, now: &Digest) -> Change {
    let same_spec = || published.known().filter(|known| known.spec == now.spec);
    match same_spec().next() {
        None => Change::Spec,
        Some(_) if same_spec().any(|known| known.inputs == now.inputs) => Change::Engine,
        Some(_) => Change::Input,
    }
}
