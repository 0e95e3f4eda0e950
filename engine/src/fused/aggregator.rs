//! What one task holds: its groups, and for each group what has been aggregated so far.

mod days;
mod extremes;
mod gather;
mod measure;
mod rows;
mod short;
mod states;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

pub use self::days::MAX_DAYS;
pub(super) use self::days::{Days, Windows};
use self::extremes::Extremes;
pub(super) use self::gather::Gathered;
pub(super) use self::measure::{Argument, Measure, state_type};
use self::rows::RowCounts;
use self::states::{
    accumulator, add_counts, empty_set, empty_state, insert_lists, insert_values, lists,
    plain_column,
};
use super::groups::{Groups, KeySource, Numbered};
use super::pairs::PairSet;
use super::texts::TextNumbers;

enum State {
    Rows,
    /// Of unmatched rows, or whatever has been counted elsewhere.
    Counts(Vec<i64>),
    Distinct {
        set: Box<PairSet>,
        texts: Option<Box<TextNumbers>>,
        /// Counted elsewhere, in a final step.
        counts: Vec<i64>,
    },
    Extreme(Extremes),
    Other(Box<dyn GroupsAccumulator>),
}

/// Groups and their aggregates.
pub(super) struct Aggregator {
    /// None until the first row comes.
    sources: Option<Vec<KeySource>>,
    measures: Vec<Measure>,
    groups: Option<Groups>,
    rows: RowCounts,
    states: Vec<State>,
    numbers: Vec<u32>,
    wide_numbers: Vec<usize>,
    /// Whether a key lay outside of what was expected.
    laid_out: bool,
    /// Whether groups are numbered as they come from now on.
    sparse: bool,
}

impl Aggregator {
    /// Without groups. Their keys are those of [`Aggregator::expect`].
    pub(super) fn new(measures: Vec<Measure>) -> Self {
        Self {
            sources: None,
            measures,
            groups: None,
            rows: RowCounts::default(),
            states: Vec::new(),
            numbers: Vec::new(),
            wide_numbers: Vec::new(),
            laid_out: false,
            sparse: false,
        }
    }

    /// What the keys are, as far as is known when the first row comes.
    pub(super) fn expect(&mut self, sources: impl FnOnce() -> Vec<KeySource>) {
        self.sources.get_or_insert_with(sources);
    }

    /// Adds rows of the log: their keys, for each measure its argument, and for each lookup the
    /// rows whose key it doesn't have.
    pub(super) fn update(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        arguments: &[Argument],
        unmatched: &[Vec<u32>],
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.number(keys, rows)?;
        let groups = self.groups.as_ref().map_or(1, Groups::len).max(1);
        self.rows.add(&self.numbers, groups);
        if self.has_others() {
            self.widen_numbers();
        }
        for (at, argument) in arguments.iter().enumerate() {
            match &mut self.states[at] {
                State::Rows => {}
                State::Counts(counts) => {
                    counts.resize(groups.max(counts.len()), 0);
                    let mut count = |row: usize| counts[self.numbers[row] as usize] += 1;
                    match self.measures[at] {
                        Measure::Unmatched(lookup) => {
                            unmatched[lookup]
                                .iter()
                                .for_each(|row| count(*row as usize));
                        }
                        _ => match argument.kept() {
                            None => (0..rows).for_each(count),
                            Some(kept) => kept.set_indices().for_each(count),
                        },
                    }
                }
                State::Distinct { set, texts, .. } => {
                    set.reserve_groups(groups);
                    let column = &argument.values[0];
                    let texts = texts.as_deref_mut();
                    match argument.kept() {
                        None => insert_values(set, texts, &self.numbers, column, |_| true)?,
                        Some(kept) => {
                            let kept = |row| kept.value(row);
                            insert_values(set, texts, &self.numbers, column, kept)?;
                        }
                    }
                }
                State::Extreme(extremes) => {
                    let kept = argument.kept();
                    extremes.add(&self.numbers, groups, &argument.values[0], kept.as_ref())?;
                }
                State::Other(accumulator) => accumulator.update_batch(
                    &argument.values,
                    &self.wide_numbers,
                    argument.filter.as_ref(),
                    groups,
                )?,
            }
        }
        Ok(())
    }

