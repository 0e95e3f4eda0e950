//! What one task holds: its groups, and for each group what has been aggregated so far.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt32Type};
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;

use super::groups::{Groups, KeySource, Numbered};
use super::pairs::PairSet;
use super::spill::{CHUNK, PairFiles};
use super::texts::TextNumbers;

/// What is aggregated.
#[derive(Debug, Clone)]
pub(super) enum Measure {
    /// Rows.
    Rows,
    /// Rows whose key a dimension doesn't have, by the lookup's number.
    Unmatched(usize),
    /// Different values, of the type Int64 or Utf8View.
    Distinct {
        value_type: DataType,
        /// The smallest and the largest, as far as is known before reading.
        bounds: Option<(i64, i64)>,
    },
    /// Any other aggregate, by DataFusion's interface.
    Other {
        function: Arc<AggregateFunctionExpr>,
        /// The types of its arguments.
        types: Vec<DataType>,
    },
}

impl Measure {
    /// The columns that carry its state from one step to the next. `counted`: distinct values have
    /// been counted already, each in one task.
    pub(super) fn state_fields(&self, at: usize, counted: bool) -> Result<Vec<FieldRef>> {
        let field = |data_type| Arc::new(Field::new(format!("__s{at}"), data_type, true));
        Ok(match self {
            Self::Rows | Self::Unmatched(_) => vec![field(DataType::Int64)],
            Self::Distinct { .. } if counted => vec![field(DataType::Int64)],
            Self::Distinct { value_type, .. } => {
                vec![field(DataType::List(item_field(value_type)))]
            }
            Self::Other { function, .. } => {
                let fields = function.state_fields()?.into_iter().enumerate();
                let named = fields.map(|(i, field)| {
                    let field = field.as_ref().clone().with_name(format!("__s{at}_{i}"));
                    Arc::new(field.with_nullable(true))
                });
                named.collect()
            }
        })
    }
}

/// Values of a state: views keep all of their buffers in every slice, and a state travels in slices.
pub(super) fn state_type(value_type: &DataType) -> DataType {
    match value_type {
        DataType::Utf8View => DataType::LargeUtf8,
        other => other.clone(),
    }
}

fn item_field(value_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list_field(state_type(value_type), true))
}

/// A measure's part of some rows.
pub(super) struct Argument {
    /// The values; none for rows and unmatched rows.
    pub(super) values: Vec<ArrayRef>,
    /// Rows that count.
    pub(super) filter: Option<BooleanArray>,
}

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
    Other(Box<dyn GroupsAccumulator>),
}

/// Rows of each group; in half the memory of what they may come to.
#[derive(Default)]
struct RowCounts {
    low: Vec<u32>,
    high: Vec<i64>,
    /// Rows counted in `low` at most.
    pending: u64,
}

impl RowCounts {
    fn add(&mut self, groups: &[u32], len: usize) {
        self.low.resize(len.max(self.low.len()), 0);
        if self.pending + groups.len() as u64 > u64::from(u32::MAX) {
            self.settle();
        }
        self.pending += groups.len() as u64;
        for group in groups {
            self.low[*group as usize] += 1;
        }
    }

    fn settle(&mut self) {
        self.high.resize(self.low.len().max(self.high.len()), 0);
        for (high, low) in self.high.iter_mut().zip(&mut self.low) {
            *high += i64::from(std::mem::take(low));
        }
        self.pending = 0;
    }

    fn add_at(&mut self, group: usize, rows: i64) {
        self.high.resize(self.high.len().max(group + 1), 0);
        self.high[group] += rows;
    }

    fn get(&self, group: usize) -> i64 {
        let low = self.low.get(group).map_or(0, |rows| i64::from(*rows));
        low + self.high.get(group).copied().unwrap_or(0)
    }

