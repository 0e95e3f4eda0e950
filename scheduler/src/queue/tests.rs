//! The queue's promises, over random queues and over time.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
}

fn day(number: i64) -> NaiveDate {
    NaiveDate::default() + TimeDelta::days(number)
}

fn limits(runs: usize, background_runs: usize, runs_per_job: usize) -> Limits {
    Limits {
        runs,
        background_runs,
        runs_per_job,
        ..Limits::default()
    }
}

/// A run of job `job` for some days, queued at a minute.
fn item(priority: Priority, job: &str, from: i64, days: i64, ready: i64) -> Item {
    Item {
        id: RunId::new(),
        job: Some(job.to_owned()),
        dates: Some((day(from), day(from + days - 1))),
        priority,
        backfill: None,
        ready_at: at(ready),
    }
}

fn backfill(id: BackfillId, max_parallel: u32, sequence: u32, job: &str) -> Item {
    Item {
        backfill: Some(Place {
            id,
            max_parallel,
            sequence,
        }),
        ..item(Priority::Background, job, i64::from(sequence), 1, 0)
    }
}

#[test]
fn todays_run_starts_beside_a_backfill_of_its_job() {
    let id = BackfillId::new();
    let running = [backfill(id, 2, 0, "a"), backfill(id, 2, 1, "a")];
    let mut queued: Vec<Item> = (2..100).map(|s| backfill(id, 2, s, "a")).collect();
    let today = item(Priority::Scheduled, "a", 200, 1, 5);
    queued.push(today.clone());
    assert_eq!(
        startable(&queued, &running, &limits(1, 2, 1), at(9)),
        [today.id]
    );
}

#[test]
fn a_backfill_goes_on_beside_runs_that_fill_all_slots() {
    let running = [item(Priority::Scheduled, "b", 0, 1, 0)];
    let id = BackfillId::new();
    let queued = [
        item(Priority::Normal, "c", 0, 1, 0),
        backfill(id, 1, 1, "a"),
        backfill(id, 1, 0, "a"),
    ];
    let started = startable(&queued, &running, &limits(1, 2, 1), at(9));
    assert_eq!(started, [queued[2].id]);
}

#[test]
fn one_by_one_means_that_the_one_before_has_ended() {
    let id = BackfillId::new();
    let waits = Item {
        ready_at: at(20),
        ..backfill(id, 1, 0, "a")
    };
    let queued = [backfill(id, 1, 1, "a"), waits.clone()];
    let start = |queued: &[Item], running: &[Item], now| {
        startable(queued, running, &limits(1, 3, 1), at(now))
    };
    assert!(start(&queued, &[], 10).is_empty());
    assert_eq!(start(&queued, &[], 20), [waits.id]);
    assert!(start(&queued[..1], &[waits], 20).is_empty());
    assert_eq!(start(&queued[..1], &[], 10), [queued[0].id]);
}

#[test]
fn backfills_give_way_to_todays_run() {
    let id = BackfillId::new();
    let running = [backfill(id, 2, 3, "a"), backfill(id, 2, 9, "a")];
    let today = item(Priority::Scheduled, "a", 3, 2, 5);
    let give = |queued: &[Item], limits: &Limits| giving_way(queued, &running, limits, at(9));
    let queued = [today.clone(), backfill(id, 2, 4, "a")];
    assert_eq!(give(&queued, &limits(1, 2, 1)), [running[0].id]);
    // Nothing starts meanwhile that would be in its way again.
    assert!(startable(&queued, &running, &limits(1, 3, 1), at(9)).is_empty());
    let other = item(Priority::Normal, "b", 0, 1, 0);
    let both = [today.clone(), other.clone()];
    assert!(startable(&both, &running, &limits(1, 2, 1), at(9)).is_empty());
    assert_eq!(
        startable(&both, &running, &limits(2, 2, 1), at(9)),
        [other.id]
    );
    // Not for somebody who asked, nor before its time, nor where it has no slot.
    let asked = item(Priority::Normal, "a", 3, 2, 5);
    assert!(give(&[asked], &limits(1, 2, 1)).is_empty());
    let later = item(Priority::Scheduled, "a", 3, 2, 10);
    assert!(give(&[later], &limits(1, 2, 1)).is_empty());
    let full = [running[0].clone(), item(Priority::Normal, "b", 0, 1, 0)];
    assert!(giving_way(&queued, &full, &limits(1, 2, 1), at(9)).is_empty());
    // Once the way is free.
    let free = &running[1..];
    assert_eq!(
        startable(&queued, free, &limits(1, 2, 1), at(9)),
        [today.id]
    );
}

