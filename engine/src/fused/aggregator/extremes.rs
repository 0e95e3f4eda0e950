//! The largest or the smallest integer of each group.

use std::collections::HashSet;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_datafusion_err};

use crate::fused::groups::{integers, typed};

/// For each group the largest integer, or the smallest: then what is kept are the complements, whose
/// order is the other way round.
pub(super) struct Extremes {
    smallest: bool,
    /// [`i64::MIN`] where none came.
    values: Vec<i64>,
    /// Groups where that came.
    lowest: HashSet<u32>,
}

impl Extremes {
    pub(super) fn new(smallest: bool) -> Self {
        Self {
            smallest,
            values: Vec::new(),
            lowest: HashSet::new(),
        }
    }

    /// Looks at rows whose groups are below `len`: at those that are kept.
    pub(super) fn add(
        &mut self,
        groups: &[u32],
        len: usize,
        column: &ArrayRef,
        kept: Option<&BooleanBuffer>,
    ) -> Result<()> {
        self.values.resize(len.max(self.values.len()), i64::MIN);
        let values = integers(column).ok_or_else(|| {
            internal_datafusion_err!("the largest of values of type {}", column.data_type())
        })?;
        let flip = self.flip();
        match kept {
            None => {
                for (group, value) in groups.iter().zip(values.values()) {
                    self.raise(*group, value ^ flip);
                }
            }
            Some(kept) => {
                for row in kept.set_indices() {
                    self.raise(groups[row], values.value(row) ^ flip);
                }
            }
        }
        Ok(())
    }

    /// Looks at states: a group's number and what was found, which may be null.
    pub(super) fn merge(&mut self, groups: &[u32], len: usize, column: &ArrayRef) -> Result<()> {
        let kept = column.nulls().map(|nulls| nulls.inner());
        self.add(groups, len, column, kept)
    }

    /// Moves what was found to groups below `len`, by their new numbers.
    pub(super) fn renumber(&mut self, moved: &[u32], len: usize) {
        let mut values = vec![i64::MIN; len];
        let old = self.values.iter().zip(moved);
        for (value, to) in old.filter(|(value, _)| **value != i64::MIN) {
            values[*to as usize] = *value;
        }
        self.values = values;
        self.lowest = self
            .lowest
            .drain()
            .map(|group| moved[group as usize])
            .collect();
    }

    /// What was found in some groups, as values of a type.
    pub(super) fn column(&self, groups: &[u32], value_type: &DataType) -> Result<ArrayRef> {
        let flip = self.flip();
        let found = |group: &u32| match self.values.get(*group as usize) {
            Some(value) if *value != i64::MIN || self.lowest.contains(group) => Some(value ^ flip),
            _ => None,
        };
        let found: Int64Array = groups.iter().map(found).collect();
        typed(&found, value_type)
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.lowest.clear();
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.values.capacity() * size_of::<i64>() + self.lowest.capacity() * size_of::<u64>()
    }

    /// All ones turn a number into its complement.
    fn flip(&self) -> i64 {
        if self.smallest { -1 } else { 0 }
    }

    #[inline]
    fn raise(&mut self, group: u32, value: i64) {
        let most = &mut self.values[group as usize];
        if value > *most {
            *most = value;
        } else if value == i64::MIN {
            self.lowest.insert(group);
        }
    }
}