    /// Adds states: keys, then for each measure its state's columns.
    pub(super) fn merge(
        &mut self,
        keys: &[ArrayRef],
        states: &[Vec<ArrayRef>],
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.number(keys, rows)?;
        let groups = self.groups.as_ref().map_or(1, Groups::len).max(1);
        self.widen_numbers();
        let counts_rows = |measure: &Measure| matches!(measure, Measure::Rows);
        if !self.measures.iter().any(counts_rows) {
            // Nothing else says that they have been seen.
            let groups = self.wide_numbers.iter();
            groups.for_each(|group| self.rows.add_at(*group, 1));
        }
        for (at, columns) in states.iter().enumerate() {
            match &mut self.states[at] {
                State::Rows => {
                    let counts = columns[0].as_primitive::<Int64Type>();
                    for (group, count) in self.wide_numbers.iter().zip(counts.values()) {
                        self.rows.add_at(*group, *count);
                    }
                }
                State::Counts(sums) => {
                    add_counts(sums, groups, &self.wide_numbers, &columns[0]);
                }
                State::Distinct { set, texts, counts } => match columns[0].data_type() {
                    DataType::Int64 => {
                        add_counts(counts, groups, &self.wide_numbers, &columns[0]);
                    }
                    _ => {
                        set.reserve_groups(groups);
                        let lists = columns[0].as_list::<i32>();
                        insert_lists(set, texts.as_deref_mut(), &self.numbers, lists)?;
                    }
                },
                State::Extreme(extremes) => {
                    extremes.merge(&self.numbers, groups, &columns[0])?;
                }
                State::Other(accumulator) => {
                    accumulator.merge_batch(columns, &self.wide_numbers, groups)?;
                }
            }
        }
        Ok(())
    }

    fn has_others(&self) -> bool {
        let mut others = self.measures.iter();
        others.any(|measure| matches!(measure, Measure::Other { .. }))
    }

    /// As DataFusion's accumulators want them.
    fn widen_numbers(&mut self) {
        self.wide_numbers.clear();
        let wide = self.numbers.iter().map(|number| *number as usize);
        self.wide_numbers.extend(wide);
    }

    /// Numbers the rows' groups, and lays them out anew if a key lies outside of what was expected.
    fn number(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        let mut groups = match self.groups.take() {
            Some(groups) => groups,
            None => {
                let sources = self.sources.clone().unwrap_or_default();
                let gaps = !self.has_others();
                let groups = match self.sparse {
                    true => Groups::hashed(sources)?,
                    false => Groups::new(sources, keys, gaps)?,
                };
                self.begin(&groups)?;
                groups
            }
        };
        while groups.number(keys, rows, &mut self.numbers)? == Numbered::Outside {
            groups = self.lay_out(groups, keys)?;
        }
        self.groups = Some(groups);
        Ok(())
    }

    /// As [`Aggregator::new`], but groups are numbered as they come: nothing is left out of those
    /// that were seen without a row.
    pub(super) fn hashed(sources: Vec<KeySource>, measures: Vec<Measure>) -> Result<Self> {
        let groups = Groups::hashed(sources.clone())?;
        let mut new = Self::new(measures);
        new.sources = Some(sources);
        new.begin(&groups)?;
        new.groups = Some(groups);
        Ok(new)
    }

