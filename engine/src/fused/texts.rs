//! Numbers texts in the order of first sight.
//!
//! Where numbers needn't be dense (as values of distinct counts), addresses of IPv4 as they are usually
//! written are numbers already: of a log, most are new, and each would miss the caches in a table.
//!
//! Short texts, such as addresses and codes, are numbers themselves: sixteen bytes with their length,
//! found by one multiplication and compared at once. Longer ones go through DataFusion's map, but those
//! that stand where one has stood before (the values of a Parquet dictionary, which a row group's
//! texts all point to) are known by their place.

use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, LargeStringBuilder, StringViewArray, StringViewBuilder, UInt32Array,
};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr_common::binary_map::OutputType;
use datafusion::physical_expr_common::binary_view_map::ArrowBytesViewMap;

/// Bytes of a text that is a number.
const SHORT: u32 = 15;
/// Bytes of a text that lies in its view.
const INLINE: u32 = 12;
/// The code of the address 0.0.0.0; those of other texts are their numbers, which are less.
const FIRST_ADDRESS: i64 = 1 << 32;
/// The largest code.
pub(super) const LAST_CODE: i64 = 2 * FIRST_ADDRESS - 1;

/// Texts and their numbers; a null has one of its own.
#[derive(Debug)]
pub(super) struct TextNumbers {
    short: ShortTexts,
    long: ArrowBytesViewMap<u32>,
    /// Numbers of the texts in `long`, in the order in which they came.
    long_numbers: Vec<u32>,
    places: Places,
    null: Option<u32>,
    next: u32,
    batch: Vec<u32>,
    codes: Vec<i64>,
    /// Rows of the batch whose texts have to be looked for in `long`.
    looked_for: Vec<u32>,
}

impl Default for TextNumbers {
    fn default() -> Self {
        Self {
            short: ShortTexts::default(),
            long: ArrowBytesViewMap::new(OutputType::Utf8View),
            long_numbers: Vec::new(),
            places: Places::default(),
            null: None,
            next: 0,
            batch: Vec::new(),
            codes: Vec::new(),
            looked_for: Vec::new(),
        }
    }
}

impl TextNumbers {
    /// The numbers of a column's texts, whatever their type.
    pub(super) fn number(&mut self, column: &ArrayRef) -> Result<&[u32]> {
        self.number_texts::<false>(column)?;
        Ok(&self.batch)
    }

    /// Different numbers for the different texts of a column, not one after the other.
    pub(super) fn codes(&mut self, column: &ArrayRef) -> Result<&[i64]> {
        self.number_texts::<true>(column)?;
        // Long texts were found last.
        for row in &self.looked_for {
            self.codes[*row as usize] = i64::from(self.batch[*row as usize]);
        }
        Ok(&self.codes)
    }

