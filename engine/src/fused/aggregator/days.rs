//! Groups of single days, from which those of windows of days are put together.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array, new_empty_array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::{Result, internal_err};

use super::extremes::Extremes;
use super::gather::Moved;
use super::rows::RowCounts;
use super::{Aggregator, Finished, Measure, State};
use crate::fused::groups::KeySource;
use crate::fused::pairs::{PairSet, WindowCounts, count_windows};

/// Days that can be kept: each has a bit of a word.
pub const MAX_DAYS: usize = u64::BITS as usize;

/// What a task aggregated of a day, or of a part of it.
struct Part {
    day: i32,
    /// As columns of results.
    keys: Vec<ArrayRef>,
    /// The task's number of each group, then its number among all.
    numbers: Vec<u32>,
    /// Rows of each group.
    rows: Vec<i64>,
    /// For each measure what was found for each group; of distinct ones nothing.
    found: Vec<Option<ArrayRef>>,
    sets: Vec<Option<Box<PairSet>>>,
}

/// The groups of all tasks, by day.
pub(in crate::fused) struct Days {
    /// Only numbers them.
    groups: Aggregator,
    measures: Vec<Measure>,
    parts: Vec<Part>,
}

impl Days {
    /// Whether what a measure finds in single days can be put together.
    pub(in crate::fused) fn takes(measure: &Measure) -> bool {
        match measure {
            Measure::Rows | Measure::Unmatched(_) | Measure::Values => true,
            Measure::Distinct { value_type, .. } => value_type.is_integer(),
            Measure::Extreme { .. } => true,
            Measure::Other { .. } => false,
        }
    }

    /// `sources` as in [`Aggregator::expect`], of the keys of results.
    pub(in crate::fused) fn new(sources: Vec<KeySource>, measures: Vec<Measure>) -> Self {
        let mut groups = Aggregator::new(Vec::new());
        groups.expect(|| sources);
        Self {
            groups,
            measures,
            parts: Vec::new(),
        }
    }

    /// Takes all groups of a task, which are of one day. `keys` makes the columns of results of the
    /// aggregator's.
    pub(in crate::fused) fn add(
        &mut self,
        day: i32,
        task: &mut Aggregator,
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<()> {
        if task.is_empty() {
            return Ok(());
        }
        let numbers = task.present();
        let rows = numbers.iter().map(|group| task.rows.get(*group as usize));
        let rows: Vec<i64> = rows.collect();
        let (keys, states) = task.plain_states(&numbers, keys)?;
        let measures = self.measures.iter();
        let found = states.into_iter().zip(measures).map(|(state, measure)| {
            let distinct = matches!(measure, Measure::Distinct { .. });
            state.into_iter().next().filter(|_| !distinct)
        });
        let found = found.collect();
        let sets = std::mem::take(&mut task.states).into_iter();
        let sets = sets.map(|state| match state {
            State::Distinct { set, .. } => Some(set),
            _ => None,
        });
        let sets = sets.collect();
        task.groups = None;
        task.rows = RowCounts::default();

        self.groups.number(&keys, rows.len())?;
        // So that they stay when all are laid out anew.
        let groups = self.groups.groups.as_ref().map_or(0, |groups| groups.len());
        self.groups.rows.add(&self.groups.numbers, groups);
        self.parts.push(Part {
            day,
            keys,
            numbers,
            rows,
            found,
            sets,
        });
        Ok(())
    }

    /// The groups of each window of days, one window after the other. Distinct values are counted by
    /// so many threads.
    pub(in crate::fused) fn windows(
        mut self,
        windows: Vec<RangeInclusive<i32>>,
        threads: usize,
    ) -> Result<Windows> {
        let days: BTreeSet<i32> = self.parts.iter().map(|part| part.day).collect();
        let days: Vec<i32> = days.into_iter().collect();
        if days.len() > MAX_DAYS {
            return internal_err!("the groups of {} days are kept by {MAX_DAYS}", days.len());
        }
        let mut moved = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            // Only now: each part's keys may have laid the groups out anew.
            self.groups.number(&part.keys, part.rows.len())?;
            moved.push(Moved::new(&part.numbers, &self.groups.numbers));
            part.numbers.clone_from(&self.groups.numbers);
            part.keys.clear();
        }
        let ever = self.groups.present();
        let (groups, keys) = match &mut self.groups.groups {
            Some(groups) => (groups.len(), groups.keys(&ever)?),
            // No row came.
            None => {
                let sources = self.groups.sources.iter().flatten();
                let none = sources.map(|source| new_empty_array(&source.data_type));
                (0, none.collect())
            }
        };
        let bit = |day: i32| 1u64 << days.partition_point(|other| *other < day);
        let of_window = |window: &RangeInclusive<i32>| {
            let days = days.iter().filter(|day| window.contains(day));
            days.fold(0, |bits, day| bits | bit(*day))
        };
        let masks: Vec<u64> = windows.iter().map(of_window).collect();
        let mut distinct = Vec::with_capacity(self.measures.len());
        for at in 0..self.measures.len() {
            let parts = self.parts.iter_mut().zip(&moved);
            let sets = parts.filter_map(|(part, moved)| {
                let set = part.sets[at].take()?;
                Some((bit(part.day), *set, moved))
            });
            let sets: Vec<_> = sets.collect();
            distinct.push(match sets.is_empty() {
                true => None,
                false => Some(count_windows(alike(sets, groups), &masks, groups, threads)),
            });
        }
        let running = |_: &Measure| vec![0; groups];
        Ok(Windows {
            running: self.measures.iter().map(running).collect(),
            rows: vec![0; groups],
            groups,
            ever,
            keys,
            windows: windows.into_iter(),
            held: vec![false; self.parts.len()],
            measures: self.measures,
            parts: self.parts,
            distinct,
        })
    }
}