#[test]
fn two_backfills_share_the_slots() {
    let (a, b) = (BackfillId::new(), BackfillId::new());
    let mut queued: Vec<Item> = (0..10).map(|s| backfill(a, 8, s, "a")).collect();
    queued.extend((0..10).map(|s| backfill(b, 8, s, "b")));
    let started = startable(&queued, &[], &limits(1, 4, 1), at(9));
    let of_a = queued[..10].iter().filter(|i| started.contains(&i.id));
    assert_eq!((started.len(), of_a.count()), (4, 2));
}

#[test]
fn a_wide_run_is_not_overtaken_for_ever() {
    let running = [item(Priority::Normal, "a", 0, 1, 0)];
    let wide = item(Priority::Normal, "a", 0, 100, 1);
    let narrow = item(Priority::Normal, "a", 50, 1, 2);
    let other = item(Priority::Normal, "a", 150, 1, 3);
    let queued = [narrow, other.clone(), wide];
    let started = startable(&queued, &running, &limits(4, 2, 4), at(9));
    assert_eq!(started, [other.id]);
}

#[test]
fn patience_ends() {
    let asked = item(Priority::Normal, "a", 0, 1, 0);
    let scheduled = item(Priority::Scheduled, "b", 0, 1, 1);
    let queued = [scheduled.clone(), asked.clone()];
    let first = |now| startable(&queued, &[], &limits(1, 1, 1), at(now));
    assert_eq!(first(9), [scheduled.id]);
    assert_eq!(first(10), [asked.id]);
}

/// Random queues. Backfills are numbered; so are jobs.
fn items(most: usize) -> impl Strategy<Value = Vec<Item>> {
    let backfills: Vec<BackfillId> = (0..3).map(|_| BackfillId::new()).collect();
    let one = (0..4usize, 0..3usize, 0..8i64, 1..4i64, 0..30i64, 0..6u32);
    let one = one.prop_map(move |(kind, job, from, days, ready, sequence)| {
        let name = ["a", "b", "c"][job];
        match kind {
            0 => item(Priority::Scheduled, name, from, days, ready),
            1 => item(Priority::Normal, name, from, days, ready),
            2 => item(Priority::Background, name, from, 1, ready),
            _ => Item {
                // A backfill has one job and one limit.
                ready_at: at(ready),
                ..backfill(backfills[job], 1 + job as u32, sequence, name)
            },
        }
    });
    prop::collection::vec(one, 0..most)
}

