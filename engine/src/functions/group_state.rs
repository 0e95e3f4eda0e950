//! One implementation of DataFusion's two accumulator interfaces for states that are added to
//! value by value and travel as bytes.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanArray, PrimitiveArray,
};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// States that are fetched before they are added to.
const FETCHED: usize = 32;

/// Rows of each group until its heap is counted again.
const ROWS_PER_COUNT: usize = 4;

/// What is kept for one group. Merging must be associative and commutative to the bit.
pub(super) trait GroupState: Default + Send + Sync + 'static {
    type Input: ArrowPrimitiveType;
    type Output: ArrowPrimitiveType;
    /// What evaluation needs to know besides the state, such as the percentile asked for.
    type Params: Send + Sync + 'static;

    fn add(&mut self, value: <Self::Input as ArrowPrimitiveType>::Native);
    /// Whether [`peek`](Self::peek) is worth it: where adding has branches that depend on what it
    /// reads, many states are fetched from memory at once beforehand.
    const PEEKS: bool = false;
    /// Something that is stored where adding begins to read.
    fn peek(&self) -> u64 {
        0
    }
    fn encode(&self, out: &mut Vec<u8>);
    /// Merges an encoded state; `None` if the bytes are not one.
    fn merge(&mut self, state: &[u8]) -> Option<()>;
    /// The result; `None` is null.
    fn finish(
        &self,
        params: &Self::Params,
    ) -> Result<Option<<Self::Output as ArrowPrimitiveType>::Native>>;
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The field that carries a state between partial and final aggregation.
pub(super) fn state_field(name: &str, function: &str) -> FieldRef {
    Arc::new(Field::new(
        format!("{name}[{function}]"),
        DataType::Binary,
        true,
    ))
}

/// [`GroupsAccumulator`] over a state per group.
pub(super) struct Groups<S: GroupState> {
    states: Vec<S>,
    heap_bytes: usize,
    /// Rows added, and groups there were, since and when the heap was counted.
    rows_since_count: usize,
    groups_counted: usize,
    output_type: DataType,
    params: S::Params,
}

impl<S: GroupState> Groups<S> {
    pub(super) fn new(output_type: DataType, params: S::Params) -> Self {
        Self {
            states: Vec::new(),
            heap_bytes: 0,
            rows_since_count: 0,
            groups_counted: 0,
            output_type,
            params,
        }
    }

    fn encode(states: &[S]) -> ArrayRef {
        let mut builder = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for state in states {
            bytes.clear();
            state.encode(&mut bytes);
            builder.append_value(&bytes);
        }
        Arc::new(builder.finish())
    }

    /// The heap is counted with the next rows.
    fn take(&mut self, emit_to: EmitTo) -> Vec<S> {
        self.groups_counted = 0;
        emit_to.take_needed(&mut self.states)
    }

    /// Recounts the heap when the groups have doubled, or once in so many rows for each: a state's heap
    /// lies anywhere, so that looking at it costs as much as adding a row.
    fn count_heap_after(&mut self, rows: usize) {
        self.rows_since_count += rows;
        let groups = self.states.len();
        if groups >= 2 * self.groups_counted || self.rows_since_count >= ROWS_PER_COUNT * groups {
            self.heap_bytes = self.states.iter().map(S::heap_bytes).sum();
            (self.rows_since_count, self.groups_counted) = (0, groups);
        }
    }
}

