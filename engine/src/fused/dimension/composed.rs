//! A dimension's table and a map of its attributes, put together for the hot loop.

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::DataType;

use super::{Dimension, Keys, NO_MATCH, NULL_KEY, Numbers};
use crate::fused::groups::for_integer;

/// A table of at most so many places is in bytes, though its codes fit four bits: it stays in a
/// second-level cache, and telling two codes in a byte apart takes longer then.
const SMALL_TABLE: usize = if cfg!(test) { 8 } else { 1 << 19 };
/// The largest code of four bits.
const NIBBLE: u32 = 0xF;

/// Codes in the narrowest width that holds them: the smaller the table, the more of it lies in the
/// caches.
#[derive(Debug)]
enum Codes {
    /// Two in a byte. For four million keys between decoding, two threads: 2.6 ns a key; in bytes 3.8.
    Nibbles {
        pairs: Vec<u8>,
        len: usize,
    },
    Bytes(Vec<u8>),
    Halves(Vec<u16>),
    Words(Vec<u32>),
}

/// Codes by their places.
trait Table: Copy {
    fn len(self) -> usize;
    fn code(self, at: usize) -> u32;
}

impl<N: Copy + Into<u32>> Table for &[N] {
    fn len(self) -> usize {
        <[N]>::len(self)
    }

    #[inline(always)]
    fn code(self, at: usize) -> u32 {
        self[at].into()
    }
}

#[derive(Clone, Copy)]
struct NibbleTable<'a> {
    pairs: &'a [u8],
    len: usize,
}

impl Table for NibbleTable<'_> {
    fn len(self) -> usize {
        self.len
    }

    #[inline(always)]
    fn code(self, at: usize) -> u32 {
        u32::from(self.pairs[at >> 1]) >> (4 * (at & 1)) & NIBBLE
    }
}

/// What each key leads to by a map of the attributes' numbers, in one table: one load for a row in
/// place of two, and without a branch.
#[derive(Debug)]
pub(in crate::fused) struct Composed {
    base: i64,
    /// For each key, then for keys that are not there, then for null.
    codes: Codes,
    /// Stands for keys that are not there, apart from all other codes.
    marker: u32,
    /// What those lead to.
    unmatched: u32,
}

impl Composed {
    /// As [`Dimension::look_up`]; false if keys of this type can't be looked up here.
    pub(in crate::fused) fn look_up(
        &self,
        keys: &ArrayRef,
        out: &mut Vec<u32>,
        unmatched: &mut Vec<u32>,
    ) -> bool {
        out.clear();
        out.resize(keys.len(), 0);
        unmatched.clear();
        macro_rules! look_up {
            ($type:ty) => {{
                let keys = keys.as_primitive::<$type>();
                match &self.codes {
                    Codes::Nibbles { pairs, len } => {
                        let table = NibbleTable { pairs, len: *len };
                        self.in_table(keys, table, out, unmatched);
                    }
                    Codes::Bytes(codes) => self.in_table(keys, &codes[..], out, unmatched),
                    Codes::Halves(codes) => self.in_table(keys, &codes[..], out, unmatched),
                    Codes::Words(codes) => self.in_table(keys, &codes[..], out, unmatched),
                }
            }};
        }
        for_integer!(keys.data_type(), look_up).is_some()
    }