/// Everything that must hold of what runs at once.
fn check_together(running: &[&Item], limits: &Limits) -> Result<(), TestCaseError> {
    for (i, a) in running.iter().enumerate() {
        for b in &running[..i] {
            prop_assert!(!a.collides(b), "{a:?} and {b:?}");
        }
    }
    let background = running.iter().filter(|i| i.is_background()).count();
    prop_assert!(background <= limits.background_runs);
    prop_assert!(running.len() - background <= limits.runs);
    let mut of_job: HashMap<_, usize> = HashMap::new();
    let mut of_backfill: HashMap<_, usize> = HashMap::new();
    for item in running {
        match item.backfill {
            Some(place) => {
                let count = of_backfill.entry(place.id).or_default();
                *count += 1;
                prop_assert!(*count <= place.max_parallel as usize);
            }
            None => {
                let count = of_job.entry((&item.job, item.is_background())).or_default();
                *count += 1;
                prop_assert!(*count <= limits.runs_per_job);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_starts_may_run_together(
        queued in items(30),
        slots in (1..5usize, 1..4usize, 1..3usize),
        now in 0..40i64,
    ) {
        let limits = limits(slots.0, slots.1, slots.2);
        // What runs is what once started.
        let (first, second) = queued.split_at(queued.len() / 2);
        let started: HashSet<RunId> = startable(first, &[], &limits, at(now)).into_iter().collect();
        let running: Vec<Item> = first.iter().filter(|i| started.contains(&i.id)).cloned().collect();
        let next = startable(second, &running, &limits, at(now));
        let mut together: Vec<&Item> = running.iter().collect();
        for id in &next {
            let item = second.iter().find(|i| i.id == *id);
            let item = item.ok_or_else(|| TestCaseError::fail("started what is not queued"))?;
            prop_assert!(item.ready_at <= at(now), "too early");
            together.push(item);
        }
        prop_assert_eq!(next.iter().collect::<HashSet<_>>().len(), next.len());
        check_together(&together, &limits)?;
        // No slot is left free while a run could have it, unless it would make another wait longer.
        let blocked: Vec<&Item> = second
            .iter()
            .filter(|i| i.ready_at <= at(now) && !next.contains(&i.id))
            .collect();
        // Slots are kept for scheduled runs that others give way to.
        let gives_way: HashSet<RunId> =
            giving_way(second, &running, &limits, at(now)).into_iter().collect();
        let leaving = |item: &&&Item| gives_way.contains(&item.id);
        prop_assert!(together.iter().filter(leaving).all(|item| item.is_background()));
        let kept: Vec<&Item> = blocked
            .iter()
            .filter(|i| i.priority == Priority::Scheduled)
            .filter(|i| together.iter().filter(leaving).any(|other| other.collides(i)))
            .copied()
            .collect();
        prop_assert_eq!(kept.is_empty(), gives_way.is_empty());
        for item in &blocked {
            let in_the_way = blocked.iter().any(|other| other.id != item.id && other.collides(item));
            // One by one means that the one before has ended, not only that it doesn't run.
            let too_soon = item.backfill.is_some_and(|place| {
                let others = running.iter().chain(second).filter_map(|other| other.backfill);
                let earlier = |other: Place| other.id == place.id && other.sequence < place.sequence;
                place.max_parallel == 1 && others.into_iter().any(earlier)
            });
            let is_kept = kept.iter().any(|kept| kept.id == item.id);
            let in_the_way = in_the_way || is_kept;
            // What gives way still has its slot, of which only a scheduled run is sure.
            let counts = |other: &&&Item| item.is_background() || !leaving(other);
            let mut with: Vec<&Item> = together.iter().filter(counts).copied().collect();
            with.extend(&kept);
            with.push(item);
            prop_assert!(
                in_the_way || too_soon || check_together(&with, &limits).is_err(),
                "{:?} could start",
                item
            );
        }
    }

    #[test]
    fn a_backfill_starts_in_its_order(queued in items(30), slots in 1..4usize) {
        let started = startable(&queued, &[], &limits(1, slots, 1), at(40));
        let mut last: BTreeMap<String, u32> = BTreeMap::new();
        for id in &started {
            let Some(place) = queued.iter().find(|i| i.id == *id).and_then(|i| i.backfill) else {
                continue;
            };
            let last = last.entry(place.id.to_string()).or_default();
            prop_assert!(*last <= place.sequence);
            *last = place.sequence;
        }
    }

    /// Whatever foreground runs there are: those of the background start as if there were none,
    /// but for their dates; and the other way round.
    #[test]
    fn neither_kind_takes_the_others_slots(queued in items(30), slots in (1..4usize, 1..4usize)) {
        let limits = limits(slots.0, slots.1, 1);
        // Each kind has its own jobs, so that no dates overlap between them.
        let apart: Vec<Item> = queued
            .into_iter()
            .map(|mut item| {
                let kind = if item.is_background() { "x" } else { "y" };
                item.job = item.job.map(|job| job + kind);
                item
            })
            .collect();
        let (background, urgent): (Vec<Item>, Vec<Item>) =
            apart.iter().cloned().partition(|i| i.is_background());
        let mut alone = startable(&urgent, &[], &limits, at(40));
        alone.extend(startable(&background, &[], &limits, at(40)));
        prop_assert_eq!(startable(&apart, &[], &limits, at(40)), alone);
    }

    /// Each run takes a while; whatever comes later, all that was there at first has run before
    /// long.
    #[test]
    fn nobody_starves(
        first in items(12),
        later in items(60),
        slots in (1..4usize, 1..3usize, 1..3usize),
    ) {
        let limits = limits(slots.0, slots.1, slots.2);
        let waiting: HashSet<RunId> = first.iter().map(|i| i.id).collect();
        let mut queued: Vec<Item> = first.into_iter().map(|i| Item { ready_at: at(0), ..i }).collect();
        let mut running: Vec<(i64, Item)> = Vec::new();
        let mut later = later.into_iter().cycle();
        let mut done = HashSet::new();
        // Twelve runs, one after the other at worst, five minutes each, after the patience.
        let enough = 10 + 13 * 5 * 2;
        for now in 0..=enough {
            // Somebody always asks for more, on other dates than those of the background.
            if let Some(next) = later.next().filter(|next| !next.is_background()) {
                let far = next.dates.map(|(a, b)| (a + TimeDelta::days(1_000), b + TimeDelta::days(1_000)));
                queued.push(Item { id: RunId::new(), ready_at: at(now), dates: far, ..next });
            }
            running.retain(|(end, item)| {
                let goes_on = *end > now;
                if !goes_on {
                    done.insert(item.id);
                }
                goes_on
            });
            let under_way: Vec<Item> = running.iter().map(|(_, item)| item.clone()).collect();
            for id in startable(&queued, &under_way, &limits, at(now)) {
                if let Some(place) = queued.iter().position(|i| i.id == id) {
                    running.push((now + 5, queued.swap_remove(place)));
                }
            }
        }
        prop_assert!(waiting.is_subset(&done), "{:?}", waiting.difference(&done));
    }
}
