//! A dimension as a code table: for each key the number of its row of attributes.
//!
//! Attributes repeat: four million users have some thirty thousand birth dates. So a key leads to a
//! small number, and the number to attributes. Keys that lie close together index an array, others
//! go through a hash table. A table is built once in a process and shared by all tasks.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, StringViewArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use tokio::sync::OnceCell;

use super::groups::{for_integer, is_dense_integer, is_text};

/// The number of a null key.
pub(super) const NULL_KEY: u32 = 0;
/// The number of a key that the dimension doesn't have.
pub(super) const NO_MATCH: u32 = 1;
/// The first number that stands for a row of attributes.
pub(super) const FIRST_ROW: u32 = 2;

/// Keys index an array if it has at most so many places for each.
const PLACES_PER_KEY: usize = 8;
/// Or if it is no larger than this.
const SMALL_ARRAY: usize = 1 << 22;
/// Bytes of the tables that are kept for whoever needs them again.
const CACHE_BYTES: usize = 1 << 30;
/// Repeated keys that an error shows.
const EXAMPLES: usize = 3;

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

/// Numbers in the narrowest width that holds them.
#[derive(Debug)]
pub(super) enum Numbers {
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

    fn set(&mut self, at: usize, number: u32) {
        match self {
            Self::Bytes(numbers) => numbers[at] = number as u8,
            Self::Halves(numbers) => numbers[at] = number as u16,
            Self::Words(numbers) => numbers[at] = number,
        }
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

    /// Puts this table and a map together; none if keys are hashed.
    pub(super) fn compose(&self, map: &[u32]) -> Option<Composed> {
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

    fn size(&self) -> usize {
        let keys = match &self.keys {
            Keys::Array { numbers, .. } => numbers.size(),
            Keys::Integers(numbers) => numbers.capacity() * (size_of::<(i64, u32)>() + 1),
            Keys::Texts(numbers) => {
                let texts: usize = numbers.keys().map(|text| text.len()).sum();
                texts + numbers.capacity() * (size_of::<(Box<str>, u32)>() + 1)
            }
        };
        let large = self.large.capacity() * (size_of::<(u64, u32)>() + 1);
        keys + large + self.attributes.get_array_memory_size()
    }
}

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
pub(super) struct Composed {
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
    pub(super) fn look_up(
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

/// Builds a table from a plan whose first column is the key.
struct Builder {
    keys: Keys,
    large: Large,
    attributes: Option<Box<dyn GroupValues>>,
    numbers: Vec<usize>,
    repeated: Vec<String>,
    /// Rows to come, as far as is known.
    expected: usize,
    rows: usize,
}

impl Builder {
    fn new(schema: &SchemaRef, expected: usize) -> Result<Self> {
        let key = schema.field(0).data_type();
        let attributes = schema.project(&(1..schema.fields().len()).collect::<Vec<_>>())?;
        let attributes = match attributes.fields().is_empty() {
            true => None,
            false => Some(new_group_values(
                Arc::new(attributes),
                &GroupOrdering::None,
            )?),
        };
        let keys = match key {
            t if is_dense_integer(t) || *t == DataType::UInt64 => Keys::Array {
                base: 0,
                numbers: Numbers::Bytes(Vec::new()),
            },
            t if is_text(t) => Keys::Texts(hashbrown::HashMap::new()),
            other => return exec_err!("a dimension's keys can't be {other}"),
        };
        Ok(Self {
            keys,
            large: Large::new(),
            attributes,
            numbers: Vec::new(),
            repeated: Vec::new(),
            expected,
            rows: 0,
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        self.rows += rows;
        match &mut self.attributes {
            Some(attributes) => attributes.intern(&batch.columns()[1..], &mut self.numbers)?,
            None => {
                self.numbers.clear();
                self.numbers.resize(rows, 0);
            }
        }
        let largest = self.attributes.as_ref().map_or(1, |a| a.len()) + FIRST_ROW as usize;
        let largest = u32::try_from(largest)
            .map_err(|_| exec_datafusion_err!("a dimension has too many different attributes"))?;
        let numbered = |n: &usize| *n as u32 + FIRST_ROW;
        if let Keys::Texts(known) = &mut self.keys {
            let numbers = self.numbers.iter().map(numbered);
            let keys = cast(batch.column(0), &DataType::Utf8View)?;
            let keys: &StringViewArray = keys.as_string_view();
            for (key, number) in keys.iter().zip(numbers) {
                if let Some(key) = key
                    && known.insert(key.into(), number).is_some()
                    && self.repeated.len() < EXAMPLES
                {
                    self.repeated.push(key.to_owned());
                }
            }
            return Ok(());
        }
        if *batch.column(0).data_type() == DataType::UInt64 {
            let keys = batch.column(0).as_primitive::<UInt64Type>();
            for (key, number) in keys.iter().zip(self.numbers.iter().map(numbered)) {
                if let Some(key) = key.filter(|key| i64::try_from(*key).is_err())
                    && self.large.insert(key, number).is_some()
                    && self.repeated.len() < EXAMPLES
                {
                    self.repeated.push(key.to_string());
                }
            }
        }
        // Those have become null.
        let keys = cast(batch.column(0), &DataType::Int64)?;
        let keys: &Int64Array = keys.as_primitive();
        self.make_room(keys, largest);
        for (key, number) in keys.iter().zip(self.numbers.iter().map(numbered)) {
            let Some(key) = key else {
                continue;
            };
            let before = match &mut self.keys {
                Keys::Array { base, numbers } => {
                    let at = key.wrapping_sub(*base) as usize;
                    let before = numbers.get(at).filter(|before| *before != NO_MATCH);
                    numbers.set(at, number);
                    before
                }
                Keys::Integers(known) => known.insert(key, number),
                Keys::Texts(_) => None,
            };
            if before.is_some() && self.repeated.len() < EXAMPLES {
                self.repeated.push(key.to_string());
            }
        }
        Ok(())
    }

    /// Makes the array long and wide enough, or turns to hashing where it would be mostly empty.
    fn make_room(&mut self, keys: &Int64Array, largest: u32) {
        let Keys::Array { base, numbers } = &mut self.keys else {
            return;
        };
        let min = datafusion::arrow::compute::min(keys);
        let max = datafusion::arrow::compute::max(keys);
        let Some((mut min, mut max)) = min.zip(max) else {
            return;
        };
        if numbers.len() == 0 {
            *base = min;
        } else {
            min = min.min(*base);
            max = max.max(*base + (numbers.len() as i64 - 1));
        }
        let span = i128::from(max) - i128::from(min) + 1;
        let allowed = SMALL_ARRAY.max(self.expected.max(self.rows) * PLACES_PER_KEY);
        if span > allowed as i128 {
            let mut hashed = hashbrown::HashMap::new();
            for at in 0..numbers.len() {
                if let Some(number) = numbers.get(at).filter(|n| *n != NO_MATCH) {
                    hashed.insert(*base + at as i64, number);
                }
            }
            self.keys = Keys::Integers(hashed);
            return;
        }
        numbers.widen(largest);
        let before = (*base - min) as usize;
        if before > 0 {
            numbers.shift(before);
            *base = min;
        }
        if numbers.len() < span as usize {
            numbers.resize(span as usize);
        }
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<Dimension> {
        let columns: Vec<usize> = (1..schema.fields().len()).collect();
        let attributes = Arc::new(schema.project(&columns)?);
        let attributes = match &mut self.attributes {
            Some(values) => {
                let values = values.emit(EmitTo::All)?.into_iter();
                let values = values.zip(attributes.fields());
                let values: Vec<ArrayRef> = values
                    .map(|(values, field)| Ok(cast(&values, field.data_type())?))
                    .collect::<Result<_>>()?;
                let nullable = attributes.fields().iter();
                let nullable: Vec<_> = nullable
                    .map(|field| field.as_ref().clone().with_nullable(true))
                    .collect();
                let schema = datafusion::arrow::datatypes::Schema::new(nullable);
                RecordBatch::try_new(Arc::new(schema), values)?
            }
            None => {
                let options = datafusion::arrow::record_batch::RecordBatchOptions::new();
                let options = options.with_row_count(Some(1));
                RecordBatch::try_new_with_options(attributes, Vec::new(), &options)?
            }
        };
        Ok(Dimension {
            keys: self.keys,
            large: self.large,
            attributes,
            repeated: self.repeated,
        })
    }
}

/// Runs `plan`, whose first column is the key, and builds its table.
async fn build(
    plan: Arc<dyn ExecutionPlan>,
    expected: usize,
    context: Arc<TaskContext>,
) -> Result<Dimension> {
    let schema = plan.schema();
    let partitions = plan.output_partitioning().partition_count();
    let mut builder = Builder::new(&schema, expected)?;
    // Partitions are decoded side by side; one task fills the table.
    let (send, mut receive) = tokio::sync::mpsc::channel::<Result<RecordBatch>>(4 * partitions);
    let mut decoding = tokio::task::JoinSet::new();
    for partition in 0..partitions {
        let mut stream = plan.execute(partition, Arc::clone(&context))?;
        let send = send.clone();
        decoding.spawn(async move {
            while let Some(batch) = stream.next().await {
                if send.send(batch).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(send);
    while let Some(batch) = receive.recv().await {
        builder.add(&batch?)?;
    }
    while let Some(ended) = decoding.join_next().await {
        // A decoder that panicked has not told all rows.
        ended.map_err(|e| DataFusionError::External(Box::new(e)))?;
    }
    builder.finish(&schema)
}

/// Tables that are used, and some that were.
#[derive(Default)]
struct Cache {
    tables: HashMap<String, Cached>,
    uses: u64,
}

#[derive(Default)]
struct Cached {
    table: Arc<OnceCell<Arc<Dimension>>>,
    /// When it was used last, by the number of uses of all.
    used: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// The table of a dimension, built by whoever needs it first. `key` names the files, as they are
/// now, and the columns.
pub(super) async fn dimension(
    key: &str,
    plan: &Arc<dyn ExecutionPlan>,
    expected: usize,
    context: &Arc<TaskContext>,
) -> Result<Arc<Dimension>> {
    let cell = {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        cache.uses += 1;
        let now = cache.uses;
        let cached = cache.tables.entry(key.to_owned()).or_default();
        cached.used = now;
        Arc::clone(&cached.table)
    };
    let built = cell.get_or_try_init(async || {
        let table = build(Arc::clone(plan), expected, Arc::clone(context)).await?;
        Ok::<_, DataFusionError>(Arc::new(table))
    });
    let table = Arc::clone(built.await?);
    forget_unused();
    Ok(table)
}

/// Drops the tables that were not used for longest, until the rest takes no more than it may.
fn forget_unused() {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let size = |cell: &OnceCell<Arc<Dimension>>| cell.get().map_or(0, |table| table.size());
    let mut bytes: usize = cache
        .tables
        .values()
        .map(|cached| size(&cached.table))
        .sum();
    while bytes > CACHE_BYTES && cache.tables.len() > 1 {
        let oldest = cache.tables.iter().min_by_key(|(_, cached)| cached.used);
        let Some(key) = oldest.map(|(key, _)| key.clone()) else {
            return;
        };
        if let Some(cached) = cache.tables.remove(&key) {
            bytes -= size(&cached.table);
        }
    }
}
