//! A set of (group, text) pairs: texts are numbered once, a pair is then eight bytes.

use datafusion::arrow::array::{Array, ArrayRef, UInt32Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::physical_expr_common::binary_map::OutputType;
use datafusion::physical_expr_common::binary_view_map::ArrowBytesViewMap;
use hashbrown::HashSet;

use super::{Pairs, offsets_of};

pub(super) struct TextPairs {
    /// Text → its number, in order of first sight; null has a number too.
    numbers: ArrowBytesViewMap<u32>,
    next_number: u32,
    /// The group in the high half, the text's number in the low half.
    pairs: HashSet<u64>,
    /// Numbers of a batch's rows.
    batch: Vec<u32>,
}

impl Default for TextPairs {
    fn default() -> Self {
        Self {
            numbers: ArrowBytesViewMap::new(OutputType::Utf8View),
            next_number: 0,
            pairs: HashSet::new(),
            batch: Vec::new(),
        }
    }
}

impl Pairs for TextPairs {
    fn value_type() -> DataType {
        DataType::Utf8View
    }

    fn state_type() -> DataType {
        DataType::LargeUtf8
    }

    fn insert(&mut self, texts: &ArrayRef, groups: &[usize], kept: impl Fn(usize) -> bool) {
        self.batch.clear();
        let (next, batch) = (&mut self.next_number, &mut self.batch);
        self.numbers.insert_if_new(
            texts,
            |_| {
                let number = *next;
                *next += 1;
                number
            },
            |number| batch.push(number),
        );
        for (row, (number, group)) in self.batch.iter().zip(groups).enumerate() {
            if texts.is_valid(row) && kept(row) {
                self.pairs
                    .insert((*group as u64) << 32 | u64::from(*number));
            }
        }
    }

    fn counts(&self, groups: usize) -> Vec<i64> {
        let mut counts = vec![0; groups];
        for pair in &self.pairs {
            if let Some(count) = counts.get_mut(group_of(*pair)) {
                *count += 1;
            }
        }
        counts
    }

    fn lists(&mut self, groups: usize) -> Result<(Vec<i32>, ArrayRef)> {
        let offsets = offsets_of(&self.counts(groups))?;
        let mut places: Vec<usize> = offsets.iter().map(|offset| *offset as usize).collect();
        let mut numbers = vec![0u32; places.last().copied().unwrap_or(0)];
        for pair in &self.pairs {
            let group = group_of(*pair);
            if group < groups {
                numbers[places[group]] = *pair as u32;
                places[group] += 1;
            }
        }
        let texts = self.texts();
        let texts = take(&texts, &UInt32Array::from(numbers), None)?;
        Ok((offsets, cast(&texts, &Self::state_type())?))
    }

    fn remove_first(&mut self, groups: usize) {
        let first = (groups as u64) << 32;
        let rest = self.pairs.iter().filter(|pair| **pair >= first);
        let rest: HashSet<u64> = rest.map(|pair| pair - first).collect();
        if rest.is_empty() {
            *self = Self::default();
        } else {
            self.pairs = rest;
        }
    }

    fn size(&self) -> usize {
        self.numbers.size() + self.pairs.capacity() * (size_of::<u64>() + 1)
    }
}

impl TextPairs {
    /// All texts in the order of their numbers. The map gives them only when it is taken apart,
    /// so it is built anew.
    fn texts(&mut self) -> ArrayRef {
        let texts = self.numbers.take().into_state();
        let mut number = 0;
        self.numbers.insert_if_new(
            &texts,
            |_| {
                number += 1;
                number - 1
            },
            |_| {},
        );
        texts
    }
}

fn group_of(pair: u64) -> usize {
    (pair >> 32) as usize
}
