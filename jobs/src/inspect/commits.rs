//! What is published, remembered by ETag.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::NaiveDate;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use rankmill_engine::{Location, Session};

use crate::error::{Error, Result};
use crate::inputs::{Inputs, previous_ranking};
use crate::publication::{
    Commit, Digest, FilesDigest, Look, Target, list_dates, list_versions, look,
};
use crate::run::target_of;
use crate::spec::{Params, Spec};

/// Commit points looked at at once.
const CONCURRENT_LOOKS: usize = 32;
/// Up to this many commit points are looked at one by one rather than by listing all.
const LOOKED_AT_ONE_BY_ONE: usize = 16;
/// Commit points that are remembered.
const MAX_REMEMBERED: usize = 100_000;

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

    /// What must not be published again: see [`Commit::covers`].
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
    dates: BTreeMap<NaiveDate, Known>,
}

#[derive(Clone)]
struct Known {
    e_tag: String,
    facts: Arc<Facts>,
}

impl Commits {
    /// What is published for some dates, now.
    pub(super) async fn of(
        &self,
        session: &Session,
        spec: &Spec,
        params: &Params,
        dates: &[NaiveDate],
    ) -> Result<BTreeMap<NaiveDate, Arc<Facts>>> {
        let target = target_of(session, spec, params)?;
        let filled = spec.fill(params, NaiveDate::default());
        let place =
            Location::parse(&filled.output.path).map_err(Inputs::engine_error(&spec.name))?;
        let known = self.remembered(&place, dates);
        let found = find(&target, is_local(&place), dates, &known).await;
        let found = found.map_err(|source| Error::Publication {
            job: spec.name.clone(),
            source: Box::new(source),
        })?;
        self.remember(place, dates, &found);
        let facts = found.into_iter().map(|(date, known)| (date, known.facts));
        Ok(facts.collect())
    }

    fn remembered(&self, place: &Location, dates: &[NaiveDate]) -> BTreeMap<NaiveDate, Known> {
        let outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = outputs.by_place.get(place);
        let known = known.into_iter().flat_map(|output| {
            let of_date = |date: &NaiveDate| Some((*date, output.dates.get(date)?.clone()));
            dates.iter().filter_map(of_date)
        });
        known.collect()
    }

    fn remember(&self, place: Location, dates: &[NaiveDate], found: &BTreeMap<NaiveDate, Known>) {
        let mut outputs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.looks += 1;
        let look = outputs.looks;
        let output = outputs.by_place.entry(place).or_default();
        output.last_look = look;
        for date in dates {
            match found.get(date) {
                Some(known) => output.dates.insert(*date, known.clone()),
                None => output.dates.remove(date),
            };
        }
        while outputs
            .by_place
            .values()
            .map(|output| output.dates.len())
            .sum::<usize>()
            > MAX_REMEMBERED
        {
            let oldest = outputs
                .by_place
                .iter()
                .min_by_key(|(_, output)| output.last_look);
            let Some(oldest) = oldest.map(|(place, _)| place.clone()) else {
                break;
            };
            outputs.by_place.remove(&oldest);
        }
    }
}

fn is_local(place: &Location) -> bool {
    place.store_url().scheme() == "file"
}

/// Finds what is published for some dates, reading what is not known in its present version.
async fn find(
    target: &Target,
    local: bool,
    dates: &[NaiveDate],
    known: &BTreeMap<NaiveDate, Known>,
) -> Result<BTreeMap<NaiveDate, Known>, crate::publication::Error> {
    // A look costs less than a listing where there are few dates, and on a disk always.
    if local || dates.len() <= LOOKED_AT_ONE_BY_ONE {
        return look_at(target, dates.iter().copied(), known).await;
    }
    // The folders of the dates are listed in a moment, what is in them is not.
    if known.len() < dates.len() / 2 {
        let there = list_dates(target).await?;
        let there = there
            .into_iter()
            .filter(|date| dates.binary_search(date).is_ok());
        return look_at(target, there, known).await;
    }
    let versions = list_versions(target).await?;
    let mut found = BTreeMap::new();
    let mut changed = Vec::new();
    for (date, e_tag) in versions {
        if dates.binary_search(&date).is_err() {
            continue;
        }
        match known.get(&date).filter(|known| known.e_tag == e_tag) {
            Some(known) => drop(found.insert(date, known.clone())),
            None => changed.push(date),
        }
    }
    found.extend(look_at(target, changed.into_iter(), known).await?);
    Ok(found)
}

async fn look_at(
    target: &Target,
    dates: impl Iterator<Item = NaiveDate>,
    known: &BTreeMap<NaiveDate, Known>,
) -> Result<BTreeMap<NaiveDate, Known>, crate::publication::Error> {
    type Found = Result<Option<(NaiveDate, Known)>, crate::publication::Error>;
    // Boxed: the compiler can't prove nested closures over references to be `Send`.
    let looks: Vec<BoxFuture<'_, Found>> = dates
        .map(|date| {
            let known = known.get(&date);
            let look = async move {
                let e_tag = known.map(|known| known.e_tag.as_str());
                Ok(match look(target, date, e_tag).await? {
                    Look::Absent => None,
                    Look::Unchanged => known.map(|known| (date, known.clone())),
                    Look::Changed(commit, e_tag) => {
                        let facts = Arc::new(Facts::of(&commit));
                        Some((date, Known { e_tag, facts }))
                    }
                })
            };
            look.boxed()
        })
        .collect();
    let found: Vec<Option<_>> = stream::iter(looks)
        .buffer_unordered(CONCURRENT_LOOKS)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}
