//! A dimension's table and a map of its attributes, put together for the hot loop.

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::DataType;

use super::{Dimension, Keys, NO_MATCH, NULL_KEY, Numbers};
use crate::fused::groups::for_integer;

/// Codes in the narrowest width that holds them: the smaller the table, the more of it lies in the
/// caches.
#[derive(Debug)]
enum Codes {
    /// Two in a byte.
    Nibbles(Nibbles),
    Bytes(Vec<u8>),
    Halves(Vec<u16>),
    Words(Vec<u32>),
}

/// Codes below 16, two in a byte.
#[derive(Debug)]
struct Nibbles {
    bytes: Vec<u8>,
    len: usize,
}

/// A table of codes.
trait Table {
    fn places(&self) -> usize;
    fn code(&self, place: usize) -> u32;
}

impl<N: Copy + Into<u32>> Table for Vec<N> {
    fn places(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn code(&self, place: usize) -> u32 {
        self[place].into()
    }
}

impl Table for Nibbles {
    fn places(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn code(&self, place: usize) -> u32 {
        u32::from(self.bytes[place / 2] >> (place % 2 * 4) & 0xF)
    }
}

impl Nibbles {
    fn new(codes: &[u8]) -> Self {
        let pair = |pair: &[u8]| pair[0] | pair.get(1).copied().unwrap_or(0) << 4;
        Self {
            bytes: codes.chunks(2).map(pair).collect(),
            len: codes.len(),
        }
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
        unmatched.clear();
        macro_rules! look_up {
            ($type:ty) => {{
                let keys = keys.as_primitive::<$type>();
                match &self.codes {
                    Codes::Nibbles(codes) => in_composed(keys, self.base, codes, out),
                    Codes::Bytes(codes) => in_composed(keys, self.base, codes, out),
                    Codes::Halves(codes) => in_composed(keys, self.base, codes, out),
                    Codes::Words(codes) => in_composed(keys, self.base, codes, out),
                }
            }};
        }
        if for_integer!(keys.data_type(), look_up).is_none() {
            return false;
        }
        for (row, code) in out.iter_mut().enumerate() {
            if *code == self.marker {
                unmatched.push(row as u32);
                *code = self.unmatched;
            }
        }
        true
    }
}

/// The hot loop of a lookup. Loads that don't depend on each other wait for memory together, as long
/// as no branch is mispredicted between them: so a null is a place like any other.
fn in_composed<T: ArrowPrimitiveType>(
    keys: &PrimitiveArray<T>,
    base: i64,
    codes: &impl Table,
    out: &mut Vec<u32>,
) where
    T::Native: Into<i64>,
{
    let missing = codes.places() - 2;
    let null = codes.places() - 1;
    let place =
        |key: T::Native| (key.into().wrapping_sub(base) as u64).min(missing as u64) as usize;
    let values = keys.values();
    let Some(nulls) = keys.nulls().filter(|nulls| nulls.null_count() > 0) else {
        out.extend(values.iter().map(|key| codes.code(place(*key))));
        return;
    };
    let chunks = nulls.inner().bit_chunks();
    let words = chunks
        .iter()
        .chain(std::iter::once(chunks.remainder_bits()));
    for (word, keys) in words.zip(values.chunks(64)) {
        out.extend(keys.iter().enumerate().map(|(bit, key)| {
            // All ones where valid: written with a condition it becomes a branch.
            let valid = (word >> bit & 1).wrapping_neg() as usize;
            codes.code(null ^ (place(*key) ^ null) & valid)
        }));
    }
}

impl Dimension {
    /// Puts this table and a map together; none if keys are hashed.
    pub(in crate::fused) fn compose(&self, map: &[u32]) -> Option<Composed> {
        let Keys::Array { base, numbers } = &self.keys else {
            return None;
        };
        let marker = map.iter().max()? + 1;
        let mut map = map.to_vec();
        let (unmatched, null) = (map[NO_MATCH as usize], map[NULL_KEY as usize]);
        map[NO_MATCH as usize] = marker;
        fn mapped<N: Copy + Into<u32>, C>(
            numbers: &[N],
            map: &[u32],
            null: u32,
            code: impl Fn(u32) -> C,
        ) -> Vec<C> {
            let codes = |number: u32| code(map[number as usize]);
            let mut composed = Vec::with_capacity(numbers.len() + 2);
            composed.extend(numbers.iter().map(|number| codes((*number).into())));
            composed.push(codes(NO_MATCH));
            composed.push(code(null));
            composed
        }
        macro_rules! composed {
            ($type:ty) => {
                match numbers {
                    Numbers::Bytes(n) => mapped(n, &map, null, |code| code as $type),
                    Numbers::Halves(n) => mapped(n, &map, null, |code| code as $type),
                    Numbers::Words(n) => mapped(n, &map, null, |code| code as $type),
                }
            };
        }
        let codes = match marker {
            0..=0xF => Codes::Nibbles(Nibbles::new(&composed!(u8))),
            0x10..=0xFF => Codes::Bytes(composed!(u8)),
            0x100..=0xFFFF => Codes::Halves(composed!(u16)),
            _ => Codes::Words(composed!(u32)),
        };
        Some(Composed {
            base: *base,
            codes,
            marker,
            unmatched,
        })
    }
}