    fn number_texts<const CODES: bool>(&mut self, column: &ArrayRef) -> Result<()> {
        let column = match column.data_type() {
            DataType::Utf8View => column,
            _ => &cast(column, &DataType::Utf8View)?,
        };
        if (self.next as usize).saturating_add(column.len()) > u32::MAX as usize {
            return exec_err!("more than 2^32 different texts in one task");
        }
        let texts = column.as_string_view();
        let buffers = texts.data_buffers();
        self.places.hold(buffers);
        self.batch.clear();
        self.batch.reserve(texts.len());
        self.codes.clear();
        self.looked_for.clear();
        let nulls = texts.nulls();
        for (row, view) in texts.views().iter().enumerate() {
            let length = *view as u32;
            let number = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                *self.null.get_or_insert_with(|| {
                    self.next += 1;
                    self.next - 1
                })
            } else if length <= SHORT {
                let key = short(*view, buffers);
                if CODES && let Some(address) = ipv4(key) {
                    self.batch.push(0);
                    self.codes.push(FIRST_ADDRESS + i64::from(address));
                    continue;
                }
                self.short.number(key, &mut self.next)
            } else {
                match self.places.get(place(*view, buffers), length) {
                    Some(number) => number,
                    None => {
                        self.looked_for.push(row as u32);
                        0
                    }
                }
            };
            self.batch.push(number);
            if CODES {
                self.codes.push(i64::from(number));
            }
        }
        if !self.looked_for.is_empty() {
            self.look_for_long(texts)?;
        }
        Ok(())
    }

    fn look_for_long(&mut self, texts: &StringViewArray) -> Result<()> {
        let rows = UInt32Array::from(self.looked_for.clone());
        let long = take(texts, &rows, None)?;
        let (next, numbers) = (&mut self.next, &mut self.long_numbers);
        let mut found = self.looked_for.iter();
        let (batch, places) = (&mut self.batch, &mut self.places);
        self.long.insert_if_new(
            &long,
            |_| {
                numbers.push(*next);
                *next += 1;
                *next - 1
            },
            |number| {
                if let Some(row) = found.next() {
                    let view = texts.views()[*row as usize];
                    batch[*row as usize] = number;
                    places.put(place(view, texts.data_buffers()), view as u32, number);
                }
            },
        );
        Ok(())
    }

    /// What [`TextNumbers::number`] gave last.
    pub(super) fn last_numbers(&self) -> &[u32] {
        &self.batch
    }

    /// How many numbers were given.
    pub(super) fn len(&self) -> usize {
        self.next as usize
    }

    /// The texts in the order of their numbers. The map of long ones gives them only when it is taken
    /// apart, so it is built anew.
    pub(super) fn texts(&mut self) -> Result<ArrayRef> {
        /// Where a text is to be found.
        #[derive(Clone, Copy)]
        enum Text {
            Null,
            Short(u128),
            Long(u32),
        }
        let mut all = vec![Text::Null; self.len()];
        for slot in self.short.slots.iter().filter(|slot| slot.key != EMPTY) {
            all[slot.number as usize] = Text::Short(slot.key);
        }
        for (at, number) in self.long_numbers.iter().enumerate() {
            all[*number as usize] = Text::Long(at as u32);
        }
        let long = self.long.take().into_state();
        // The same texts in the same order, with their numbers once more.
        let mut numbers = self.long_numbers.iter().copied();
        self.long
            .insert_if_new(&long, |_| numbers.next().unwrap_or_default(), |_| {});
        let long = long.as_string_view();
        let mut texts = StringViewBuilder::with_capacity(all.len());
        for text in all {
            match text {
                Text::Null => texts.append_null(),
                Text::Short(key) => {
                    let bytes = key.to_le_bytes();
                    let length = usize::from(bytes[SHORT as usize]);
                    match std::str::from_utf8(&bytes[..length]) {
                        Ok(text) => texts.append_value(text),
                        Err(_) => return exec_err!("a text is not UTF-8"),
                    }
                }
                Text::Long(at) => texts.append_value(long.value(at as usize)),
            }
        }
        Ok(Arc::new(texts.finish()))
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let short = self.short.slots.len() * size_of::<Slot>();
        let numbers =
            self.batch.capacity() + self.long_numbers.capacity() + 2 * self.codes.capacity();
        let places = self.places.slots.len() * size_of::<Place>();
        short + self.long.size() + numbers * size_of::<u32>() + places
    }
}

/// Whether a code is that of an address, and not a text's number.
pub(super) fn is_address(code: i64) -> bool {
    code >= FIRST_ADDRESS
}

/// The texts that have these codes, as LargeUtf8: `numbered` are a [`TextNumbers`]' texts.
pub(super) fn texts_of(numbered: &ArrayRef, codes: &[i64]) -> ArrayRef {
    let numbered = numbered.as_string_view();
    let mut texts = LargeStringBuilder::with_capacity(codes.len(), 16 * codes.len());
    for code in codes {
        match u32::try_from(*code) {
            Ok(number) if numbered.is_valid(number as usize) => {
                texts.append_value(numbered.value(number as usize));
            }
            Ok(_) => texts.append_null(),
            Err(_) => {
                let address = Ipv4Addr::from((*code - FIRST_ADDRESS) as u32);
                texts.append_value(address.to_string());
            }
        }
    }
    Arc::new(texts.finish())
}

