//! What is published, remembered by ETag.

mod find;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use rankmill_engine::{Location, Session};

use self::find::{find, look_at};
use crate::error::{Error, Result};
use crate::inputs::{Inputs, previous_ranking};
use crate::publication::{self, Commit, Digest, FilesDigest, Target, mark};
use crate::run::target_of;
use crate::spec::{Params, Spec};

/// Up to this many commit points are looked at one by one rather than by listing all.
const LOOKED_AT_ONE_BY_ONE: usize = 16;
/// Commit points that are remembered.
const MAX_REMEMBERED: usize = 100_000;
/// For so long the mark of the last commit is trusted: after that, commit points are looked at
/// even if it is the same, as a run may have died before it left its mark.
const MARK_TRUSTED_FOR: Duration = Duration::from_secs(30);

/// The part of a commit that tells where a date stands.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) generation: u64,
    made_from: Digest,
    rejected: Vec<Digest>,
    /// The ranking as an input of the day after.
    pub(super) as_previous: Option<FilesDigest>,
}

impl Facts {
    fn of(commit: &Commit) -> Self {
        Self {
            generation: commit.id.generation,
            made_from: Digest::from(&commit.fingerprint),
            rejected: commit.rejected.iter().map(Digest::from).collect(),
            as_previous: previous_ranking(commit).as_ref().map(FilesDigest::from),
        }
    }

    /// What would not be published again: what it was made from, and what was rolled back from.
    pub(super) fn known(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.made_from).chain(&self.rejected)
    }

    /// As [`Commit::covers`].
    pub(super) fn covers(&self, now: &Digest) -> bool {
        self.known().any(|known| known == now)
    }
}

/// The commit points of all output folders that were looked at lately.
#[derive(Default)]
pub(super) struct Commits(Mutex<Outputs>);

#[derive(Default)]
struct Outputs {
    by_place: HashMap<Location, Output>,
    /// Counts the looks, to tell which folder was not looked at for longest.
    looks: u64,
}

#[derive(Default)]
struct Output {
    last_look: u64,
    dates: BTreeMap<NaiveDate, Seen>,
}

/// What was seen of a date.
#[derive(Clone)]
struct Seen {
    /// None: nothing was published.
    commit: Option<Known>,
    /// None: without looking at the mark first.
    at: Option<Moment>,
}

/// A commit point in some version.
#[derive(Clone)]
struct Known {
    e_tag: Arc<str>,
    facts: Arc<Facts>,
}

/// What is published for dates; those for which nothing is are missing.
type Published = BTreeMap<NaiveDate, Known>;

/// When dates were looked at.
#[derive(Clone)]
struct Moment {
    begun: Instant,
    /// The mark of the last commit then.
    mark: Option<Arc<str>>,
}

impl Moment {
    async fn now(target: &Target) -> Result<Self, publication::Error> {
        Ok(Self {
            begun: Instant::now(),
            mark: mark(target).await?.map(Arc::from),
        })
    }

    /// Whether nothing was committed since an earlier one.
    fn is_as(&self, earlier: &Self) -> bool {
        self.mark == earlier.mark && self.begun < earlier.begun + MARK_TRUSTED_FOR
    }
}

impl Commits {
    /// What is published for some dates, which are in order.
    pub(super) async fn of(
        &self,
        session: &Session,
        spec: &Spec,
        params: &Params,
        dates: &[NaiveDate],
    ) -> Result<BTreeMap<NaiveDate, Arc<Facts>>> {
        let target = target_of(session, spec, params)?;
        let filled = spec.fill(params, NaiveDate::default());
        let place = Location::parse(&filled.output.path);
        let place = place.map_err(Inputs::engine_error(&spec.name))?;
        let found = self.look(&target, place, dates).await;
        let found = found.map_err(|source| Error::Publication {
            job: spec.name.clone(),
            source: Box::new(source),
        })?;
        let facts = found.into_iter().map(|(date, known)| (date, known.facts));
        Ok(facts.collect())
    }

    async fn look(
        &self,
        target: &Target,
        place: Location,
        dates: &[NaiveDate],
    ) -> Result<Published, publication::Error> {
        let seen = self.remembered(&place, dates);
        let commits = seen.iter();
        let commits = commits.filter_map(|(date, seen)| Some((*date, seen.commit.clone()?)));
        let known: Published = commits.collect();
        // On a disk a look at a date costs less than anything else.
        if dates.len() <= LOOKED_AT_ONE_BY_ONE || place.store_url().scheme() == "file" {
            let found = look_at(target, dates.iter().copied(), &known).await?;
            self.remember(place, dates, &found, None);
            return Ok(found);
        }
        // Before the dates: whatever is committed from now on leaves another mark.
        let now = Moment::now(target).await?;
        let is_seen = |date: &NaiveDate| {
            let at = seen.get(date).and_then(|seen| seen.at.as_ref());
            at.is_some_and(|at| now.is_as(at))
        };
        if dates.iter().all(is_seen) {
            return Ok(known);
        }
        let found = find(target, dates, &known).await?;
        self.remember(place, dates, &found, Some(&now));
        Ok(found)
    }

    fn remembered(&self, place: &Location, dates: &[NaiveDate]) -> BTreeMap<NaiveDate, Seen> {
        let outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = outputs.by_place.get(place);
        let known = known.into_iter().flat_map(|output| {
            let of_date = |date: &NaiveDate| Some((*date, output.dates.get(date)?.clone()));
            dates.iter().filter_map(of_date)
        });
        known.collect()
    }

    fn remember(
        &self,
        place: Location,
        dates: &[NaiveDate],
        found: &Published,
        at: Option<&Moment>,
    ) {
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.looks += 1;
        let look = outputs.looks;
        let output = outputs.by_place.entry(place).or_default();
        output.last_look = look;
        for date in dates {
            let commit = found.get(date).cloned();
            let e_tag = |known: &Option<Known>| known.as_ref().map(|k| Arc::clone(&k.e_tag));
            // What is as it was at an earlier moment is as good as seen then.
            let before = output.dates.get(date);
            let before = before.filter(|seen| e_tag(&seen.commit) == e_tag(&commit));
            let at = at.or_else(|| before?.at.as_ref()).cloned();
            output.dates.insert(*date, Seen { commit, at });
        }
        outputs.forget_oldest();
    }
}

impl Outputs {
    /// Keeps memory bounded.
    fn forget_oldest(&mut self) {
        let mut dates: usize = self.by_place.values().map(|o| o.dates.len()).sum();
        while dates > MAX_REMEMBERED {
            let places = self.by_place.iter();
            let oldest = places.min_by_key(|(_, output)| output.last_look);
            let Some(oldest) = oldest.map(|(place, _)| place.clone()) else {
                return;
            };
            let forgotten = self.by_place.remove(&oldest);
            dates -= forgotten.map_or(0, |output| output.dates.len());
        }
    }
}