/// Sets of one layout, whose groups have their numbers among all.
fn alike(sets: Vec<(u64, PairSet, &Moved)>, groups: usize) -> Vec<(u64, PairSet)> {
    let in_place = sets.iter().all(|(_, _, moved)| moved.is_none())
        && sets.windows(2).all(|two| two[0].1.is_like(&two[1].1));
    if in_place {
        return sets.into_iter().map(|(bit, set, _)| (bit, set)).collect();
    }
    let bounds = sets.iter().map(|(_, set, _)| set.window());
    let (min, max) = bounds.fold((i64::MAX, i64::MIN), |(min, max), (least, most)| {
        (min.min(least), max.max(most))
    });
    let moved = sets.into_iter().map(|(bit, mut set, moved)| {
        let mut new = PairSet::fixed(groups, min, max);
        set.for_each(|group, value| new.insert_all(&[moved.group(group)], &[value], |_| true));
        (bit, new)
    });
    moved.collect()
}

/// Gives the groups of one window after the other.
pub(in crate::fused) struct Windows {
    windows: std::vec::IntoIter<RangeInclusive<i32>>,
    measures: Vec<Measure>,
    parts: Vec<Part>,
    /// One more than the largest number of a group.
    groups: usize,
    /// Numbers of the groups that are in any part, ascending, and their keys.
    ever: Vec<u32>,
    keys: Vec<ArrayRef>,
    /// Of distinct measures.
    distinct: Vec<Option<WindowCounts>>,
    /// Whether a part is in the window.
    held: Vec<bool>,
    /// Rows of each group in the window.
    rows: Vec<i64>,
    /// For each measure that counts, what it comes to for each group in the window.
    running: Vec<Vec<i64>>,
}

impl Windows {
    /// The groups of the next window.
    pub(in crate::fused) fn next(&mut self) -> Result<Option<Finished<ArrayRef>>> {
        let Some(window) = self.windows.next() else {
            return Ok(None);
        };
        for (part, held) in self.parts.iter().zip(&mut self.held) {
            let is_in = window.contains(&part.day);
            let sign = i64::from(is_in) - i64::from(*held);
            *held = is_in;
            if sign == 0 {
                continue;
            }
            add(&mut self.rows, &part.numbers, &part.rows, sign);
            for (at, measure) in self.measures.iter().enumerate() {
                if let (Measure::Values | Measure::Unmatched(_), Some(counts)) =
                    (measure, &part.found[at])
                {
                    let counts = counts.as_primitive::<Int64Type>().values();
                    add(&mut self.running[at], &part.numbers, counts, sign);
                }
            }
        }
        let present: Vec<u32> = (0..self.ever.len() as u32)
            .filter(|at| self.rows[self.ever[*at as usize] as usize] != 0)
            .collect();
        let numbers = present.iter().map(|at| self.ever[*at as usize]);
        let numbers: Vec<u32> = numbers.collect();
        let mut measures = Vec::with_capacity(self.measures.len());
        for (at, measure) in self.measures.iter().enumerate() {
            let column = |counts: &[i64]| -> ArrayRef {
                let counts = numbers.iter().map(|group| counts[*group as usize]);
                Arc::new(Int64Array::from_iter_values(counts))
            };
            measures.push(match measure {
                Measure::Rows => column(&self.rows),
                Measure::Extreme {
                    smallest,
                    value_type,
                } => {
                    let mut extremes = Extremes::new(*smallest);
                    let parts = self.parts.iter().zip(&self.held);
                    for (part, _) in parts.filter(|(_, held)| **held) {
                        if let Some(found) = &part.found[at] {
                            extremes.merge(&part.numbers, self.groups, found)?;
                        }
                    }
                    extremes.column(&numbers, value_type)?
                }
                Measure::Distinct { .. } => {
                    if let Some(counts) = &mut self.distinct[at] {
                        counts.add_next(&mut self.running[at]);
                    }
                    column(&self.running[at])
                }
                _ => column(&self.running[at]),
            });
        }
        let present_at = UInt32Array::from(present);
        let keys = self.keys.iter().map(|keys| take(keys, &present_at, None));
        Ok(Some(Finished {
            groups: numbers.len(),
            keys: keys.collect::<Result<_, _>>()?,
            measures,
        }))
    }
}

fn add(sums: &mut [i64], numbers: &[u32], values: &[i64], sign: i64) {
    for (group, value) in numbers.iter().zip(values) {
        sums[*group as usize] += sign * value;
    }
}
