//! Exact distinct counts for many groups at once.
//!
//! DataFusion counts distinct texts with a set of its own for each group, which costs kilobytes
//! even for a group of one row: a ranking of web pages has tens of thousands of groups. Here all
//! groups share one set of (group, value) pairs; texts are numbered in one dictionary first.
//! The rule [`Aggregates`](crate::rules::Aggregates) puts it in place of `count(distinct x)`.

mod integers;
mod texts;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::{cast, filter};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use self::integers::IntegerPairs;
use self::texts::TextPairs;

/// A set of (group, value) pairs. Groups are numbered from 0.
trait Pairs: Default + Send + Sync + 'static {
    /// The type of the values.
    fn value_type() -> DataType;

    /// The type of the values in a state. Views keep all of their buffers in every slice, and a
    /// state travels in slices.
    fn state_type() -> DataType {
        Self::value_type()
    }

    /// Adds the pairs (`groups[row]`, value of the row) of the rows that are not null and kept.
    fn insert(&mut self, values: &ArrayRef, groups: &[usize], kept: impl Fn(usize) -> bool);

    /// How many values each of the first `groups` groups has.
    fn counts(&self, groups: usize) -> Vec<i64>;

    /// The values of the first `groups` groups, group by group, as [`Pairs::state_type`], and
    /// where each group begins.
    fn lists(&mut self, groups: usize) -> Result<(Vec<i32>, ArrayRef)>;

    /// Forgets the first `groups` groups; those behind them are numbered from 0 again.
    fn remove_first(&mut self, groups: usize);

    /// Bytes held.
    fn size(&self) -> usize;
}

/// Where the lists of the given lengths begin and end when they follow on each other.
fn offsets_of(counts: &[i64]) -> Result<Vec<i32>> {
    let mut offsets = vec![0];
    let mut end = 0;
    for count in counts {
        end += count;
        let offset = i32::try_from(end);
        offsets.push(
            offset
                .map_err(|_| exec_datafusion_err!("more than 2^31 distinct values in one task"))?,
        );
    }
    Ok(offsets)
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DistinctKind {
    /// Utf8View.
    Text,
    /// Int64.
    Integer,
}

/// `count_distinct_text(x)` and `count_distinct_integer(x)`: how many different values, as i64;
/// nulls don't count.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CountDistinct {
    kind: DistinctKind,
    signature: Signature,
}

impl CountDistinct {
    pub(crate) fn new(kind: DistinctKind) -> Self {
        Self {
            kind,
            signature: Signature::exact(vec![kind.value_type()], Volatility::Immutable),
        }
    }
}

impl DistinctKind {
    fn value_type(self) -> DataType {
        match self {
            Self::Text => TextPairs::value_type(),
            Self::Integer => IntegerPairs::value_type(),
        }
    }

    fn state_type(self) -> DataType {
        match self {
            Self::Text => TextPairs::state_type(),
            Self::Integer => IntegerPairs::state_type(),
        }
    }
}

fn item_field(value_type: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(value_type, true))
}

impl AggregateUDFImpl for CountDistinct {
    fn name(&self) -> &str {
        match self.kind {
            DistinctKind::Text => "count_distinct_text",
            DistinctKind::Integer => "count_distinct_integer",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    // As count: no row gives 0, never null.
    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _data_type: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(match self.kind {
            DistinctKind::Text => Box::new(SingleDistinct(DistinctGroups::<TextPairs>::default())),
            DistinctKind::Integer => {
                Box::new(SingleDistinct(DistinctGroups::<IntegerPairs>::default()))
            }
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "distinct");
        let list = DataType::List(item_field(self.kind.state_type()));
        Ok(vec![Arc::new(Field::new(name, list, true))])
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        _args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.kind {
            DistinctKind::Text => Box::new(DistinctGroups::<TextPairs>::default()),
            DistinctKind::Integer => Box::new(DistinctGroups::<IntegerPairs>::default()),
        })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Default)]
struct DistinctGroups<P> {
    pairs: P,
    groups: usize,
}

impl<P: Pairs> DistinctGroups<P> {
    fn grow(&mut self, total_num_groups: usize) -> Result<()> {
        self.groups = self.groups.max(total_num_groups);
        match u32::try_from(self.groups) {
            Ok(_) => Ok(()),
            Err(_) => Err(exec_datafusion_err!("more than 2^32 groups in one task")),
        }
    }

    /// The groups to emit; those behind them move to the front.
    fn emitted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(groups) => groups,
        }
    }
}

