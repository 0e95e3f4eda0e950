//! Which queued runs start now: a pure decision.
//!
//! What it promises:
//! - Backfills and repairs have slots of their own: what a schedule or a person asked for never
//!   waits for their slots, nor they for its.
//! - Scheduled runs go before those that a person asked for, but not for ever: who has waited for
//!   [`PATIENCE`] is as urgent. Otherwise, first come, first served.
//! - Two runs of one job whose dates overlap never run at once, and a run that waits for that
//!   reason is not overtaken by later ones that would make it wait longer. A scheduled run
//!   doesn't wait for those of a backfill or a repair: they give way, and come again after it.
//! - Two load generations never run at once: each writes all over the lake.
//! - A backfill's runs start in their order, a limited number at once; of several backfills, the
//!   one with the fewest runs under way goes first. Where only one may run at once, it has to end
//!   before the next one begins, also if it waits for another attempt.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::model::{BackfillId, Priority, Run, RunId, RunKind, Trigger};
use crate::options::Limits;

/// After so long, a run that a person asked for is as urgent as a scheduled one.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// What the queue needs to know of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) id: RunId,
    /// None for load generation.
    pub(crate) job: Option<String>,
    pub(crate) dates: Option<(NaiveDate, NaiveDate)>,
    pub(crate) priority: Priority,
    pub(crate) backfill: Option<Place>,
    /// Since when it may start: when it was queued, or the end of its wait after a failure.
    pub(crate) ready_at: DateTime<Utc>,
}

/// A run's place in its backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: BackfillId,
    pub(crate) max_parallel: u32,
    pub(crate) sequence: u32,
}

impl From<&Run> for Item {
    fn from(run: &Run) -> Self {
        let (job, dates) = match &run.kind {
            RunKind::Ranking { job, from, to, .. } => (Some(job.clone()), Some((*from, *to))),
            RunKind::Generate { .. } => (None, None),
        };
        let backfill = match run.trigger {
            Trigger::Backfill {
                id,
                max_parallel,
                sequence,
            } => Some(Place {
                id,
                max_parallel: max_parallel.max(1),
                sequence,
            }),
            _ => None,
        };
        Self {
            id: run.id,
            job,
            dates,
            priority: run.trigger.priority(),
            backfill,
            ready_at: run.not_before.unwrap_or(run.submitted_at),
        }
    }
}

impl Item {
    fn is_background(&self) -> bool {
        self.priority == Priority::Background
    }

    /// Whether the two may not run at once.
    fn collides(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (self.dates, other.dates) else {
            // Of load generations.
            return self.dates == other.dates;
        };
        self.job == other.job && a.0 <= b.1 && b.0 <= a.1
    }
}

/// The runs to start, in order.
pub(crate) fn startable(
    queued: &[Item],
    running: &[Item],
    limits: &Limits,
    now: DateTime<Utc>,
) -> Vec<RunId> {
    let Urgent {
        mut taken,
        mut blocked,
        mut started,
        ..
    } = urgent(queued, running, limits, now);

    let first = first_of_backfills(queued.iter().chain(running));
    let is_next = |item: &&Item| {
        let place = item.backfill.filter(|place| place.max_parallel == 1);
        place.is_none_or(|place| first.get(&place.id) == Some(&place.sequence))
    };
    let ready = queued.iter().filter(|item| item.ready_at <= now);
    let background = ready.filter(|item| item.is_background());
    let mut background: Vec<&Item> = background.filter(is_next).collect();
    background.sort_by_key(|item| {
        let place = item.backfill.map(|place| place.sequence);
        (item.ready_at, place, item.id)
    });
    // The runs of a backfill in its order, whichever of them became ready first.
    let mut groups: Vec<(Option<BackfillId>, Vec<&Item>)> = Vec::new();
    let mut known: HashMap<Option<BackfillId>, usize> = HashMap::new();
    for item in background {
        let group = item.backfill.map(|place| place.id);
        let at = *known.entry(group).or_insert_with(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(item);
    }
    for (_, items) in &mut groups {
        items.sort_by_key(|item| (item.backfill.map(|p| p.sequence), item.ready_at, item.id));
        items.reverse();
    }
    while count(&taken, |t| t.is_background()) < limits.background_runs {
        // Groups are in the order in which their first run became ready: ties go to the oldest.
        let next = groups
            .iter_mut()
            .filter(|(_, items)| !items.is_empty())
            .min_by_key(|(group, _)| {
                let under_way = |t: &Item| t.is_background() && t.group() == *group;
                count(&taken, under_way)
            });
        let Some((group, items)) = next else {
            break;
        };
        let Some(item) = items.pop() else {
            break;
        };
        let at_most = item
            .backfill
            .map_or(usize::MAX, |p| p.max_parallel as usize);
        if group.is_some() && count(&taken, |t| t.group() == *group) >= at_most {
            // None of the others may start either.
            items.clear();
        } else if may_start(item, &taken, &blocked, limits) {
            taken.push(item);
            started.push(item.id);
        } else {
            blocked.push(item);
        }
    }
    started
}

/// The lowest place of each backfill among its runs that have not ended.
fn first_of_backfills<'a>(items: impl Iterator<Item = &'a Item>) -> HashMap<BackfillId, u32> {
    let mut first: HashMap<BackfillId, u32> = HashMap::new();
    for place in items.filter_map(|item| item.backfill) {
        let lowest = first.entry(place.id).or_insert(place.sequence);
        *lowest = place.sequence.min(*lowest);
    }
    first
}

