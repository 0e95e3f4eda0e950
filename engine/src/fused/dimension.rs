//! A dimension as a code table: for each key the number of its row of attributes.
//!
//! Attributes repeat: four million users have some thirty thousand birth dates. So a key leads to a
//! small number, and the number to attributes. Keys that lie close together index an array, others
//! go through a hash table. A table is built once in a process and shared by all tasks.

mod build;
mod cache;
mod composed;
mod estimate;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;

pub(super) use self::build::TooLarge;
pub(crate) use self::cache::forget_unused;
pub use self::cache::held_table_bytes;
pub(super) use self::cache::{dimension, forget};
pub(super) use self::composed::Composed;
pub use self::estimate::{TableBytes, table_bytes};
use super::groups::{for_integer, is_dense_integer, is_text};

/// The number of a null key.
pub(super) const NULL_KEY: u32 = 0;
/// The number of a key that the dimension doesn't have.
pub(super) const NO_MATCH: u32 = 1;
/// The first number that stands for a row of attributes.
pub(super) const FIRST_ROW: u32 = 2;

/// For each key the number of its attributes.
#[derive(Debug)]
pub(super) struct Dimension {
    keys: Keys,
    /// Keys beyond what an i64 holds.
    large: Large,
    /// The different rows of attributes; number [`FIRST_ROW`] is the first of them.
    pub(super) attributes: RecordBatch,
    /// Some keys that occur more than once.
    pub(super) repeated: Vec<String>,
    /// Bytes that all of this takes.
    size: usize,
    /// What the process's pool knows of it, for as long as it is there.
    _reservation: Option<MemoryReservation>,
}

type Large = hashbrown::HashMap<u64, u32>;

#[derive(Debug)]
enum Keys {
    /// By the key's distance from the first.
    Array {
        base: i64,
        numbers: Numbers,
    },
    Integers(hashbrown::HashMap<i64, u32>),
    Texts(hashbrown::HashMap<Box<str>, u32>),
}

impl Keys {
    /// Bytes of the array or hash table, without what it refers to.
    fn table_size(&self) -> usize {
        match self {
            Self::Array { numbers, .. } => numbers.size(),
            Self::Integers(numbers) => numbers.capacity() * (size_of::<(i64, u32)>() + 1),
            Self::Texts(numbers) => numbers.capacity() * (size_of::<(Box<str>, u32)>() + 1),
        }
    }
}

/// Numbers in the narrowest width that holds them.
#[derive(Debug)]
enum Numbers {
    Bytes(Vec<u8>),
    Halves(Vec<u16>),
    Words(Vec<u32>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(numbers) => numbers.len(),
            Self::Halves(numbers) => numbers.len(),
            Self::Words(numbers) => numbers.len(),
        }
    }

    fn get(&self, at: usize) -> Option<u32> {
        match self {
            Self::Bytes(numbers) => numbers.get(at).map(|n| u32::from(*n)),
            Self::Halves(numbers) => numbers.get(at).map(|n| u32::from(*n)),
            Self::Words(numbers) => numbers.get(at).copied(),
        }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Self::Bytes(numbers) => numbers.resize(len, NO_MATCH as u8),
            Self::Halves(numbers) => numbers.resize(len, NO_MATCH as u16),
            Self::Words(numbers) => numbers.resize(len, NO_MATCH),
        }
    }

    /// Moves all numbers up by so many places.
    fn shift(&mut self, places: usize) {
        let len = self.len() + places;
        self.resize(len);
        match self {
            Self::Bytes(numbers) => numbers.rotate_right(places),
            Self::Halves(numbers) => numbers.rotate_right(places),
            Self::Words(numbers) => numbers.rotate_right(places),
        }
    }

    /// Makes each number wide enough for `largest`.
    fn widen(&mut self, largest: u32) {
        match self {
            Self::Bytes(numbers) if largest > u8::MAX.into() => {
                *self = Self::Halves(numbers.iter().map(|n| u16::from(*n)).collect());
                self.widen(largest);
            }
            Self::Halves(numbers) if largest > u16::MAX.into() => {
                *self = Self::Words(numbers.iter().map(|n| u32::from(*n)).collect());
            }
            _ => {}
        }
    }

    /// Bytes of so many, wide enough for `largest`.
    fn size_of(&self, len: usize, largest: u32) -> usize {
        let width = match self {
            Self::Bytes(_) if largest <= u8::MAX.into() => size_of::<u8>(),
            Self::Bytes(_) | Self::Halves(_) if largest <= u16::MAX.into() => size_of::<u16>(),
            _ => size_of::<u32>(),
        };
        len.saturating_mul(width)
    }

    fn size(&self) -> usize {
        match self {
            Self::Bytes(numbers) => numbers.len(),
            Self::Halves(numbers) => numbers.len() * size_of::<u16>(),
            Self::Words(numbers) => numbers.len() * size_of::<u32>(),
        }
    }
}

impl Dimension {
    /// Whether keys of a type can be looked up.
    pub(super) fn takes(data_type: &DataType) -> bool {
        is_dense_integer(data_type) || is_text(data_type) || *data_type == DataType::UInt64
    }