    fn begin(&mut self, groups: &Groups) -> Result<()> {
        self.states = self
            .measures
            .iter()
            .map(|measure| {
                Ok(match measure {
                    Measure::Rows => State::Rows,
                    Measure::Unmatched(_) | Measure::Values => State::Counts(Vec::new()),
                    Measure::Distinct { .. } => {
                        let (set, texts) = empty_set(measure, groups.expected());
                        State::Distinct {
                            set,
                            texts,
                            counts: Vec::new(),
                        }
                    }
                    Measure::Extreme { smallest, .. } => State::Extreme(Extremes::new(*smallest)),
                    Measure::Other { function, .. } => State::Other(accumulator(function)?),
                })
            })
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// Moves everything to groups that have room for `keys` as well.
    fn lay_out(&mut self, mut old: Groups, keys: &[ArrayRef]) -> Result<Groups> {
        self.laid_out = true;
        let mut new = old.widened(keys)?;
        let present = seen(&old, &self.rows);
        let old_keys = old.keys(&present)?;
        let mut numbers = Vec::new();
        while new.number(&old_keys, present.len(), &mut numbers)? == Numbered::Outside {
            new = new.widened(&old_keys)?;
        }
        let moved = moved(&present, &numbers);
        let mut rows = RowCounts::default();
        for (from, to) in present.iter().zip(&numbers) {
            rows.add_at(*to as usize, self.rows.get(*from as usize));
        }
        self.rows = rows;
        let states = std::mem::take(&mut self.states);
        self.begin(&new)?;
        let wide: Vec<usize> = numbers.iter().map(|n| *n as usize).collect();
        let groups = new.len().max(1);
        for (state, before) in self.states.iter_mut().zip(states) {
            match (state, before) {
                (State::Counts(counts), State::Counts(before)) => {
                    counts.resize(groups, 0);
                    for (from, count) in before.iter().enumerate().filter(|(_, c)| **c != 0) {
                        counts[moved[from] as usize] += count;
                    }
                }
                (
                    State::Distinct { set, texts, .. },
                    State::Distinct {
                        set: mut pairs,
                        texts: known,
                        ..
                    },
                ) => {
                    set.reserve_groups(groups);
                    pairs.for_each(|group, value| {
                        set.insert_all(&[moved[group as usize]], &[value], |_| true);
                    });
                    *texts = known;
                }
                (State::Extreme(extremes), State::Extreme(mut before)) => {
                    before.renumber(&moved, groups);
                    *extremes = before;
                }
                (State::Other(accumulator), State::Other(mut before)) if !present.is_empty() => {
                    let states = before.state(EmitTo::All)?;
                    accumulator.merge_batch(&states, &wide, groups)?;
                }
                _ => {}
            }
        }
        Ok(new)
    }

    /// How groups are numbered now, for people; none before the first row.
    pub(super) fn groups_form(&self) -> Option<&'static str> {
        let dense = self.groups.as_ref()?.is_dense();
        Some(match (dense, self.laid_out) {
            (true, false) => "groups are array indices: their keys are few",
            (true, true) => {
                "groups are array indices, laid out anew for keys that weren't expected"
            }
            (false, _) => "groups are hashed: their keys are many, or of a type without order",
        })
    }

    fn present(&self) -> Vec<u32> {
        let groups = self.groups.as_ref();
        groups.map_or(Vec::new(), |groups| seen(groups, &self.rows))
    }