    fn clear(&mut self) {
        self.low.fill(0);
        self.high.clear();
        self.pending = 0;
    }
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
    values: Vec<i64>,
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
            values: Vec::new(),
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
                    let Measure::Unmatched(lookup) = self.measures[at] else {
                        continue;
                    };
                    for row in &unmatched[lookup] {
                        let group = self.numbers[*row as usize] as usize;
                        if counts.len() <= group {
                            counts.resize(groups, 0);
                        }
                        counts[group] += 1;
                    }
                }
                State::Distinct { set, texts, .. } => {
                    set.reserve_groups(groups);
                    let column = &argument.values[0];
                    let values = match texts {
                        None => column.as_primitive::<Int64Type>().values(),
                        Some(texts) => {
                            let numbers = texts.number(column)?;
                            self.values.clear();
                            self.values.extend(numbers.iter().map(|n| i64::from(*n)));
                            self.values.as_slice()
                        }
                    };
                    let kept = kept_rows(column, argument.filter.as_ref());
                    match kept {
                        None => set.insert_all(&self.numbers, values, |_| true),
                        Some(kept) => {
                            let kept = kept.values();
                            set.insert_all(&self.numbers, values, |row| kept.value(row));
                        }
                    }
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
                let groups = Groups::new(sources, keys, gaps)?;
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
                    Measure::Unmatched(_) => State::Counts(Vec::new()),
                    Measure::Distinct { .. } => {
                        let (set, texts) = empty_set(measure, groups.expected());
                        State::Distinct {
                            set,
                            texts,
                            counts: Vec::new(),
                        }
                    }
                    Measure::Other { function, .. } => State::Other(accumulator(function)?),
                })
            })
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// Moves everything to groups that have room for `keys` as well.
    fn lay_out(&mut self, mut old: Groups, keys: &[ArrayRef]) -> Result<Groups> {
        let mut new = old.widened(keys)?;
        let before = old.len();
        let present: Vec<u32> = (0..before as u32)
            .filter(|group| self.rows.get(*group as usize) != 0)
            .collect();
        let old_keys = old.keys(&present)?;
        let mut numbers = Vec::new();
        while new.number(&old_keys, present.len(), &mut numbers)? == Numbered::Outside {
            new = new.widened(&old_keys)?;
        }
        let mut moved = vec![0u32; before];
        let mut rows = RowCounts::default();
        for (from, to) in present.iter().zip(&numbers) {
            moved[*from as usize] = *to;
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
                (State::Other(accumulator), State::Other(mut before)) => {
                    let all = before.state(EmitTo::All)?;
                    let indices = UInt32Array::from(present.clone());
                    let states: Vec<ArrayRef> = all
                        .iter()
                        .map(|column| take(column, &indices, None))
                        .collect::<Result<_, _>>()?;
                    if !present.is_empty() {
                        accumulator.merge_batch(&states, &wide, groups)?;
                    }
                }
                _ => {}
            }
        }
        Ok(new)
    }

    /// Groups that have been seen.
    fn present(&self) -> Vec<u32> {
        let Some(groups) = &self.groups else {
            return Vec::new();
        };
        let all = 0..groups.len() as u32;
        match groups.has_gaps() {
            true => all
                .filter(|group| self.rows.get(*group as usize) != 0)
                .collect(),
            false => all.collect(),
        }
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
        let indices = UInt32Array::from(present.clone());
        let all = present.len() == self.groups.as_ref().map_or(0, Groups::len);
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            columns.push(match state {
                State::Other(accumulator) => {
                    let values = accumulator.evaluate(EmitTo::All)?;
                    match all {
                        true => values,
                        false => take(&values, &indices, None)?,
                    }
                }
                counted => count_column(counted, &self.rows, &present, measure)?,
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
                State::Other(accumulator) => other_state(accumulator.as_mut(), &present)?,
                counted => vec![count_column(counted, &self.rows, &present, measure)?],
            });
        }
        self.finished(&present, columns)
    }

    /// The groups with the states of all measures, cut into `buckets` by the distinct value. Then
    /// there are no groups.
    pub(super) fn states(&mut self, buckets: u32) -> Result<Finished<StateColumns>> {
        let present = self.present();
        let len = self.groups.as_ref().map_or(0, Groups::len);
        let mut position = vec![0u32; len];
        for (at, group) in present.iter().enumerate() {
            position[*group as usize] = at as u32;
        }
        let mut columns = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            columns.push(match state {
                State::Other(accumulator) => StateColumns::Plain {
                    groups: other_state(accumulator.as_mut(), &present)?,
                    none: empty_state(measure)?,
                },
                State::Distinct { set, texts, .. } => {
                    StateColumns::Lists(lists(set, texts, &position, present.len(), buckets)?)
                }
                counted => StateColumns::Plain {
                    groups: vec![count_column(counted, &self.rows, &present, measure)?],
                    none: vec![Arc::new(Int64Array::from(vec![0]))],
                },
            });
        }
        self.finished(&present, columns)
    }

    /// Moves all groups to `merged`, whose keys are those that `keys` makes of this one's, and their
    /// distinct values to files. Gives the memory back.
    pub(super) fn drain(
        &mut self,
        merged: &mut Self,
        files: &mut [Option<PairFiles>],
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let present = self.present();
        let mut states = Vec::with_capacity(self.measures.len());
        for (state, measure) in self.states.iter_mut().zip(&self.measures) {
            states.push(match state {
                State::Other(accumulator) => other_state(accumulator.as_mut(), &present)?,
                // What was counted elsewhere, not what is about to go to disk.
                State::Distinct { counts, .. } => {
                    let count = |g: &u32| counts.get(*g as usize).copied().unwrap_or(0);
                    let counts: Vec<i64> = present.iter().map(count).collect();
                    vec![Arc::new(Int64Array::from(counts)) as ArrayRef]
                }
                counted => vec![count_column(counted, &self.rows, &present, measure)?],
            });
        }
        let len = self.groups.as_ref().map_or(0, Groups::len);
        let columns = match &mut self.groups {
            Some(groups) => groups.keys(&present)?,
            None => Vec::new(),
        };
        merged.merge(&keys(&columns, present.len())?, &states, present.len())?;
        let mut moved = vec![0u32; len];
        for (from, to) in present.iter().zip(&merged.numbers) {
            moved[*from as usize] = *to;
        }
        for (state, files) in self.states.iter_mut().zip(files) {
            if let (State::Distinct { set, texts, .. }, Some(files)) = (state, files) {
                write_pairs(set, texts, &moved, files)?;
            }
        }
        self.groups = None;
        self.states.clear();
        self.rows = RowCounts::default();
        Ok(())
    }

    /// Counts the distinct values that [`Aggregator::drain`] has put into files.
    pub(super) fn count_files(&mut self, files: Vec<Option<PairFiles>>) -> Result<()> {
        let groups = self.groups.as_ref().map_or(0, Groups::len);
        for ((state, measure), files) in self.states.iter_mut().zip(&self.measures).zip(files) {
            let (State::Distinct { counts, .. }, Some(files)) = (state, files) else {
                continue;
            };
            let (mut set, mut texts) = empty_set(measure, groups);
            let mut found = vec![0u64; groups];
            let mut numbers: Vec<i64> = Vec::new();
            files.read(
                &mut (&mut set, &mut texts),
                |(set, texts), batch| {
                    let of = batch.column(0).as_primitive::<UInt32Type>().values();
                    match texts {
                        None => {
                            let values = batch.column(1).as_primitive::<Int64Type>().values();
                            set.insert_all(of, values, |_| true);
                        }
                        Some(texts) => {
                            let values = texts.number(batch.column(1))?;
                            numbers.clear();
                            numbers.extend(values.iter().map(|number| i64::from(*number)));
                            set.insert_all(of, &numbers, |_| true);
                        }
                    }
                    Ok(())
                },
                |(set, texts)| {
                    set.add_counts(&mut found);
                    set.clear();
                    if let Some(texts) = texts {
                        **texts = TextNumbers::default();
                    }
                },
            )?;
            counts.resize(groups.max(counts.len()), 0);
            for (count, found) in counts.iter_mut().zip(found) {
                *count += found as i64;
            }
        }
        Ok(())
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
                State::Other(accumulator) => accumulator.size(),
            })
            .sum();
        let rows = self.rows.low.capacity() * size_of::<u32>()
            + self.rows.high.capacity() * size_of::<i64>();
        states + rows + self.groups.as_ref().map_or(0, Groups::size)
    }
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