    /// Puts `map[number]` of each key into `out`, and gives `unmatched` the rows whose key the
    /// dimension doesn't have.
    pub(super) fn look_up(
        &self,
        keys: &ArrayRef,
        map: &[u32],
        out: &mut Vec<u32>,
        unmatched: &mut Vec<u32>,
    ) -> Result<()> {
        out.clear();
        unmatched.clear();
        if *keys.data_type() == DataType::UInt64 {
            return self.look_up_large(keys, map, out, unmatched);
        }
        match &self.keys {
            Keys::Array { base, numbers } => {
                macro_rules! look_up {
                    ($type:ty) => {{
                        let keys = keys.as_primitive::<$type>();
                        match numbers {
                            Numbers::Bytes(n) => in_array(keys, *base, n, map, out, unmatched),
                            Numbers::Halves(n) => in_array(keys, *base, n, map, out, unmatched),
                            Numbers::Words(n) => in_array(keys, *base, n, map, out, unmatched),
                        }
                    }};
                }
                for_integer!(keys.data_type(), look_up).ok_or_else(|| key_type(keys))
            }
            Keys::Integers(numbers) => {
                let keys = cast(keys, &DataType::Int64)?;
                for (row, key) in keys.as_primitive::<Int64Type>().iter().enumerate() {
                    let number = key.map(|key| numbers.get(&key).copied());
                    push(number, row, map, out, unmatched);
                }
                Ok(())
            }
            Keys::Texts(numbers) => {
                let keys = cast(keys, &DataType::Utf8View)?;
                for (row, key) in keys.as_string_view().iter().enumerate() {
                    let number = key.map(|key| numbers.get(key).copied());
                    push(number, row, map, out, unmatched);
                }
                Ok(())
            }
        }
    }

    /// Keys that an i64 can't hold are null to the others.
    fn look_up_large(
        &self,
        keys: &ArrayRef,
        map: &[u32],
        out: &mut Vec<u32>,
        unmatched: &mut Vec<u32>,
    ) -> Result<()> {
        let small = cast(keys, &DataType::Int64)?;
        self.look_up(&small, map, out, unmatched)?;
        if small.null_count() == keys.null_count() {
            return Ok(());
        }
        for (row, key) in keys.as_primitive::<UInt64Type>().iter().enumerate() {
            let Some(key) = key.filter(|_| small.is_null(row)) else {
                continue;
            };
            let number = self.large.get(&key).copied();
            if number.is_none() {
                unmatched.push(row as u32);
            }
            out[row] = map[number.unwrap_or(NO_MATCH) as usize];
        }
        Ok(())
    }

    /// How many places an array of keys has, if they are in one.
    pub(super) fn places(&self) -> Option<usize> {
        match &self.keys {
            Keys::Array { numbers, .. } => Some(numbers.len()),
            _ => None,
        }
    }

    fn new(keys: Keys, large: Large, attributes: RecordBatch, repeated: Vec<String>) -> Self {
        let texts = match &keys {
            Keys::Texts(numbers) => numbers.keys().map(|text| text.len()).sum(),
            Keys::Array { .. } | Keys::Integers(_) => 0,
        };
        let of_keys = keys.table_size() + texts;
        let of_large = large.capacity() * (size_of::<(u64, u32)>() + 1);
        Self {
            size: of_keys + of_large + attributes.get_array_memory_size(),
            keys,
            large,
            attributes,
            repeated,
            _reservation: None,
        }
    }

    /// Bytes that all of it takes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Asks a process's pool for the memory that is taken.
    fn reserve(&mut self, reservation: MemoryReservation) -> Result<()> {
        reservation.try_resize(self.size)?;
        self._reservation = Some(reservation);
        Ok(())
    }
}

fn key_type(keys: &ArrayRef) -> DataFusionError {
    exec_datafusion_err!("a dimension has integer keys, the log {}", keys.data_type())
}

fn push(
    number: Option<Option<u32>>,
    row: usize,
    map: &[u32],
    out: &mut Vec<u32>,
    unmatched: &mut Vec<u32>,
) {
    let number = match number {
        None => NULL_KEY,
        Some(None) => {
            unmatched.push(row as u32);
            NO_MATCH
        }
        Some(Some(number)) => number,
    };
    out.push(map[number as usize]);
}

/// The hot loop of a lookup: two loads for a row, the second from a table that stays in the caches.
fn in_array<T: ArrowPrimitiveType, N: Copy + Into<u32>>(
    keys: &PrimitiveArray<T>,
    base: i64,
    numbers: &[N],
    map: &[u32],
    out: &mut Vec<u32>,
    unmatched: &mut Vec<u32>,
) where
    T::Native: Into<i64>,
{
    let number = |key: T::Native| {
        let at = key.into().wrapping_sub(base) as u64 as usize;
        numbers.get(at).map_or(NO_MATCH, |number| (*number).into())
    };
    match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.extend(keys.values().iter().enumerate().map(|(row, key)| {
            let number = number(*key);
            if number == NO_MATCH {
                unmatched.push(row as u32);
            }
            map[number as usize]
        })),
        Some(nulls) => {
            let keys = keys.values().iter().zip(nulls).enumerate();
            out.extend(keys.map(|(row, (key, valid))| {
                let number = if valid { number(*key) } else { NULL_KEY };
                if number == NO_MATCH {
                    unmatched.push(row as u32);
                }
                map[number as usize]
            }));
        }
    }
}