impl<P: Pairs> GroupsAccumulator for DistinctGroups<P> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups)?;
        self.pairs.insert(&values[0], group_indices, |row| {
            opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row))
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let emitted = self.emitted(emit_to);
        let counts = self.pairs.counts(emitted);
        self.pairs.remove_first(emitted);
        self.groups -= emitted;
        Ok(Arc::new(Int64Array::from(counts)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let emitted = self.emitted(emit_to);
        let (offsets, values) = self.pairs.lists(emitted)?;
        self.pairs.remove_first(emitted);
        self.groups -= emitted;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let lists = ListArray::try_new(item_field(P::state_type()), offsets, values, None)?;
        Ok(vec![Arc::new(lists)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups)?;
        let lists = values[0].as_list::<i32>();
        // A list that is null may still span values: only those of valid lists count.
        let mut groups = vec![usize::MAX; lists.values().len()];
        for (row, group) in group_indices.iter().enumerate() {
            if lists.is_valid(row) {
                let offsets = lists.value_offsets();
                groups[offsets[row] as usize..offsets[row + 1] as usize].fill(*group);
            }
        }
        let kept = |row: usize| groups[row] != usize::MAX;
        let values = cast(lists.values(), &P::value_type())?;
        self.pairs.insert(&values, &groups, kept);
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let kept: BooleanArray = (0..values[0].len())
            .map(|row| {
                let passes = opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row));
                Some(passes && values[0].is_valid(row))
            })
            .collect();
        let lengths = kept.values().iter().map(usize::from);
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let lists = ListArray::try_new(
            item_field(P::state_type()),
            offsets,
            cast(&filter(&values[0], &kept)?, &P::state_type())?,
            None,
        )?;
        Ok(vec![Arc::new(lists)])
    }

    fn size(&self) -> usize {
        self.pairs.size()
    }
}

/// The same without groups.
struct SingleDistinct<P>(DistinctGroups<P>);

impl<P> std::fmt::Debug for SingleDistinct<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SingleDistinct").finish_non_exhaustive()
    }
}

impl<P: Pairs> Accumulator for SingleDistinct<P> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let zeros = vec![0; values[0].len()];
        self.0.update_batch(values, &zeros, None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0.pairs.counts(1)[0])))
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.grow(1)?;
        let state = self.0.state(EmitTo::All)?;
        Ok(vec![ScalarValue::try_from_array(&state[0], 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let zeros = vec![0; states[0].len()];
        self.0.merge_batch(states, &zeros, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::StringViewArray;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn texts(values: &[Option<String>]) -> ArrayRef {
        Arc::new(
            values
                .iter()
                .map(Option::as_deref)
                .collect::<StringViewArray>(),
        )
    }

    /// A number for each text, some beyond 32 bits and some negative.
    fn integers(values: &[Option<String>]) -> ArrayRef {
        let number = |text: &String| {
            let digits = text.bytes().fold(0i64, |n, byte| {
                n.wrapping_mul(131).wrapping_add(i64::from(byte) + 1)
            });
            if digits % 3 == 0 {
                digits.wrapping_neg()
            } else {
                digits
            }
        };
        Arc::new(
            values
                .iter()
                .map(|v| v.as_ref().map(number))
                .collect::<Int64Array>(),
        )
    }

    fn counts(array: &ArrayRef) -> Vec<i64> {
        let counts = array.as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        counts.values().to_vec()
    }

    fn rows() -> impl Strategy<Value = Vec<(usize, Option<String>, bool)>> {
        let text = prop::option::weighted(
            0.8,
            "[ab]{0,2}|text 1[0-9]|a text longer than twelve bytes [0-9]",
        );
        prop::collection::vec((0usize..5, text, prop::bool::weighted(0.8)), 0..120)
    }

    proptest! {
        #[test]
        fn equals_a_set_for_each_group(rows in rows(), cut in 0usize..120, first in 0usize..6) {
            let mut expected: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
            for (group, text, kept) in &rows {
                if let (Some(text), true) = (text, kept) {
                    expected.entry(*group).or_default().insert(text);
                }
            }
            let expected: Vec<i64> =
                (0..5).map(|g| expected.get(&g).map_or(0, |set| set.len() as i64)).collect();

            prop_assert_eq!(&counted::<TextPairs>(&rows, cut, first, texts), &expected);
            prop_assert_eq!(&counted::<IntegerPairs>(&rows, cut, first, integers), &expected);
        }
    }

    /// Counts by two partial steps, one of which passes its rows on as they are, and a final one.
    fn counted<P: Pairs>(
        rows: &[(usize, Option<String>, bool)],
        cut: usize,
        first: usize,
        array: fn(&[Option<String>]) -> ArrayRef,
    ) -> Vec<i64> {
        let (left, right) = rows.split_at(cut.min(rows.len()));
        let columns = |part: &[(usize, Option<String>, bool)]| {
            let values: Vec<Option<String>> = part.iter().map(|r| r.1.clone()).collect();
            let groups: Vec<usize> = part.iter().map(|r| r.0).collect();
            let kept: BooleanArray = part.iter().map(|r| Some(r.2)).collect();
            (array(&values), groups, kept)
        };
        let (values, groups, kept) = columns(left);
        let mut partial = DistinctGroups::<P>::default();
        partial
            .update_batch(&[values], &groups, Some(&kept), 5)
            .unwrap();
        let mut whole = DistinctGroups::<P>::default();
        // Emitted in two pieces: the groups behind the first move to the front.
        let first = first.min(5);
        let head = partial.state(EmitTo::First(first)).unwrap();
        whole
            .merge_batch(&head, &(0..first).collect::<Vec<_>>(), 5)
            .unwrap();
        let tail = partial.state(EmitTo::All).unwrap();
        whole
            .merge_batch(&tail, &(first..5).collect::<Vec<_>>(), 5)
            .unwrap();
        let (values, groups, kept) = columns(right);
        let passed_on = whole.convert_to_state(&[values], Some(&kept)).unwrap();
        whole.merge_batch(&passed_on, &groups, 5).unwrap();

        let mut got = counts(&whole.evaluate(EmitTo::First(first)).unwrap());
        got.extend(counts(&whole.evaluate(EmitTo::All).unwrap()));
        got
    }
}