/// A text of at most [`SHORT`] bytes as a number: its bytes, zeros, and its length.
#[inline]
fn short(view: u128, buffers: &[Buffer]) -> u128 {
    let length = view as u32;
    let bytes = match length <= INLINE {
        // What lies behind the text is not always zero.
        true => (view >> 32) & ((1 << (8 * length)) - 1),
        false => {
            let (buffer, offset) = (buffer_of(view), offset_of(view));
            let text = &buffers[buffer][offset..offset + length as usize];
            // Two loads that overlap; there are more than eight bytes.
            let (first, rest) = (text.first_chunk::<8>(), text.last_chunk::<8>());
            let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |b| u64::from_le_bytes(*b));
            let overlap = 8 * (16 - length);
            u128::from(word(first)) | u128::from(word(rest) >> overlap) << 64
        }
    };
    bytes | u128::from(length) << 120
}

/// No octet: a bit that none has.
const NO_OCTET: u16 = 1 << 15;
/// Octets by their decimal digits, four bits each, the first lowest; those of so many digits lie in a
/// part of their own. Without zeros before other digits.
static OCTETS: [u16; 3 << 12] = {
    let mut octets = [NO_OCTET; 3 << 12];
    let mut octet = 0;
    while octet < 256 {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let at = match octet {
            0..10 => ones,
            10..100 => 1 << 12 | tens | ones << 4,
            _ => 2 << 12 | hundreds | tens << 4 | ones << 8,
        };
        octets[at] = octet as u16;
        octet += 1;
    }
    octets
};

/// A byte, eight times.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bit of each byte that is neither a digit nor a dot.
#[inline]
fn foreign(bytes: u64) -> u64 {
    const LOW_BITS: u64 = eight(0x7f);
    let (digit, dot) = (bytes ^ eight(b'0'), bytes ^ eight(b'.'));
    let no_digit = ((digit & LOW_BITS) + eight(0x7f - 9)) | digit;
    let no_dot = ((dot & LOW_BITS) + LOW_BITS) | dot;
    no_digit & no_dot & !LOW_BITS
}

/// The lower halves of eight bytes, side by side.
#[inline]
fn lower_halves(bytes: u64) -> u64 {
    let halves = bytes & eight(0x0f);
    let halves = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (halves | halves >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) & 0xffff_ffff
}

/// An address such as 192.0.2.1, written as it usually is: four numbers below 256, no zero before
/// another digit. Each address is so written in one way only.
#[inline]
fn ipv4(key: u128) -> Option<u32> {
    let length = (key >> 120) as u32;
    if length < 7 {
        return None;
    }
    let (low, high) = (key as u64, (key >> 64) as u64 & u64::MAX >> 8);
    let in_low = u64::MAX >> (8 * (8 - length.min(8)));
    let in_high = (1 << (8 * length.saturating_sub(8))) - 1;
    if (foreign(low) & in_low | foreign(high) & in_high) != 0 {
        return None;
    }
    // Four bits of a digit are its value, of a dot 0xE.
    let text = lower_halves(low) | lower_halves(high) << 32;
    let mut dots = text >> 3 & text >> 2 & text >> 1 & 0x1111_1111_1111_1111;
    let (mut address, mut start, mut seen) = (0, 0u32, 0);
    for part in 0..4 {
        let end = match part {
            3 => 4 * length,
            // Without a dot it lies behind all texts.
            _ => dots.trailing_zeros(),
        };
        dots &= dots.wrapping_sub(1);
        let bits = end.wrapping_sub(start);
        let digits = (text >> (start & 63)) as u32 & ((1 << (bits & 31)) - 1) & 0xfff;
        // Of no digit or more than three beyond the table.
        let at = (bits.wrapping_sub(4) >> 2) << 12 | digits;
        let octet = OCTETS.get(at as usize).copied().unwrap_or(NO_OCTET);
        seen |= octet;
        address = address << 8 | u32::from(octet & 0xff);
        start = end.wrapping_add(4);
    }
    (seen < NO_OCTET && dots == 0).then_some(address)
}