/// The backfills' and repairs' runs under way that are to stop for a scheduled one, which could
/// start but for them.
pub(crate) fn giving_way(
    queued: &[Item],
    running: &[Item],
    limits: &Limits,
    now: DateTime<Utc>,
) -> Vec<RunId> {
    urgent(queued, running, limits, now).give_way
}

/// What becomes of those that a schedule or a person asked for.
struct Urgent<'a> {
    /// What runs, and what starts.
    taken: Vec<&'a Item>,
    /// What has to wait.
    blocked: Vec<&'a Item>,
    started: Vec<RunId>,
    /// What is to stop, so that they can start.
    give_way: Vec<RunId>,
}

fn urgent<'a>(
    queued: &'a [Item],
    running: &'a [Item],
    limits: &Limits,
    now: DateTime<Utc>,
) -> Urgent<'a> {
    let mut waiting: Vec<&Item> = queued
        .iter()
        .filter(|item| item.ready_at <= now && !item.is_background())
        .collect();
    waiting.sort_by_key(|item| {
        let waited = now - item.ready_at;
        let scheduled = item.priority == Priority::Scheduled || waited >= PATIENCE;
        (!scheduled, item.ready_at, item.id)
    });
    let (background, mut foreground): (Vec<&Item>, Vec<&Item>) =
        running.iter().partition(|item| item.is_background());
    // Slots are kept for those that others give way to.
    let mut blocked: Vec<&Item> = Vec::new();
    let mut started: Vec<&Item> = Vec::new();
    let mut give_way: Vec<RunId> = Vec::new();
    for item in waiting {
        let full = foreground.len() >= limits.runs;
        if full || !may_start(item, &foreground, &blocked, limits) {
            blocked.push(item);
            continue;
        }
        let in_its_way = || background.iter().filter(|other| item.collides(other));
        if in_its_way().next().is_none() {
            foreground.push(item);
            started.push(item);
            continue;
        }
        blocked.push(item);
        if item.priority == Priority::Scheduled {
            foreground.push(item);
            give_way.extend(in_its_way().map(|other| other.id));
        }
    }
    let taken = running.iter().chain(started.iter().copied());
    Urgent {
        taken: taken.collect(),
        blocked,
        started: started.iter().map(|item| item.id).collect(),
        give_way,
    }
}

impl Item {
    fn group(&self) -> Option<BackfillId> {
        self.backfill.map(|place| place.id)
    }
}

fn count(taken: &[&Item], of: impl Fn(&Item) -> bool) -> usize {
    taken.iter().filter(|item| of(item)).count()
}

/// Whether the job's other runs allow a start.
fn may_start(item: &Item, taken: &[&Item], blocked: &[&Item], limits: &Limits) -> bool {
    if taken
        .iter()
        .chain(blocked)
        .any(|other| item.collides(other))
    {
        return false;
    }
    if item.backfill.is_some() || item.job.is_none() {
        return true;
    }
    let alike = |t: &Item| {
        t.job == item.job && t.is_background() == item.is_background() && t.backfill.is_none()
    };
    count(taken, alike) < limits.runs_per_job
}
