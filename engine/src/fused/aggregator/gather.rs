//! Brings the groups of several tasks of one process together, in its memory.
//!
//! Nothing is written out and read again, as between processes: what the tasks found for a distinct
//! measure are sets of packed pairs, which need only be counted as one.

use std::thread;

use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

use super::{Aggregator, Finished, Measure, State, moved};
use crate::fused::groups::KeySource;
use crate::fused::pairs::{PairSet, count_union};
use crate::fused::texts::{LAST_CODE, TextNumbers, is_address};

/// What a task aggregated, its groups' keys as columns of results.
struct Part {
    keys: Vec<ArrayRef>,
    rows: usize,
    /// The task's number of each of these groups.
    numbers: Vec<u32>,
    /// For each measure, of distinct ones the values.
    sets: Vec<Option<Values>>,
}

/// Pairs of a task's groups and values; of texts their numbers in the task.
struct Values {
    set: Box<PairSet>,
    texts: Option<Box<TextNumbers>>,
}

/// The groups of all tasks.
pub(in crate::fused) struct Gathered {
    merged: Aggregator,
    parts: Vec<Part>,
}

impl Gathered {
    /// `sources` as in [`Aggregator::expect`], of the keys of results.
    pub(in crate::fused) fn new(sources: Vec<KeySource>, measures: Vec<Measure>) -> Self {
        let mut merged = Aggregator::new(measures);
        merged.expect(|| sources);
        Self {
            merged,
            parts: Vec::new(),
        }
    }

    /// Takes all of a task's groups; `keys` makes the columns of results of the aggregator's.
    pub(in crate::fused) fn add(
        &mut self,
        mut task: Aggregator,
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<()> {
        if task.is_empty() {
            return Ok(());
        }
        let numbers = task.present();
        let keys = task.move_groups(&mut self.merged, &numbers, keys)?;
        let sets = task.states.into_iter().map(|state| match state {
            State::Distinct { set, texts, .. } => Some(Values { set, texts }),
            _ => None,
        });
        self.parts.push(Part {
            keys,
            rows: numbers.len(),
            numbers,
            sets: sets.collect(),
        });
        Ok(())
    }

    /// The results, counted by so many threads.
    pub(in crate::fused) fn finish(mut self, threads: usize) -> Result<Finished<ArrayRef>> {
        let mut moved = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            // Only now: each task's keys may have laid the groups out anew.
            self.merged.number(&part.keys, part.rows)?;
            moved.push(Moved::new(&part.numbers, &self.merged.numbers));
        }
        let groups = self.merged.groups.as_ref().map_or(0, |groups| groups.len());
        for (at, state) in self.merged.states.iter_mut().enumerate() {
            let State::Distinct { counts, .. } = state else {
                continue;
            };
            let parts = self.parts.iter_mut();
            let values: Vec<Values> = parts.filter_map(|part| part.sets[at].take()).collect();
            let found = count(values, &moved, groups, threads)?;
            *counts = found.into_iter().map(|count| count as i64).collect();
        }
        self.merged.finish()
    }
}

/// The new numbers of a task's groups; none if they keep theirs.
pub(super) struct Moved(Option<Vec<u32>>);

impl Moved {
    pub(super) fn new(from: &[u32], to: &[u32]) -> Self {
        Self((from != to).then(|| moved(from, to)))
    }

    /// Whether all keep theirs.
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn group(&self, group: u32) -> u32 {
        match &self.0 {
            None => group,
            Some(moved) => moved[group as usize],
        }
    }
}

/// The number of different values of each group, whose new numbers are `moved`, for each task.
fn count(
    mut tasks: Vec<Values>,
    moved: &[Moved],
    groups: usize,
    threads: usize,
) -> Result<Vec<u64>> {
    let mut all = TextNumbers::default();
    let mut renumbered: Vec<Option<Vec<u32>>> = Vec::with_capacity(tasks.len());
    for task in &mut tasks {
        renumbered.push(match &mut task.texts {
            None => None,
            Some(texts) => Some(all.number(&texts.texts()?)?.to_vec()),
        });
    }
    let windows = tasks.iter().map(|task| task.set.window());
    let (min, max) = windows.fold((i64::MAX, i64::MIN), |(min, max), (a, b)| {
        (min.min(a), max.max(b))
    });
    let (min, max) = match renumbered.iter().any(Option::is_some) {
        true if is_address(max) => (0, LAST_CODE),
        true => (0, all.len().max(1) as i64 - 1),
        false => (min, max),
    };
    let alike = tasks
        .windows(2)
        .all(|pair| pair[0].set.is_like(&pair[1].set));
    let in_place =
        alike && renumbered.iter().all(Option::is_none) && moved.iter().all(Moved::is_none);
    let sets = match in_place {
        true => tasks.into_iter().map(|task| *task.set).collect(),
        false => thread::scope(|scope| {
            let work = tasks.into_iter().zip(moved).zip(&renumbered);
            let work: Vec<_> = work
                .map(|((mut task, moved), renumbered)| {
                    scope.spawn(move || {
                        let mut new = PairSet::new(groups, min, max);
                        task.set.for_each(|group, value| {
                            let value = match renumbered {
                                None => value,
                                Some(_) if is_address(value) => value,
                                Some(numbers) => i64::from(numbers[value as usize]),
                            };
                            new.insert_all(&[moved.group(group)], &[value], |_| true);
                        });
                        new
                    })
                })
                .collect();
            let done = work.into_iter().map(|work| work.join());
            done.map(|set| set.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        }),
    };
    Ok(count_union(sets, groups, threads))
}
