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

/// What is kept for one group. Merging must be associative and commutative to the bit.
pub(super) trait GroupState: Default + Send + Sync + 'static {
    type Input: ArrowPrimitiveType;
    type Output: ArrowPrimitiveType;
    /// What evaluation needs to know besides the state, such as the percentile asked for.
    type Params: Send + Sync + 'static;

    fn add(&mut self, value: <Self::Input as ArrowPrimitiveType>::Native);
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
    rows_since_count: usize,
    output_type: DataType,
    params: S::Params,
}

impl<S: GroupState> Groups<S> {
    pub(super) fn new(output_type: DataType, params: S::Params) -> Self {
        Self {
            states: Vec::new(),
            heap_bytes: 0,
            rows_since_count: 0,
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

    /// Recounts the heap once per as many rows as there are groups: at a constant cost per row.
    fn count_heap_after(&mut self, rows: usize) {
        self.rows_since_count += rows;
        if self.rows_since_count >= self.states.len() {
            self.heap_bytes = self.states.iter().map(S::heap_bytes).sum();
            self.rows_since_count = 0;
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
            for (&group, &value) in group_indices.iter().zip(values.values()) {
                self.states[group].add(value);
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
        let states = emit_to.take_needed(&mut self.states);
        let results = states
            .iter()
            .map(|state| state.finish(&self.params))
            .collect::<Result<Vec<_>>>()?;
        let array: PrimitiveArray<S::Output> = results.into_iter().collect();
        Ok(Arc::new(array.with_data_type(self.output_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = emit_to.take_needed(&mut self.states);
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