/// Rows that count: those that are valid and pass the filter. None if all do.
fn kept_rows(column: &ArrayRef, passing: Option<&BooleanArray>) -> Option<BooleanArray> {
    let valid = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let passing = passing.map(|passing| match passing.nulls() {
        None => passing.values().clone(),
        Some(nulls) => passing.values() & nulls.inner(),
    });
    let kept = match (valid, passing) {
        (None, None) => return None,
        (Some(valid), None) => valid.inner().clone(),
        (None, Some(passing)) => passing,
        (Some(valid), Some(passing)) => valid.inner() & &passing,
    };
    Some(BooleanArray::new(kept, None))
}

fn add_counts(sums: &mut Vec<i64>, groups: usize, numbers: &[usize], counts: &ArrayRef) {
    sums.resize(groups.max(sums.len()), 0);
    let counts = counts.as_primitive::<Int64Type>();
    for (group, count) in numbers.iter().zip(counts.iter()) {
        sums[*group] += count.unwrap_or(0);
    }
}

fn insert_lists(
    set: &mut PairSet,
    texts: Option<&mut TextNumbers>,
    groups: &[u32],
    lists: &ListArray,
) -> Result<()> {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let values = lists.values().slice(first, last - first);
    let mut of_values = vec![0u32; values.len()];
    // A list that is null may still span values.
    let mut in_null = vec![];
    for (row, group) in groups.iter().enumerate() {
        let span = offsets[row] as usize - first..offsets[row + 1] as usize - first;
        if lists.is_null(row) {
            in_null.push(span.clone());
        }
        of_values[span].fill(*group);
    }
    let kept = |row: usize| !in_null.iter().any(|span| span.contains(&row));
    match texts {
        None => {
            let values = values.as_primitive::<Int64Type>().values();
            set.insert_all(&of_values, values, kept);
        }
        Some(texts) => {
            let numbers = texts.number(&values)?;
            let numbers: Vec<i64> = numbers.iter().map(|n| i64::from(*n)).collect();
            set.insert_all(&of_values, &numbers, kept);
        }
    }
    Ok(())
}