    /// The hot loop of a lookup. Loads that don't depend on each other wait for memory together, as
    /// long as no branch is mispredicted between them: so a null is a place like any other, and keys
    /// that are not there are looked for once in so many rows.
    fn in_table<T: ArrowPrimitiveType>(
        &self,
        keys: &PrimitiveArray<T>,
        // Borrowed, not a vector: the hot loop then has its address in a register.
        codes: impl Table,
        out: &mut [u32],
        unmatched: &mut Vec<u32>,
    ) where
        T::Native: Into<i64>,
    {
        let (base, marker) = (self.base, self.marker);
        let missing = codes.len() - 2;
        let null = codes.len() - 1;
        let place =
            |key: T::Native| (key.into().wrapping_sub(base) as u64).min(missing as u64) as usize;
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
        let chunks = nulls.map(|nulls| nulls.inner().bit_chunks());
        let mut words = chunks.as_ref().map(|chunks| chunks.iter_padded());
        for (at, (keys, out)) in keys.values().chunks(64).zip(out.chunks_mut(64)).enumerate() {
            match words.as_mut().and_then(Iterator::next) {
                None => {
                    for (key, out) in keys.iter().zip(out.iter_mut()) {
                        *out = codes.code(place(*key));
                    }
                }
                Some(word) => {
                    for (bit, (key, out)) in keys.iter().zip(out.iter_mut()).enumerate() {
                        // All ones where valid: written with a condition it becomes a branch.
                        let valid = (word >> bit & 1).wrapping_neg() as usize;
                        *out = codes.code(null ^ (place(*key) ^ null) & valid);
                    }
                }
            }
            // A loop of its own becomes vector instructions.
            let any = out.iter().fold(false, |any, code| any | (*code == marker));
            if any {
                for (row, out) in out
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, out)| **out == marker)
                {
                    unmatched.push((at * 64 + row) as u32);
                    *out = self.unmatched;
                }
            }
        }
    }
}

/// How wide the codes of a composed table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Nibbles,
    Bytes,
    Halves,
    Words,
}

impl Width {
    /// For codes up to `largest` in so many places.
    fn of(largest: u32, places: usize) -> Self {
        match largest {
            0..=NIBBLE if places > SMALL_TABLE => Self::Nibbles,
            0..=0xFF => Self::Bytes,
            0x100..=0xFFFF => Self::Halves,
            _ => Self::Words,
        }
    }

    fn bytes(self, places: usize) -> usize {
        match self {
            Self::Nibbles => places.div_ceil(2),
            Self::Bytes => places,
            Self::Halves => places * size_of::<u16>(),
            Self::Words => places * size_of::<u32>(),
        }
    }
}

impl Dimension {
    /// Bytes that [`Dimension::compose`] takes.
    pub(in crate::fused) fn composed_bytes(&self, map: &[u32]) -> Option<usize> {
        let places = self.places()?;
        let marker = map.iter().max()? + 1;
        Some(Width::of(marker, places).bytes(places))
    }

    /// Puts this table and a map together; none if keys are hashed.
    pub(in crate::fused) fn compose(&self, map: &[u32]) -> Option<Composed> {
        let Keys::Array { base, numbers } = &self.keys else {
            return None;
        };
        let marker = map.iter().max()? + 1;
        let mut map = map.to_vec();
        let (unmatched, null) = (map[NO_MATCH as usize], map[NULL_KEY as usize]);
        map[NO_MATCH as usize] = marker;
        let entries = Entries {
            numbers,
            map: &map,
            ends: [map[NO_MATCH as usize], null],
        };
        let codes = match Width::of(marker, numbers.len()) {
            Width::Nibbles => entries.nibbles(),
            Width::Bytes => Codes::Bytes(entries.each(|code| code as u8)),
            Width::Halves => Codes::Halves(entries.each(|code| code as u16)),
            Width::Words => Codes::Words(entries.each(|code| code)),
        };
        Some(Composed {
            base: *base,
            codes,
            marker,
            unmatched,
        })
    }
}

/// What a composed table holds: for each number its code, then two more.
struct Entries<'a> {
    numbers: &'a Numbers,
    map: &'a [u32],
    ends: [u32; 2],
}

