//! What the table of a dimension will take, before it is built.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::NO_MATCH;
use super::build::array_fits;
use crate::fused::groups::{is_dense_integer, is_text};

/// A text's bytes and what its allocation takes besides.
const TEXT_BYTES: usize = 48;
/// A hash table has at most so many of eight slots in use.
const SLOTS_IN_USE: usize = 7;

/// About the bytes that the code table of a dimension takes in each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableBytes {
    /// If attributes repeat so much that a byte numbers them.
    pub least: usize,
    /// If those of each row are different. They themselves come on top; they are few where they
    /// repeat.
    pub most: usize,
}

/// What a table takes of `rows` keys of a type, the smallest and the largest of which are `range` if
/// they are known.
pub fn table_bytes(
    key: &DataType,
    rows: usize,
    range: Option<&(ScalarValue, ScalarValue)>,
) -> TableBytes {
    let of_width = |width| bytes_of_width(key, rows, range, width);
    TableBytes {
        least: of_width(size_of::<u8>()),
        most: of_width(number_bytes(rows)),
    }
}

/// The bytes with numbers so wide; only arrays have narrow ones.
fn bytes_of_width(
    key: &DataType,
    rows: usize,
    range: Option<&(ScalarValue, ScalarValue)>,
    width: usize,
) -> usize {
    if is_text(key) {
        let slots = hashed_bytes(rows, size_of::<(Box<str>, u32)>());
        return slots.saturating_add(rows.saturating_mul(TEXT_BYTES));
    }
    let integer = |value: &ScalarValue| match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    };
    let span = range.filter(|_| is_dense_integer(key) || *key == DataType::UInt64);
    let span = span.and_then(|(min, max)| integer(min).zip(integer(max)));
    let span = span.map(|(min, max)| i128::from(max) - i128::from(min) + 1);
    match span.filter(|span| array_fits(*span, rows)) {
        Some(span) => usize::try_from(span.max(0))
            .unwrap_or(usize::MAX)
            .saturating_mul(width),
        None => hashed_bytes(rows, size_of::<(i64, u32)>()),
    }
}

/// The width of numbers of so many rows, were the attributes of each different.
fn number_bytes(rows: usize) -> usize {
    match rows.saturating_add(NO_MATCH as usize) {
        largest if largest < usize::from(u8::MAX) => size_of::<u8>(),
        largest if largest < usize::from(u16::MAX) => size_of::<u16>(),
        _ => size_of::<u32>(),
    }
}

fn hashed_bytes(rows: usize, slot: usize) -> usize {
    let slots = rows.saturating_mul(8) / SLOTS_IN_USE;
    let slots = slots.checked_next_power_of_two().unwrap_or(usize::MAX);
    slots.saturating_mul(slot + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: i64, max: i64) -> (ScalarValue, ScalarValue) {
        (min.into(), max.into())
    }

    #[test]
    fn keys_that_lie_close_together_take_an_array() {
        let million = 1_000_000;
        let of = |rows, max| table_bytes(&DataType::Int64, rows, Some(&range(1, max)));
        let array = TableBytes {
            least: 40_000_000,
            most: 160_000_000,
        };
        assert_eq!(of(40 * million, 40_000_000), array);
        let exactly = |bytes| TableBytes {
            least: bytes,
            most: bytes,
        };
        assert_eq!(of(10, 1_000), exactly(1_000));
        // Mostly empty: hashed.
        assert_eq!(of(40 * million, 1 << 40), exactly((1 << 26) * 17));
        let unknown = table_bytes(&DataType::Int64, 40 * million, None);
        assert_eq!(unknown, exactly((1 << 26) * 17));
        let texts = table_bytes(&DataType::Utf8, 40 * million, Some(&range(1, 2)));
        assert_eq!(texts, exactly((1 << 26) * 25 + 40 * million * TEXT_BYTES));
    }

    #[test]
    fn nothing_overflows() {
        let all = range(i64::MIN, i64::MAX);
        let least = |key, rows, range| table_bytes(&key, rows, range).least;
        assert!(least(DataType::UInt64, usize::MAX, Some(&all)) > 1 << 60);
        assert!(least(DataType::Utf8View, usize::MAX, None) > 1 << 60);
        assert_eq!(least(DataType::Int32, 0, Some(&range(5, 4))), 0);
    }
}