fn count_column(
    state: &mut State,
    rows: &RowCounts,
    present: &[u32],
    measure: &Measure,
) -> Result<ArrayRef> {
    let counts: Vec<i64> = match state {
        State::Rows => present.iter().map(|g| rows.get(*g as usize)).collect(),
        State::Counts(counts) => {
            let count = |group: &u32| counts.get(*group as usize).copied().unwrap_or(0);
            present.iter().map(count).collect()
        }
        State::Distinct { set, counts, .. } => {
            let groups = present.last().map_or(0, |last| *last as usize + 1);
            let mut found = vec![0u64; groups];
            set.add_counts(&mut found);
            let count = |group: &u32| {
                let group = *group as usize;
                found[group] as i64 + counts.get(group).copied().unwrap_or(0)
            };
            present.iter().map(count).collect()
        }
        State::Other(_) => {
            return Err(internal_datafusion_err!("{measure:?} is no count"));
        }
    };
    Ok(Arc::new(Int64Array::from(counts)))
}

fn other_state(accumulator: &mut dyn GroupsAccumulator, present: &[u32]) -> Result<Vec<ArrayRef>> {
    let indices = UInt32Array::from(present.to_vec());
    let states = accumulator.state(EmitTo::All)?;
    let taken = states
        .iter()
        .map(|column| Ok(take(column, &indices, None)?));
    taken.collect()
}

/// A set for the values of a distinct measure, and the numbers of its texts if it has texts.
fn empty_set(measure: &Measure, groups: usize) -> (Box<PairSet>, Option<Box<TextNumbers>>) {
    let (texts, bounds) = match measure {
        Measure::Distinct { value_type, bounds } => {
            let texts = (*value_type == DataType::Utf8View).then(Box::default);
            (texts, *bounds)
        }
        _ => (None, None),
    };
    let (min, max) = match texts {
        Some(_) => (0, (1 << 16) - 1),
        None => bounds.unwrap_or((0, i64::from(u32::MAX))),
    };
    let set = PairSet::new(groups.max(1 << 8), min, max);
    (Box::new(set), texts)
}