impl Entries<'_> {
    fn nibbles(&self) -> Codes {
        let map: Vec<u8> = self.map.iter().map(|number| *number as u8).collect();
        let map = &map[..];
        let len = self.numbers.len() + self.ends.len();
        let mut pairs = Vec::with_capacity(len.div_ceil(2));
        macro_rules! nibbles {
            ($numbers:expr) => {{
                let (two, rest) = $numbers.as_chunks::<2>();
                let code = |number| map[number as usize];
                pairs.extend(two.iter().map(|[low, high]| code(*low) | code(*high) << 4));
                // What is left, and the ends, in bytes of their own.
                let rest = rest.iter().map(|number| code(*number));
                rest.chain(self.ends.map(|code| code as u8)).collect()
            }};
        }
        let last: Vec<u8> = match self.numbers {
            Numbers::Bytes(n) => nibbles!(n),
            Numbers::Halves(n) => nibbles!(n),
            Numbers::Words(n) => nibbles!(n),
        };
        let last = last.chunks(2);
        pairs.extend(last.map(|two| two[0] | two.get(1).copied().unwrap_or_default() << 4));
        Codes::Nibbles { pairs, len }
    }

    fn each<C: Copy>(&self, code: impl Fn(u32) -> C) -> Vec<C> {
        // Narrowed first: the map then lies in the fastest cache while millions go through it.
        let map: Vec<C> = self.map.iter().map(|number| code(*number)).collect();
        let map = &map[..];
        let mut codes = Vec::with_capacity(self.numbers.len() + 2);
        macro_rules! each {
            ($numbers:expr) => {
                codes.extend($numbers.iter().map(|n| map[*n as usize]))
            };
        }
        match self.numbers {
            Numbers::Bytes(n) => each!(n),
            Numbers::Halves(n) => each!(n),
            Numbers::Words(n) => each!(n),
        }
        codes.extend(self.ends.map(code));
        codes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int32Array, RecordBatch, RecordBatchOptions};
    use datafusion::arrow::datatypes::Schema;

    use super::*;
    use crate::fused::dimension::Large;

    /// A dimension of so many places from 5 on, some of them empty, with so many attributes.
    fn dimension(places: u32, attributes: u32) -> Dimension {
        let number = |at: u32| match at % 7 {
            3 => NO_MATCH as u16,
            _ => 2 + (at * 31 % attributes) as u16,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(attributes as usize));
        let schema = Arc::new(Schema::empty());
        let keys = Keys::Array {
            base: 5,
            numbers: Numbers::Halves((0..places).map(number).collect()),
        };
        let attributes = RecordBatch::try_new_with_options(schema, Vec::new(), &options).unwrap();
        Dimension::new(keys, Large::new(), attributes, Vec::new())
    }

    #[test]
    fn codes_of_any_width_are_those_of_the_dimension() {
        for (places, attributes) in [(5, 3), (100, 3), (101, 14), (101, 15), (99, 300)] {
            let dimension = dimension(places, attributes);
            let map: Vec<u32> = (0..attributes + 2).map(|n| n.saturating_sub(1)).collect();
            let keys = (-3..places as i32 + 20).map(|key| (key % 11 != 0).then_some(key));
            let keys: ArrayRef = Arc::new(keys.collect::<Int32Array>());
            let composed = dimension.compose(&map).unwrap();
            let bytes = match &composed.codes {
                Codes::Nibbles { pairs, .. } => pairs.len(),
                Codes::Bytes(codes) => codes.len(),
                Codes::Halves(codes) => 2 * codes.len(),
                Codes::Words(codes) => 4 * codes.len(),
            };
            // Of two more places it doesn't speak.
            let said = dimension.composed_bytes(&map).unwrap();
            assert!((said..said + 16).contains(&bytes), "{said} {bytes}");
            let is_narrow = matches!(composed.codes, Codes::Nibbles { .. });
            assert_eq!(is_narrow, places > 8 && attributes <= 14);
            let (mut found, mut lost) = (Vec::new(), Vec::new());
            assert!(composed.look_up(&keys, &mut found, &mut lost));
            let (mut expected, mut unmatched) = (Vec::new(), Vec::new());
            let looked_up = dimension.look_up(&keys, &map, &mut expected, &mut unmatched);
            looked_up.unwrap();
            assert_eq!((found, lost), (expected, unmatched));
        }
    }
}
