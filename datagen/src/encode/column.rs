//! A column's encoder: takes values batch by batch and makes pages of them.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Chunk, Compressor};
use super::delta::Delta;
use super::hybrid;

/// Rows of a page: at the usual 20,000, columns of two or three bits have pages of a few kB.
const PAGE_ROWS: usize = 1 << 17;
/// The null of a nullable column of whole numbers.
pub(crate) const NULL: i64 = i64::MIN;
/// The null of a nullable column of codes.
pub(crate) const NO_CODE: u32 = u32::MAX;

/// A column's values for some rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Values<'a> {
    /// Numbers, dates (days) and times; [`NULL`] is none.
    Ints(&'a [i64]),
    /// Numbers of a dictionary's texts; [`NO_CODE`] is none.
    Codes(&'a [u32], &'a Arc<Vec<String>>),
    /// Texts of which few repeat; never null.
    Texts(&'a Texts),
}

/// Texts, behind each other.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a text, whose bytes `write` appends.
    #[inline]
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.bytes[start..end as usize];
            start = end as usize;
            text
        })
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// A column while its row group is made.
pub(super) struct Column {
    descr: ColumnDescPtr,
    nullable: bool,
    chunk: Chunk,
    /// Of the page: its rows, and for a nullable column which are there, a bit each.
    rows: usize,
    present: Vec<u8>,
    /// Of the chunk.
    nulls: u64,
    kind: Kind,
    page: Vec<u8>,
}

/// What differs between columns. Bounds are those of the chunk.
enum Kind {
    /// Not known before the first values.
    Empty,
    Ints {
        delta: Box<Delta>,
        bounds: Option<(i64, i64)>,
        spare: Vec<i64>,
    },
    Codes {
        /// The page's.
        codes: Vec<u32>,
        /// The chunk's number of each of the dictionary's texts, plus 1; 0 for none yet.
        numbers: Vec<u32>,
        /// The texts used, by that number.
        used: Vec<u32>,
        dictionary: Arc<Vec<String>>,
    },
    Texts {
        plain: Vec<u8>,
        bounds: Option<(Vec<u8>, Vec<u8>)>,
    },
}

impl Column {
    pub(super) fn new(descr: ColumnDescPtr) -> Self {
        Self {
            nullable: descr.max_def_level() > 0,
            descr,
            chunk: Chunk::default(),
            rows: 0,
            present: Vec::new(),
            nulls: 0,
            kind: Kind::Empty,
            page: Vec::new(),
        }
    }

    /// Adds values.
    pub(super) fn push(&mut self, values: Values<'_>, compressor: &mut Compressor) -> Result<()> {
        match values {
            Values::Ints(values) => self.push_ints(values),
            Values::Codes(codes, dictionary) => self.push_codes(codes, dictionary),
            Values::Texts(texts) => self.push_texts(texts),
        }
        if self.rows >= PAGE_ROWS {
            self.end_page(compressor)?;
        }
        Ok(())
    }

    fn push_ints(&mut self, values: &[i64]) {
        if !matches!(self.kind, Kind::Ints { .. }) {
            self.kind = Kind::Ints {
                delta: Box::default(),
                bounds: None,
                spare: Vec::new(),
            };
        }
        if self.nullable {
            self.nulls += mark(&mut self.present, self.rows, values, |&value| value != NULL);
        }
        self.rows += values.len();
        if let Kind::Ints {
            delta,
            bounds,
            spare,
        } = &mut self.kind
        {
            let values = if self.nullable {
                compact(values, spare, |value| value != NULL);
                spare.as_slice()
            } else {
                values
            };
            if let Some(&first) = values.first() {
                let (mut least, mut most) = bounds.unwrap_or((first, first));
                for &value in values {
                    least = least.min(value);
                    most = most.max(value);
                }
                *bounds = Some((least, most));
            }
            delta.push(values);
        }
    }

    fn push_codes(&mut self, values: &[u32], texts: &Arc<Vec<String>>) {
        if !matches!(self.kind, Kind::Codes { .. }) {
            self.kind = Kind::Codes {
                codes: Vec::with_capacity(PAGE_ROWS),
                numbers: vec![0; texts.len()],
                used: Vec::new(),
                dictionary: Arc::clone(texts),
            };
        }
        if self.nullable {
            self.nulls += mark(&mut self.present, self.rows, values, |&code| {
                code != NO_CODE
            });
        }
        self.rows += values.len();
        if let Kind::Codes {
            codes,
            numbers,
            used,
            ..
        } = &mut self.kind
        {
            for &code in values {
                if code == NO_CODE {
                    continue;
                }
                let number = &mut numbers[code as usize];
                if *number == 0 {
                    used.push(code);
                    *number = used.len() as u32;
                }
                codes.push(*number - 1);
            }
        }
    }