/// Writes the pairs of a set, whose groups have got other numbers.
fn write_pairs(
    set: &mut PairSet,
    texts: &mut Option<Box<TextNumbers>>,
    moved: &[u32],
    files: &mut PairFiles,
) -> Result<()> {
    let all_texts = match texts {
        Some(texts) => Some(cast(&texts.texts()?, &DataType::LargeUtf8)?),
        None => None,
    };
    let mut groups: Vec<u32> = Vec::with_capacity(CHUNK);
    let mut values: Vec<i64> = Vec::with_capacity(CHUNK);
    let mut written = Ok(());
    let mut write = |groups: &mut Vec<u32>, values: &mut Vec<i64>| {
        let mut column: ArrayRef = Arc::new(Int64Array::from(std::mem::take(values)));
        if let Some(texts) = &all_texts {
            column = take(texts, &cast(&column, &DataType::UInt32)?, None)?;
        }
        files.write(groups, &column)?;
        groups.clear();
        Ok(())
    };
    set.for_each(|group, value| {
        groups.push(moved[group as usize]);
        values.push(value);
        if groups.len() == CHUNK && written.is_ok() {
            written = write(&mut groups, &mut values);
        }
    });
    written?;
    write(&mut groups, &mut values)
}

/// The state of a group of which no row counted.
fn empty_state(measure: &Measure) -> Result<Vec<ArrayRef>> {
    let Measure::Other { function, types } = measure else {
        return Err(internal_datafusion_err!("{measure:?} has no accumulator"));
    };
    let mut accumulator = accumulator(function)?;
    let nulls = types.iter().map(|data_type| new_null_array(data_type, 1));
    let nulls: Vec<ArrayRef> = nulls.collect();
    let none = BooleanArray::from(vec![false]);
    accumulator.update_batch(&nulls, &[0], Some(&none), 1)?;
    accumulator.state(EmitTo::All)
}

/// For each bucket the values of each present group. `position` is a group's place among them.
fn lists(
    set: &mut PairSet,
    texts: &mut Option<Box<TextNumbers>>,
    position: &[u32],
    groups: usize,
    buckets: u32,
) -> Result<Vec<ListArray>> {
    let mut pairs: Vec<(u32, i64)> = Vec::new();
    set.for_each(|group, value| pairs.push((position[group as usize], value)));
    let mut values: ArrayRef = Arc::new(Int64Array::from_iter_values(pairs.iter().map(|p| p.1)));
    if let Some(texts) = texts {
        let numbers = cast(&values, &DataType::UInt32)?;
        let of_pairs = take(&texts.texts()?, &numbers, None)?;
        values = cast(&of_pairs, &DataType::LargeUtf8)?;
    }
    let mut hashes = vec![0u64; pairs.len()];
    let seed = REPARTITION_RANDOM_STATE.random_state();
    create_hashes([&values], seed, &mut hashes)?;
    // Not by the low bits: the repartition of rows goes by those.
    let bucket = |hash: u64| ((hash >> 32) % u64::from(buckets)) as usize;
    let cell = |at: usize| bucket(hashes[at]) * groups + pairs[at].0 as usize;

    // A counting sort by (bucket, group).
    let mut ends = vec![0usize; buckets as usize * groups + 1];
    for at in 0..pairs.len() {
        ends[cell(at) + 1] += 1;
    }
    for i in 1..ends.len() {
        ends[i] += ends[i - 1];
    }
    let starts = ends.clone();
    let mut order = vec![0u32; pairs.len()];
    for at in 0..pairs.len() {
        let place = &mut ends[cell(at)];
        order[*place] = u32::try_from(at)
            .map_err(|_| exec_datafusion_err!("more than 2^32 distinct values in one task"))?;
        *place += 1;
    }
    let values = take(&values, &UInt32Array::from(order), None)?;
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    (0..buckets as usize)
        .map(|bucket| {
            let starts = &starts[bucket * groups..=(bucket + 1) * groups];
            let (first, last) = (starts[0], starts[groups]);
            let offsets: Vec<i32> = starts
                .iter()
                .map(|start| {
                    i32::try_from(start - first).map_err(|_| {
                        exec_datafusion_err!("more than 2^31 distinct values in one task")
                    })
                })
                .collect::<Result<_>>()?;
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
            let values = values.slice(first, last - first);
            Ok(ListArray::try_new(
                Arc::clone(&field),
                offsets,
                values,
                None,
            )?)
        })
        .collect()
}

/// As DataFusion's own aggregation does it.
fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    let new = move || function.create_accumulator();
    Ok(Box::new(GroupsAccumulatorAdapter::new(new)))
}
