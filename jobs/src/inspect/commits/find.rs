//! Finds what is published, reading only the commit points that are not known in their present
//! version.

use chrono::NaiveDate;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{Arc, Facts, Known, Published};
use crate::publication::{Error, Look, Target, list_dates, list_versions, look};

/// Commit points looked at at once.
const CONCURRENT_LOOKS: usize = 32;

type Found = Result<Option<(NaiveDate, Known)>, Error>;

/// Finds what is published for many dates, which are in order.
pub(super) async fn find(
    target: &Target,
    dates: &[NaiveDate],
    known: &Published,
) -> Result<Published, Error> {
    let is_wanted = |date: &NaiveDate| dates.binary_search(date).is_ok();
    if known.len() < dates.len() / 2 {
        // Most must be read anyway. The folders are listed in a moment, what is in them is not.
        let there = list_dates(target).await?;
        return look_at(target, there.into_iter().filter(is_wanted), known).await;
    }
    let mut found = Published::new();
    let mut changed = Vec::new();
    let versions = list_versions(target).await?;
    for (date, e_tag) in versions.into_iter().filter(|(date, _)| is_wanted(date)) {
        match known.get(&date).filter(|known| *known.e_tag == *e_tag) {
            Some(known) => drop(found.insert(date, known.clone())),
            None => changed.push(date),
        }
    }
    found.extend(look_at(target, changed.into_iter(), known).await?);
    Ok(found)
}

/// Looks at dates one by one.
pub(super) async fn look_at(
    target: &Target,
    dates: impl Iterator<Item = NaiveDate>,
    known: &Published,
) -> Result<Published, Error> {
    // Boxed: the compiler can't prove nested closures over references to be `Send`.
    let looks: Vec<BoxFuture<'_, Found>> = dates
        .map(|date| {
            let known = known.get(&date);
            let look = async move {
                let e_tag = known.map(|known| &*known.e_tag);
                let found = match look(target, date, e_tag).await? {
                    Look::Absent => None,
                    Look::Unchanged => known.cloned(),
                    Look::Changed(commit, e_tag) => Some(Known {
                        e_tag: e_tag.into(),
                        facts: Arc::new(Facts::of(&commit)),
                    }),
                };
                Ok(found.map(|known| (date, known)))
            };
            look.boxed()
        })
        .collect();
    let found: Vec<Option<(NaiveDate, Known)>> = stream::iter(looks)
        .buffer_unordered(CONCURRENT_LOOKS)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}