impl<S: GroupState> GroupsAccumulator for Groups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.states.resize_with(total_num_groups, S::default);
        let values: &PrimitiveArray<S::Input> = values[0].as_primitive();
        let kept =
            |i: usize| values.is_valid(i) && opt_filter.is_none_or(|f| f.is_valid(i) && f.value(i));
        if values.null_count() == 0 && opt_filter.is_none() {
            let values = values.values().chunks(FETCHED);
            for (groups, values) in group_indices.chunks(FETCHED).zip(values) {
                // Loads that don't depend on each other wait for memory together.
                if S::PEEKS {
                    let peeked = groups.iter().map(|group| self.states[*group].peek());
                    std::hint::black_box(peeked.fold(0, |all, one| all ^ one));
                }
                for (&group, &value) in groups.iter().zip(values) {
                    self.states[group].add(value);
                }
            }
        } else {
            for (i, &group) in group_indices.iter().enumerate() {
                if kept(i) {
                    self.states[group].add(values.value(i));
                }
            }
        }
        self.count_heap_after(group_indices.len());
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.take(emit_to);
        let results = states
            .iter()
            .map(|state| state.finish(&self.params))
            .collect::<Result<Vec<_>>>()?;
        let array: PrimitiveArray<S::Output> = results.into_iter().collect();
        Ok(Arc::new(array.with_data_type(self.output_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.take(emit_to);
        Ok(vec![Self::encode(&states)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.states.resize_with(total_num_groups, S::default);
        let encoded = values[0].as_binary::<i32>();
        for (i, &group) in group_indices.iter().enumerate() {
            if encoded.is_valid(i) {
                self.states[group]
                    .merge(encoded.value(i))
                    .ok_or_else(|| exec_datafusion_err!("a partial aggregate is not readable"))?;
            }
        }
        self.count_heap_after(group_indices.len());
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values: &PrimitiveArray<S::Input> = values[0].as_primitive();
        let states: Vec<S> = (0..values.len())
            .map(|i| {
                let mut state = S::default();
                if values.is_valid(i) && opt_filter.is_none_or(|f| f.is_valid(i) && f.value(i)) {
                    state.add(values.value(i));
                }
                state
            })
            .collect();
        Ok(vec![Self::encode(&states)])
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>() + self.heap_bytes
    }
}

/// [`Accumulator`] for aggregation without groups: the same, with one group.
pub(super) struct Single<S: GroupState>(Groups<S>);

impl<S: GroupState> Single<S> {
    pub(super) fn new(output_type: DataType, params: S::Params) -> Self {
        Self(Groups::new(output_type, params))
    }
}

impl<S: GroupState> std::fmt::Debug for Single<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Single").finish_non_exhaustive()
    }
}

impl<S: GroupState> Accumulator for Single<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // Constant second arguments, such as the percentile, are not part of the state.
        self.0
            .update_batch(&values[..1], &vec![0; values[0].len()], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.states.resize_with(1, S::default);
        let result = self.0.states[0].finish(&self.0.params)?;
        let array: PrimitiveArray<S::Output> = [result].into_iter().collect();
        let array = array.with_data_type(self.0.output_type.clone());
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.states.resize_with(1, S::default);
        let array = Groups::encode(&self.0.states);
        Ok(vec![ScalarValue::try_from_array(&array, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        // A state that is null comes from a partition without rows.
        let valid: BooleanArray = (0..states[0].len())
            .map(|i| Some(states[0].is_valid(i)))
            .collect();
        let states = filter(&states[0], &valid)?;
        let zeros = vec![0; states.len()];
        self.0.merge_batch(&[states], &zeros, 1)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    /// A sum, plain enough to see through.
    #[derive(Default)]
    struct Sum(Option<i64>);

    impl GroupState for Sum {
        type Input = Int64Type;
        type Output = Int64Type;
        type Params = ();

        fn add(&mut self, value: i64) {
            self.0 = Some(self.0.unwrap_or(0) + value);
        }

        fn encode(&self, out: &mut Vec<u8>) {
            out.extend(self.0.iter().flat_map(|sum| sum.to_le_bytes()));
        }

        fn merge(&mut self, state: &[u8]) -> Option<()> {
            if !state.is_empty() {
                self.add(i64::from_le_bytes(state.try_into().ok()?));
            }
            Some(())
        }

        fn finish(&self, (): &()) -> Result<Option<i64>> {
            Ok(self.0)
        }
    }

    fn groups() -> Groups<Sum> {
        Groups::new(DataType::Int64, ())
    }

    type Input = (usize, Option<i64>, Option<bool>);

    fn input() -> impl Strategy<Value = Vec<Input>> {
        let value = prop::option::of(-9..9i64);
        prop::collection::vec((0..5usize, value, any::<Option<bool>>()), 0..40)
    }

    fn arrays(rows: &[Input]) -> (Vec<ArrayRef>, Vec<usize>, BooleanArray) {
        let values: Int64Array = rows.iter().map(|row| row.1).collect();
        let indices = rows.iter().map(|row| row.0).collect();
        (
            vec![Arc::new(values)],
            indices,
            rows.iter().map(|row| row.2).collect(),
        )
    }

    /// A filter that is null lets a row through no more than false does.
    fn expected(rows: &[Input], filtered: bool) -> Vec<Option<i64>> {
        let mut sums = vec![None; 5];
        for (group, value, keep) in rows {
            if let Some(value) = value.filter(|_| !filtered || *keep == Some(true)) {
                sums[*group] = Some(sums[*group].unwrap_or(0) + value);
            }
        }
        sums
    }

    fn results(array: &ArrayRef) -> Vec<Option<i64>> {
        array.as_primitive::<Int64Type>().iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Added directly, by way of states, or row by row as states: all the same. What is
        /// emitted early leaves the other groups in their places.
        #[test]
        fn all_ways_agree(rows in input(), filtered: bool, cut in 0..40usize, early in 0..=5usize) {
            let expected = expected(&rows, filtered);
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut direct = groups();
            let mut merged = groups();
            let mut converted = groups();
            for part in [left, right] {
                let (values, indices, keep) = arrays(part);
                let keep = filtered.then_some(&keep);
                direct.update_batch(&values, &indices, keep, 5).unwrap();
                let mut partial = groups();
                partial.update_batch(&values, &indices, keep, 5).unwrap();
                let states = partial.state(EmitTo::All).unwrap();
                merged.merge_batch(&states, &[0, 1, 2, 3, 4], 5).unwrap();
                let states = groups().convert_to_state(&values, keep).unwrap();
                converted.merge_batch(&states, &indices, 5).unwrap();
            }
            let mut emitted = results(&direct.evaluate(EmitTo::First(early)).unwrap());
            emitted.extend(results(&direct.evaluate(EmitTo::All).unwrap()));
            prop_assert_eq!(&emitted, &expected);
            prop_assert_eq!(&results(&merged.evaluate(EmitTo::All).unwrap()), &expected);
            prop_assert_eq!(&results(&converted.evaluate(EmitTo::All).unwrap()), &expected);
        }

        #[test]
        fn one_group_is_the_same(rows in input(), cut in 0..40usize) {
            let rows: Vec<Input> = rows.into_iter().map(|row| (0, row.1, None)).collect();
            let (left, right) = rows.split_at(cut.min(rows.len()));
            let mut merged = Single::<Sum>::new(DataType::Int64, ());
            for part in [left, right] {
                let mut partial = Single::<Sum>::new(DataType::Int64, ());
                // Without a row there is nothing to update with.
                if !part.is_empty() {
                    partial.update_batch(&arrays(part).0).unwrap();
                }
                let state = partial.state().unwrap()[0].to_array().unwrap();
                merged.merge_batch(&[state]).unwrap();
            }
            let found = ScalarValue::Int64(expected(&rows, false)[0]);
            prop_assert_eq!(merged.evaluate().unwrap(), found);
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let broken: ArrayRef = Arc::new(datafusion::arrow::array::BinaryArray::from(vec![
            b"abc".as_slice(),
        ]));
        assert!(groups().merge_batch(&[broken], &[0], 1).is_err());
    }
}