    /// Whether there is no group.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.len() == 0)
    }

    /// The groups with the result of each measure: a column for each source and for each measure.
    /// Then there are no groups.
    pub(super) fn finish(&mut self) -> Result<Finished<ArrayRef>> {
        let present = self.present();
        let mut columns = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            columns.push(match state {
                State::Other(accumulator) => accumulator.evaluate(EmitTo::All)?,
                counted => plain_column(counted, &self.rows, &present, measure)?,
            });
        }
        self.finished(&present, columns)
    }

    /// The groups with the states of all measures but distinct ones, whose values are counted.
    /// Then there are no groups.
    pub(super) fn counted_states(&mut self) -> Result<Finished<Vec<ArrayRef>>> {
        let present = self.present();
        let mut columns = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            columns.push(match state {
                State::Other(accumulator) => accumulator.state(EmitTo::All)?,
                counted => vec![plain_column(counted, &self.rows, &present, measure)?],
            });
        }
        self.finished(&present, columns)
    }

    /// The groups with the states of all measures, cut into `buckets` by the distinct value. Then
    /// there are no groups.
    pub(super) fn states(&mut self, buckets: u32) -> Result<Finished<StateColumns>> {
        let present = self.present();
        let position = positions(&present);
        let mut columns = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            columns.push(match state {
                State::Other(accumulator) => StateColumns::Plain {
                    groups: accumulator.state(EmitTo::All)?,
                    none: empty_state(measure)?,
                },
                State::Distinct { set, texts, .. } => {
                    StateColumns::Lists(lists(set, texts, &position, present.len(), buckets)?)
                }
                counted => StateColumns::Plain {
                    groups: vec![plain_column(counted, &self.rows, &present, measure)?],
                    none: empty_state(measure)?,
                },
            });
        }
        self.finished(&present, columns)
    }

    /// Moves the groups that are `present`, which are all, to `merged`, but for their distinct
    /// values. Their keys there.
    fn move_groups(
        &mut self,
        merged: &mut Self,
        present: &[u32],
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<Vec<ArrayRef>> {
        let (keys, states) = self.plain_states(present, keys)?;
        merged.merge(&keys, &states, present.len())?;
        Ok(keys)
    }

    /// The keys of the groups that are `present`, which are all, as results have them, and all their
    /// states but distinct values. The groups are forgotten by it.
    fn plain_states(
        &mut self,
        present: &[u32],
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<(Vec<ArrayRef>, Vec<Vec<ArrayRef>>)> {
        let mut states = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            states.push(match state {
                State::Other(accumulator) => accumulator.state(EmitTo::All)?,
                // What was counted elsewhere, not what is held here.
                State::Distinct { counts, .. } => {
                    let count = |g: &u32| counts.get(*g as usize).copied().unwrap_or(0);
                    let counts: Vec<i64> = present.iter().map(count).collect();
                    vec![Arc::new(Int64Array::from(counts)) as ArrayRef]
                }
                counted => vec![plain_column(counted, &self.rows, present, measure)?],
            });
        }
        let columns = match &mut self.groups {
            Some(groups) => groups.keys(present)?,
            None => Vec::new(),
        };
        Ok((keys(&columns, present.len())?, states))
    }

    fn finished<M>(&mut self, present: &[u32], measures: Vec<M>) -> Result<Finished<M>> {
        let keys = match &mut self.groups {
            Some(groups) => groups.keys(present)?,
            // No row came, so it isn't known of what type they would be.
            None => Vec::new(),
        };
        self.clear()?;
        Ok(Finished {
            groups: present.len(),
            keys,
            measures,
        })
    }

    /// Forgets all groups, but keeps what room and what layout there is.
    fn clear(&mut self) -> Result<()> {
        self.rows.clear();
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            match (state, measure) {
                (State::Counts(counts), _) => counts.clear(),
                (State::Distinct { set, texts, counts }, _) => {
                    set.clear();
                    *texts = texts.take().map(|_| Box::default());
                    counts.clear();
                }
                (State::Extreme(extremes), _) => extremes.clear(),
                (State::Other(state), Measure::Other { function, .. }) => {
                    *state = accumulator(function)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let states: usize = self
            .states
            .iter()
            .map(|state| match state {
                State::Rows => 0,
                State::Counts(counts) => counts.capacity() * size_of::<i64>(),
                State::Distinct { set, texts, counts } => {
                    let texts = texts.as_ref().map_or(0, |texts| texts.size());
                    set.size() + texts + counts.capacity() * size_of::<i64>()
                }
                State::Extreme(extremes) => extremes.size(),
                State::Other(accumulator) => accumulator.size(),
            })
            .sum();
        states + self.rows.size() + self.groups.as_ref().map_or(0, Groups::size)
    }
}

/// For each group its new number: those of `from`, ascending, become those of `to`.
fn moved(from: &[u32], to: &[u32]) -> Vec<u32> {
    let groups = from.last().map_or(0, |last| *last as usize + 1);
    let mut moved = vec![0u32; groups];
    for (from, to) in from.iter().zip(to) {
        moved[*from as usize] = *to;
    }
    moved
}

/// For each group its place among those that are `present`.
fn positions(present: &[u32]) -> Vec<u32> {
    moved(present, &(0..present.len() as u32).collect::<Vec<_>>())
}

/// Groups that have been seen: where there are accumulators of DataFusion's, all.
fn seen(groups: &Groups, rows: &RowCounts) -> Vec<u32> {
    let gaps = groups.has_gaps();
    let all = 0..groups.len() as u32;
    all.filter(|group| !gaps || rows.get(*group as usize) != 0)
        .collect()
}

/// Groups, and what was aggregated for them.
pub(super) struct Finished<M> {
    /// How many there are.
    pub(super) groups: usize,
    /// A column for each source.
    pub(super) keys: Vec<ArrayRef>,
    /// For each measure.
    pub(super) measures: Vec<M>,
}

/// The state of a measure for each group, cut by buckets of distinct values.
pub(super) enum StateColumns {
    /// Whole, for all groups, and that of a group without a row.
    Plain {
        groups: Vec<ArrayRef>,
        none: Vec<ArrayRef>,
    },
    /// For each bucket the lists of all groups.
    Lists(Vec<ListArray>),
}
