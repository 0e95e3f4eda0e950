//! From what a measure holds to columns of states and results, and back.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::rows::RowCounts;
use super::{Measure, State};
use crate::fused::pairs::PairSet;
use crate::fused::spill::{CHUNK, exchange_hashes};
use crate::fused::texts::{TextNumbers, texts_of};

pub(super) fn add_counts(sums: &mut Vec<i64>, groups: usize, numbers: &[usize], counts: &ArrayRef) {
    sums.resize(groups.max(sums.len()), 0);
    let counts = counts.as_primitive::<Int64Type>();
    for (group, count) in numbers.iter().zip(counts.iter()) {
        sums[*group] += count.unwrap_or(0);
    }
}

pub(super) fn insert_lists(
    set: &mut PairSet,
    texts: Option<&mut TextNumbers>,
    groups: &[u32],
    lists: &ListArray,
) -> Result<()> {
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let values = lists.values().slice(first, last - first);
    // A list that is null may still span values; no group has the largest number.
    let mut of_values = vec![u32::MAX; values.len()];
    for (row, group) in groups.iter().enumerate() {
        if lists.is_valid(row) {
            let span = offsets[row] as usize - first..offsets[row + 1] as usize - first;
            of_values[span].fill(*group);
        }
    }
    insert_values(set, texts, &of_values, &values, |row| {
        of_values[row] != u32::MAX
    })
}

/// What a measure that isn't DataFusion's has found, which is its state too.
pub(super) fn plain_column(
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
        State::Extreme(extremes) => {
            let Measure::Extreme { value_type, .. } = measure else {
                return Err(internal_datafusion_err!("{measure:?} has no extremes"));
            };
            return extremes.column(present, value_type);
        }
        State::Other(_) => {
            return Err(internal_datafusion_err!("{measure:?} is DataFusion's"));
        }
    };
    Ok(Arc::new(Int64Array::from(counts)))
}

/// A set for the values of a distinct measure, and the numbers of its texts if it has texts.
pub(super) fn empty_set(
    measure: &Measure,
    groups: usize,
) -> (Box<PairSet>, Option<Box<TextNumbers>>) {
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

/// All texts by their numbers; none if values are no texts.
fn all_texts(texts: &mut Option<Box<TextNumbers>>) -> Result<Option<ArrayRef>> {
    texts.as_mut().map(|texts| texts.texts()).transpose()
}

/// Values as states carry them: integers, or the texts of which they are the codes.
fn value_column(values: Vec<i64>, texts: Option<&ArrayRef>) -> ArrayRef {
    match texts {
        None => Arc::new(Int64Array::from(values)),
        Some(texts) => texts_of(texts, &values),
    }
}

/// Adds the pairs of groups and values, be those Int64 or texts to number, that are kept.
pub(super) fn insert_values(
    set: &mut PairSet,
    texts: Option<&mut TextNumbers>,
    groups: &[u32],
    values: &ArrayRef,
    kept: impl Fn(usize) -> bool,
) -> Result<()> {
    match texts {
        None => set.insert_all(groups, values.as_primitive::<Int64Type>().values(), kept),
        Some(texts) => set.insert_all(groups, texts.codes(values)?, kept),
    }
    Ok(())
}

/// Gives `write` the pairs of a set, some at a time.
pub(super) fn write_pairs(
    set: &mut PairSet,
    texts: &mut Option<Box<TextNumbers>>,
    mut write: impl FnMut(&[u32], &ArrayRef) -> Result<()>,
) -> Result<()> {
    let texts = all_texts(texts)?;
    let mut groups: Vec<u32> = Vec::with_capacity(CHUNK);
    let mut values: Vec<i64> = Vec::with_capacity(CHUNK);
    let mut written = Ok(());
    let mut flush = |groups: &mut Vec<u32>, values: &mut Vec<i64>| {
        let column = value_column(std::mem::take(values), texts.as_ref());
        write(groups, &column)?;
        groups.clear();
        Ok(())
    };
    set.for_each(|group, value| {
        groups.push(group);
        values.push(value);
        if groups.len() == CHUNK && written.is_ok() {
            written = flush(&mut groups, &mut values);
        }
    });
    written?;
    flush(&mut groups, &mut values)
}

/// The state of a group of which no row counted.
pub(super) fn empty_state(measure: &Measure) -> Result<Vec<ArrayRef>> {
    let (function, types) = match measure {
        Measure::Other { function, types } => (function, types),
        Measure::Extreme { value_type, .. } => return Ok(vec![new_null_array(value_type, 1)]),
        _ => return Ok(vec![Arc::new(Int64Array::from(vec![0]))]),
    };
    let mut accumulator = accumulator(function)?;
    let nulls = types.iter().map(|data_type| new_null_array(data_type, 1));
    let nulls: Vec<ArrayRef> = nulls.collect();
    let none = BooleanArray::from(vec![false]);
    accumulator.update_batch(&nulls, &[0], Some(&none), 1)?;
    accumulator.state(EmitTo::All)
}

/// For each bucket the values of each present group. `position` is a group's place among them.
pub(super) fn lists(
    set: &mut PairSet,
    texts: &mut Option<Box<TextNumbers>>,
    position: &[u32],
    groups: usize,
    buckets: u32,
) -> Result<Vec<ListArray>> {
    let mut pairs: Vec<(u32, i64)> = Vec::new();
    set.for_each(|group, value| pairs.push((position[group as usize], value)));
    let values = pairs.iter().map(|(_, value)| *value).collect();
    let values = value_column(values, all_texts(texts)?.as_ref());
    let hashes = exchange_hashes(&values)?;
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
pub(super) fn accumulator(
    function: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    let new = move || function.create_accumulator();
    Ok(Box::new(GroupsAccumulatorAdapter::new(new)))
}