/// The third word of a view, the buffer that the text lies in.
fn buffer_of(view: u128) -> usize {
    (view >> 64) as u32 as usize
}

/// The last word of a view, where the text lies in its buffer.
fn offset_of(view: u128) -> usize {
    (view >> 96) as u32 as usize
}

/// Where a long text lies in memory.
#[inline]
fn place(view: u128, buffers: &[Buffer]) -> usize {
    buffers[buffer_of(view)].as_ptr() as usize + offset_of(view)
}

/// No text's: its length would be 255.
const EMPTY: u128 = u128::MAX;

#[derive(Debug, Clone, Copy)]
// Twenty bytes rather than thirty-two: a table of millions of texts misses the caches less.
#[repr(C, packed(4))]
struct Slot {
    key: u128,
    number: u32,
}

/// An open-addressed table of short texts.
#[derive(Debug)]
struct ShortTexts {
    slots: Vec<Slot>,
    len: usize,
    /// Of this table alone: texts of logs may have been made to collide.
    seeds: [u64; 2],
}

impl Default for ShortTexts {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            slots: Vec::new(),
            len: 0,
            seeds: [random.hash_one(0), random.hash_one(1) | 1],
        }
    }
}

impl ShortTexts {
    #[inline]
    fn number(&mut self, key: u128, next: &mut u32) -> u32 {
        if self.len * 5 >= self.slots.len() * 3 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = self.hash(key) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.key == key {
                return slot.number;
            }
            if slot.key == EMPTY {
                let number = *next;
                self.slots[at] = Slot { key, number };
                self.len += 1;
                *next += 1;
                return number;
            }
            at = (at + 1) & mask;
        }
    }

    /// The halves of a product of both halves: as in wyhash and foldhash.
    #[inline]
    fn hash(&self, key: u128) -> u64 {
        let [low, high] = [
            key as u64 ^ self.seeds[0],
            (key >> 64) as u64 ^ self.seeds[1],
        ];
        let product = u128::from(low) * u128::from(high);
        let folded = (product as u64) ^ (product >> 64) as u64;
        folded ^ folded >> 29
    }

    #[cold]
    fn grow(&mut self) {
        let empty = Slot {
            key: EMPTY,
            number: 0,
        };
        let size = (2 * self.slots.len()).max(1 << 10);
        let old = std::mem::replace(&mut self.slots, vec![empty; size]);
        for slot in old.into_iter().filter(|slot| slot.key != EMPTY) {
            let mut at = self.hash(slot.key) as usize & (size - 1);
            while self.slots[at].key != EMPTY {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

/// Places in memory that long texts were seen at, of buffers that are held so that nothing else comes
/// to lie there.
#[derive(Debug, Default)]
struct Places {
    held: Vec<Buffer>,
    /// By the place; a later one takes the slot of an earlier one.
    slots: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    address: usize,
    length: u32,
    number: u32,
}

impl Places {
    const BITS: u32 = 16;
    /// Comparing more buffers for each batch costs more than it saves.
    const MOST_BUFFERS: usize = 16;

    /// Forgets all places unless they are in the same buffers as these texts.
    fn hold(&mut self, buffers: &[Buffer]) {
        let same = |a: &Buffer, b: &Buffer| a.as_ptr() == b.as_ptr() && a.len() == b.len();
        let known = |buffer| self.held.iter().any(|held| same(held, buffer));
        if buffers.len() <= Self::MOST_BUFFERS && buffers.iter().all(known) {
            return;
        }
        self.held.clear();
        self.slots.clear();
        if buffers.len() <= Self::MOST_BUFFERS {
            self.held.extend_from_slice(buffers);
            self.slots.resize(1 << Self::BITS, Place::default());
        }
    }

    #[inline]
    fn slot(address: usize) -> usize {
        ((address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - Self::BITS)) as usize
    }

    #[inline]
    fn get(&self, address: usize, length: u32) -> Option<u32> {
        let place = self.slots.get(Self::slot(address))?;
        (place.address == address && place.length == length).then_some(place.number)
    }

    #[inline]
    fn put(&mut self, address: usize, length: u32, number: u32) {
        if let Some(place) = self.slots.get_mut(Self::slot(address)) {
            *place = Place {
                address,
                length,
                number,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::array::StringArray;
    use proptest::prelude::*;

    use super::*;

    /// Of all lengths around those that matter, with common beginnings and ends, and zeros.
    fn text() -> impl Strategy<Value = Option<String>> {
        prop::option::weighted(
            0.9,
            prop_oneof![
                "[a\\x00]{0,3}",
                "x{10,12}[ab]{0,6}",
                "[ab]{0,6}y{10,12}",
                "ä{4,9}",
                "https://example\\.com/[a-d]{1,3}",
            ],
        )
    }

    proptest! {
        #[test]
        fn equal_texts_have_equal_numbers(
            batches in prop::collection::vec(
                (prop::collection::vec(text(), 0..60), any::<bool>()), 0..8,
            ),
            ask_after in 0usize..8,
        ) {
            let mut numbers = TextNumbers::default();
            let mut known: HashMap<Option<String>, u32> = HashMap::new();
            for (at, (batch, dictionary)) in batches.iter().enumerate() {
                let texts: ArrayRef = Arc::new(StringArray::from(batch.clone()));
                let by_key = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                let texts = match dictionary {
                    true => cast(&texts, &by_key).unwrap(),
                    false => cast(&texts, &DataType::Utf8View).unwrap(),
                };
                // Twice: the second time they are known by their places.
                for _ in 0..2 {
                    let found = numbers.number(&texts).unwrap().to_vec();
                    prop_assert_eq!(found.len(), batch.len());
                    for (text, number) in batch.iter().zip(found) {
                        let first = known.entry(text.clone()).or_insert(number);
                        prop_assert_eq!(*first, number);
                    }
                }
                if at == ask_after {
                    numbers.texts().unwrap();
                }
            }
            prop_assert_eq!(numbers.len(), known.len());
            let texts = numbers.texts().unwrap();
            for (text, number) in known {
                let found = texts.as_string_view();
                let found = found.is_valid(number as usize).then(|| found.value(number as usize));
                prop_assert_eq!(found, text.as_deref());
            }
        }
    }

    proptest! {
        #[test]
        fn codes_are_of_one_text_each(
            texts in prop::collection::vec(prop_oneof![
                any::<u32>().prop_map(|ip| Some(Ipv4Addr::from(ip).to_string())),
                "[0-3]{0,4}\\.[0-9a:/]{0,3}\\.[0-9]{0,3}\\.[0-9]{0,3}(\\.[0-9])?".prop_map(Some),
                text(),
            ], 0..80),
        ) {
            let column: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let mut numbers = TextNumbers::default();
            let codes = numbers.codes(&column).unwrap().to_vec();
            for (a, x) in texts.iter().zip(&codes) {
                for (b, y) in texts.iter().zip(&codes) {
                    prop_assert_eq!(a == b, x == y, "{:?} {:?}", a, b);
                }
                let canonical = a.as_ref().is_some_and(|a| {
                    a.parse::<Ipv4Addr>().is_ok_and(|ip| ip.to_string() == *a)
                });
                prop_assert_eq!(is_address(*x), canonical, "{:?}", a);
            }
            let again = texts_of(&numbers.texts().unwrap(), &codes);
            prop_assert_eq!(again.as_string::<i64>().iter().collect::<Vec<_>>(),
                texts.iter().map(Option::as_deref).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_table_of_many_texts_is_whole() {
        let texts = |from: usize| -> ArrayRef {
            let texts = (from..from + 50_000).map(|i| Some(format!("10.{}.{}", i % 251, i)));
            Arc::new(texts.collect::<StringViewArray>())
        };
        let mut numbers = TextNumbers::default();
        for from in [0, 25_000, 50_000] {
            let found = numbers.number(&texts(from)).unwrap().to_vec();
            let expected: Vec<u32> = (from as u32..from as u32 + 50_000).collect();
            assert_eq!(found, expected);
        }
    }
}
