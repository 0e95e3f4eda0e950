//! A set of (group, integer) pairs.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use hashbrown::HashSet;

use super::{Pairs, offsets_of};

/// Ids of users and the like mostly fit 32 bits: such a pair takes eight bytes, the group in the
/// high half. Others go to a second set.
#[derive(Default)]
pub(super) struct IntegerPairs {
    narrow: HashSet<u64>,
    wide: HashSet<(u32, i64)>,
}

impl IntegerPairs {
    fn add(&mut self, group: usize, value: i64) {
        match u32::try_from(value) {
            Ok(value) => self.narrow.insert((group as u64) << 32 | u64::from(value)),
            Err(_) => self.wide.insert((group as u32, value)),
        };
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, i64)> {
        let narrow = self.narrow.iter();
        let narrow = narrow.map(|pair| ((pair >> 32) as usize, i64::from(*pair as u32)));
        narrow.chain(
            self.wide
                .iter()
                .map(|(group, value)| (*group as usize, *value)),
        )
    }
}

impl Pairs for IntegerPairs {
    fn value_type() -> DataType {
        DataType::Int64
    }

    fn insert(&mut self, values: &ArrayRef, groups: &[usize], kept: impl Fn(usize) -> bool) {
        let integers = values.as_primitive::<Int64Type>();
        for (row, group) in groups.iter().enumerate() {
            if integers.is_valid(row) && kept(row) {
                self.add(*group, integers.value(row));
            }
        }
    }

    fn counts(&self, groups: usize) -> Vec<i64> {
        let mut counts = vec![0; groups];
        for (group, _) in self.pairs() {
            if let Some(count) = counts.get_mut(group) {
                *count += 1;
            }
        }
        counts
    }

    fn lists(&mut self, groups: usize) -> Result<(Vec<i32>, ArrayRef)> {
        let offsets = offsets_of(&self.counts(groups))?;
        let mut places: Vec<usize> = offsets.iter().map(|offset| *offset as usize).collect();
        let mut values = vec![0i64; places.last().copied().unwrap_or(0)];
        for (group, value) in self.pairs().filter(|(group, _)| *group < groups) {
            values[places[group]] = value;
            places[group] += 1;
        }
        Ok((offsets, Arc::new(Int64Array::from(values))))
    }

    fn remove_first(&mut self, groups: usize) {
        let mut rest = Self::default();
        for (group, value) in self.pairs().filter(|(group, _)| *group >= groups) {
            rest.add(group - groups, value);
        }
        *self = rest;
    }

    fn size(&self) -> usize {
        self.narrow.capacity() * (size_of::<u64>() + 1)
            + self.wide.capacity() * (size_of::<(u32, i64)>() + 1)
    }
}