    fn push_texts(&mut self, texts: &Texts) {
        if !matches!(self.kind, Kind::Texts { .. }) {
            self.kind = Kind::Texts {
                plain: Vec::new(),
                bounds: None,
            };
        }
        self.rows += texts.len();
        if let Kind::Texts { plain, bounds } = &mut self.kind {
            for text in texts.iter() {
                plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
                plain.extend_from_slice(text);
                match bounds {
                    Some((least, _)) if text < least.as_slice() => *least = text.to_vec(),
                    Some((_, most)) if text > most.as_slice() => *most = text.to_vec(),
                    Some(_) => {}
                    None => *bounds = Some((text.to_vec(), text.to_vec())),
                }
            }
        }
    }

    fn end_page(&mut self, compressor: &mut Compressor) -> Result<()> {
        let page = &mut self.page;
        page.clear();
        if self.nullable {
            // Definition levels of a page of the first version: their length in four bytes, then the levels.
            page.extend_from_slice(&[0; 4]);
            levels(&self.present, self.rows, page);
            let length = (page.len() - 4) as u32;
            page[..4].copy_from_slice(&length.to_le_bytes());
        }
        let encoding = match &mut self.kind {
            Kind::Ints { delta, .. } => {
                delta.finish(page);
                Encoding::DELTA_BINARY_PACKED
            }
            Kind::Codes { codes, used, .. } => {
                let width = hybrid::code_width(used.len());
                page.push(width as u8);
                hybrid::packed(codes, width, page);
                codes.clear();
                Encoding::RLE_DICTIONARY
            }
            Kind::Texts { plain, .. } => {
                page.extend_from_slice(plain);
                plain.clear();
                Encoding::PLAIN
            }
            Kind::Empty => Encoding::PLAIN,
        };
        self.chunk.push(page, self.rows, encoding, compressor)?;
        self.present.clear();
        self.rows = 0;
        Ok(())
    }

    /// Ends the row group's chunk.
    pub(super) fn finish(
        mut self,
        compressor: &mut Compressor,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        if self.rows > 0 {
            self.end_page(compressor)?;
        }
        let nulls = Some(self.nulls);
        let text = |bytes: &[u8]| Some(ByteArray::from(bytes.to_vec()));
        match self.kind {
            Kind::Ints { bounds, .. } => {
                let statistics = int_statistics(&self.descr, bounds, nulls)?;
                self.chunk.finish(&self.descr, None, statistics, compressor)
            }
            Kind::Codes {
                used, dictionary, ..
            } => {
                let texts = || {
                    used.iter()
                        .map(|&code| dictionary[code as usize].as_bytes())
                };
                let mut plain = Vec::new();
                for text in texts() {
                    plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    plain.extend_from_slice(text);
                }
                let (least, most) = (texts().min().and_then(text), texts().max().and_then(text));
                let statistics = Statistics::byte_array(least, most, None, nulls, false);
                let values = Some((plain.as_slice(), used.len()));
                self.chunk
                    .finish(&self.descr, values, statistics, compressor)
            }
            Kind::Texts { bounds, .. } => {
                let least = bounds.as_ref().and_then(|(least, _)| text(least));
                let most = bounds.as_ref().and_then(|(_, most)| text(most));
                let statistics = Statistics::byte_array(least, most, None, nulls, false);
                self.chunk.finish(&self.descr, None, statistics, compressor)
            }
            Kind::Empty => Err(ParquetError::General("a column without values".to_owned())),
        }
    }
}

/// Statistics of a column of whole numbers, of the type that the file has for it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "values of a column of 32 bits have 32 bits"
)]
fn int_statistics(
    descr: &ColumnDescPtr,
    bounds: Option<(i64, i64)>,
    nulls: Option<u64>,
) -> Result<Statistics> {
    let (least, most) = bounds.unzip();
    match descr.physical_type() {
        Type::INT64 => Ok(Statistics::int64(least, most, None, nulls, false)),
        Type::INT32 => {
            let narrow = |value: Option<i64>| value.map(|value| value as i32);
            let (least, most) = (narrow(least), narrow(most));
            Ok(Statistics::int32(least, most, None, nulls, false))
        }
        other => Err(ParquetError::General(format!("no whole numbers: {other}"))),
    }
}

/// Adds a bit for each value, behind `rows` of them; returns how many aren't there.
fn mark<T>(bits: &mut Vec<u8>, rows: usize, values: &[T], present: impl Fn(&T) -> bool) -> u64 {
    bits.resize((rows + values.len()).div_ceil(8), 0);
    let mut nulls = 0;
    for (place, value) in (rows..).zip(values) {
        let present = present(value);
        bits[place / 8] |= u8::from(present) << (place % 8);
        nulls += u64::from(!present);
    }
    nulls
}

/// The values that are there; without a branch, for nulls come by chance.
fn compact<T: Copy + Default>(values: &[T], out: &mut Vec<T>, present: impl Fn(T) -> bool) {
    out.clear();
    out.resize(values.len(), T::default());
    let mut count = 0;
    for &value in values {
        out[count] = value;
        count += usize::from(present(value));
    }
    out.truncate(count);
}

/// Definition levels of one bit each, which is what `bits` are already.
fn levels(bits: &[u8], rows: usize, out: &mut Vec<u8>) {
    let ones: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
    if ones as usize == rows || ones == 0 {
        hybrid::repeated(u32::from(ones > 0), rows, 1, out);
    } else {
        hybrid::packed_bits(bits, out);
    }
}
