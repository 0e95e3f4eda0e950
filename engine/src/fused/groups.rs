//! Numbers the groups of an aggregation.
//!
//! Where the domain of the keys is small, a group's number is computed from its keys (*dense*):
//! each key has a window of values, and the number is a mixed-radix one of the places in them.
//! Elsewhere groups are numbered as they come, by DataFusion's hash table (*hashed*). Which one
//! follows from statistics at first; a key outside of its window says that they were wrong.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray,
    UInt32Array, make_array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::texts::TextNumbers;

/// Runs a macro for the type of an integer column; none for other types.
macro_rules! for_integer {
    ($data_type:expr, $macro:ident) => {
        match $data_type {
            DataType::Int8 => Some($macro!(datafusion::arrow::datatypes::Int8Type)),
            DataType::Int16 => Some($macro!(datafusion::arrow::datatypes::Int16Type)),
            DataType::Int32 => Some($macro!(datafusion::arrow::datatypes::Int32Type)),
            DataType::Int64 => Some($macro!(datafusion::arrow::datatypes::Int64Type)),
            DataType::UInt8 => Some($macro!(datafusion::arrow::datatypes::UInt8Type)),
            DataType::UInt16 => Some($macro!(datafusion::arrow::datatypes::UInt16Type)),
            DataType::UInt32 => Some($macro!(datafusion::arrow::datatypes::UInt32Type)),
            DataType::Date32 => Some($macro!(datafusion::arrow::datatypes::Date32Type)),
            DataType::Date64 => Some($macro!(datafusion::arrow::datatypes::Date64Type)),
            DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Second, _) => {
                Some($macro!(datafusion::arrow::datatypes::TimestampSecondType))
            }
            DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Millisecond, _) => Some(
                $macro!(datafusion::arrow::datatypes::TimestampMillisecondType),
            ),
            DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, _) => Some(
                $macro!(datafusion::arrow::datatypes::TimestampMicrosecondType),
            ),
            DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Nanosecond, _) => Some(
                $macro!(datafusion::arrow::datatypes::TimestampNanosecondType),
            ),
            _ => None,
        }
    };
}
pub(crate) use for_integer;

/// Dense groups of one task at most: arrays of them should stay in the caches' reach.
const MAX_DENSE: u64 = 1 << 23;
/// A window is this much wider than what was seen, for what comes.
const SLACK: u64 = 2;
/// Numbers of texts that a window has room for at first.
const FIRST_TEXTS: u64 = 1 << 10;

/// Whether keys of a type can be numbered by arithmetic.
pub(crate) fn has_dense_form(key: &DataType) -> bool {
    is_dense_integer(key) || is_text(key)
}

/// Whether groups by one integer key are numbered by arithmetic, where so many integers lie between
/// its smallest and its largest value.
pub(crate) fn fits_dense(span: u64) -> bool {
    span < MAX_DENSE
}

/// A key of the groups.
#[derive(Debug, Clone)]
pub(super) struct KeySource {
    pub(super) data_type: DataType,
    /// The smallest and the largest value, as far as is known before reading.
    pub(super) bounds: Option<(i64, i64)>,
}

/// What [`Groups::number`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Numbered {
    /// All rows have numbers.
    All,
    /// A key lies outside of its window: the groups must be laid out anew.
    Outside,
}

/// Numbers of groups.
pub(super) struct Groups {
    sources: Vec<KeySource>,
    form: Form,
    /// DataFusion's accumulators take it that every group below the largest has been seen: dense
    /// groups are then numbered once more, as they come.
    compact: Option<Compact>,
}

/// Cells of dense groups, numbered as they come.
#[derive(Default)]
struct Compact {
    /// For each cell one more than its number; 0 if it has none.
    numbers: Vec<u32>,
    cells: Vec<u32>,
}

impl Compact {
    fn number(&mut self, cells: &mut [u32], most: usize) {
        self.numbers.resize(most, 0);
        for cell in cells {
            let number = &mut self.numbers[*cell as usize];
            if *number == 0 {
                self.cells.push(*cell);
                *number = self.cells.len() as u32;
            }
            *cell = *number - 1;
        }
    }

    fn clear(&mut self) {
        self.numbers.fill(0);
        self.cells.clear();
    }
}

enum Form {
    Dense(Vec<Axis>),
    Hashed(Hashed),
}

struct Hashed {
    values: Box<dyn GroupValues>,
    numbers: Vec<usize>,
}

/// A key's part in a dense number.
struct Axis {
    window: Window,
    /// Places, the last of which is null's.
    places: u64,
    stride: u64,
}

enum Window {
    /// Integers from `base`.
    Integers { base: i64 },
    /// Texts, by their numbers.
    Texts(Box<TextNumbers>),
}

impl Groups {
    /// Groups by `sources`, dense if that can be for `columns`, rows of them.
    /// Without `gaps`, every number below the largest is a group's.
    pub(super) fn new(sources: Vec<KeySource>, columns: &[ArrayRef], gaps: bool) -> Result<Self> {
        let form = match dense(&sources, columns, None) {
            Some(axes) => Form::Dense(axes),
            None => Form::Hashed(hashed(&sources)?),
        };
        Ok(Self {
            sources,
            form,
            compact: (!gaps).then(Compact::default),
        })
    }

    /// Groups that are numbered as they come.
    pub(super) fn hashed(sources: Vec<KeySource>) -> Result<Self> {
        let form = Form::Hashed(hashed(&sources)?);
        Ok(Self {
            sources,
            form,
            compact: None,
        })
    }

    /// Groups with room for what these have and for `columns` as well.
    pub(super) fn widened(&mut self, columns: &[ArrayRef]) -> Result<Self> {
        let sources = self.sources.clone();
        let axes = match &self.form {
            Form::Dense(axes) => dense(&sources, columns, Some(axes)),
            Form::Hashed(_) => None,
        };
        match axes {
            Some(axes) => Ok(Self {
                sources,
                form: Form::Dense(axes),
                compact: self.compact.as_ref().map(|_| Compact::default()),
            }),
            None => Self::hashed(sources),
        }
    }

    /// Whether there are numbers that no group has.
    pub(super) fn has_gaps(&self) -> bool {
        matches!(self.form, Form::Dense(_)) && self.compact.is_none()
    }

    /// Whether numbers are computed from the keys.
    pub(super) fn is_dense(&self) -> bool {
        matches!(self.form, Form::Dense(_))
    }

    /// One more than the largest number.
    pub(super) fn len(&self) -> usize {
        match (&self.form, &self.compact) {
            (Form::Dense(_), Some(compact)) => compact.cells.len(),
            _ => self.cells(),
        }
    }

    /// How many groups there may come to be, as far as is known.
    pub(super) fn expected(&self) -> usize {
        self.cells()
    }

    fn cells(&self) -> usize {
        match &self.form {
            Form::Dense(axes) => axes.iter().map(|axis| axis.places).product::<u64>() as usize,
            Form::Hashed(hashed) => hashed.values.len(),
        }
    }

    /// Numbers the rows of `columns`, one for each source.
    pub(super) fn number(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        out: &mut Vec<u32>,
    ) -> Result<Numbered> {
        out.clear();
        let cells = self.cells();
        match &mut self.form {
            Form::Dense(axes) => {
                out.resize(rows, 0);
                for (axis, column) in axes.iter_mut().zip(columns) {
                    if !axis.add(column, out)? {
                        return Ok(Numbered::Outside);
                    }
                }
                if let Some(compact) = &mut self.compact {
                    compact.number(out, cells);
                }
            }
            Form::Hashed(Hashed { values, numbers }) => {
                values.intern(columns, numbers)?;
                if u32::try_from(values.len()).is_err() {
                    return Err(exec_datafusion_err!("more than 2^32 groups in one task"));
                }
                out.extend(numbers.iter().map(|number| *number as u32));
            }
        }
        Ok(Numbered::All)
    }

    /// The keys of the groups with these numbers, ascending, of hashed groups all: a column for each
    /// source. All groups are forgotten by it, but not the layout of dense ones.
    pub(super) fn keys(&mut self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        let cells: Vec<u32>;
        match &mut self.form {
            Form::Dense(axes) => {
                let numbers = match &mut self.compact {
                    Some(compact) => {
                        let cell = |number: &u32| compact.cells[*number as usize];
                        cells = numbers.iter().map(cell).collect();
                        compact.clear();
                        &cells
                    }
                    None => numbers,
                };
                let sources = self.sources.iter();
                let keys = axes.iter_mut().zip(sources);
                keys.map(|(axis, source)| axis.keys(&source.data_type, numbers))
                    .collect()
            }
            Form::Hashed(hashed) => {
                // It tells its values only once, all of them; emptied, it can be used again.
                let columns = hashed.values.emit(EmitTo::All)?;
                hashed.values.clear_shrink(0);
                let keys = columns.iter().zip(&self.sources);
                // Dictionaries and views may come back in another form.
                keys.map(|(column, source)| Ok(cast(column, &source.data_type)?))
                    .collect()
            }
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        match &self.form {
            Form::Dense(axes) => {
                let numbered = self.compact.as_ref().map_or(0, |compact| {
                    (compact.numbers.capacity() + compact.cells.capacity()) * size_of::<u32>()
                });
                numbered + axes.iter().map(Axis::size).sum::<usize>()
            }
            Form::Hashed(hashed) => {
                hashed.values.size() + hashed.numbers.capacity() * size_of::<usize>()
            }
        }
    }
}

fn hashed(sources: &[KeySource]) -> Result<Hashed> {
    let fields: Vec<Field> = sources
        .iter()
        .enumerate()
        .map(|(i, source)| Field::new(format!("k{i}"), source.data_type.clone(), true))
        .collect();
    Ok(Hashed {
        values: new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?,
        numbers: Vec::new(),
    })
}

/// Axes for the sources, with room for `columns` and for what `before` had; none if they would
/// have too many places.
fn dense(
    sources: &[KeySource],
    columns: &[ArrayRef],
    before: Option<&Vec<Axis>>,
) -> Option<Vec<Axis>> {
    let mut axes = Vec::with_capacity(sources.len());
    let mut stride = 1u64;
    for (i, source) in sources.iter().enumerate() {
        let old = before.map(|axes| &axes[i]);
        let (window, places) = match &source.data_type {
            t if is_text(t) => {
                let known = old.map_or(0, |axis| axis.places);
                let places = (known * SLACK).max(FIRST_TEXTS);
                (Window::Texts(Box::default()), places)
            }
            t if is_dense_integer(t) => {
                let seen = bounds_of(&columns[i]);
                let had = match old {
                    Some(axis) => axis.bounds(),
                    None => source.bounds,
                };
                let (min, max) = match (seen, had) {
                    (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
                    (Some(a), None) | (None, Some(a)) => a,
                    (None, None) => (0, 0),
                };
                let span = u64::try_from(i128::from(max) - i128::from(min) + 1).ok()?;
                // What statistics said needs no slack; what was seen in a first batch does.
                let exact = old.is_none() && had.is_some_and(|had| had == (min, max));
                let places = if exact {
                    span
                } else {
                    span.checked_mul(SLACK)?
                };
                (Window::Integers { base: min }, places.checked_add(1)?)
            }
            _ => return None,
        };
        axes.push(Axis {
            window,
            places,
            stride,
        });
        stride = stride.checked_mul(places)?;
        if stride > MAX_DENSE {
            return None;
        }
    }
    Some(axes)
}

impl Axis {
    fn bounds(&self) -> Option<(i64, i64)> {
        match self.window {
            Window::Integers { base } => {
                Some((base, base.saturating_add((self.places as i64 - 2).max(0))))
            }
            Window::Texts(_) => None,
        }
    }

    /// Adds this key's part to the numbers of the rows; false if a key lies outside.
    fn add(&mut self, column: &ArrayRef, out: &mut [u32]) -> Result<bool> {
        let (null, stride) = (self.places - 1, self.stride as u32);
        match &mut self.window {
            Window::Texts(texts) => {
                texts.number(column)?;
                if texts.len() as u64 >= null {
                    return Ok(false);
                }
                let numbers = texts.last_numbers();
                for (row, (out, number)) in out.iter_mut().zip(numbers).enumerate() {
                    let place = match column.is_null(row) {
                        true => null as u32,
                        false => *number,
                    };
                    *out += place * stride;
                }
                Ok(true)
            }
            Window::Integers { base } => {
                let base = *base;
                macro_rules! add {
                    ($type:ty) => {
                        add_integers(column.as_primitive::<$type>(), base, null, stride, out)
                    };
                }
                Ok(for_integer!(column.data_type(), add).ok_or_else(|| {
                    internal_datafusion_err!("keys of type {} in a window", column.data_type())
                })?)
            }
        }
    }

    fn keys(&mut self, data_type: &DataType, numbers: &[u32]) -> Result<ArrayRef> {
        let (places, stride) = (self.places as u32, self.stride as u32);
        let null = places - 1;
        let places = numbers.iter().map(|number| number / stride % places);
        match &mut self.window {
            Window::Texts(texts) => {
                let indices: UInt32Array = places.map(|p| (p != null).then_some(p)).collect();
                Ok(cast(&take(&texts.texts()?, &indices, None)?, data_type)?)
            }
            Window::Integers { base } => {
                let key = |place: u32| base.wrapping_add(i64::from(place));
                let keys = places.map(|place| (place != null).then(|| key(place)));
                typed(&keys.collect(), data_type)
            }
        }
    }

    fn size(&self) -> usize {
        match &self.window {
            Window::Integers { .. } => 0,
            Window::Texts(texts) => texts.size(),
        }
    }
}

/// Values of a type of [`is_dense_integer`] as integers; none of others.
pub(super) fn integers(column: &ArrayRef) -> Option<Int64Array> {
    macro_rules! integers {
        ($type:ty) => {{
            let column = column.as_primitive::<$type>();
            let values = column.values().iter().map(|value| i64::from(*value));
            Int64Array::new(values.collect(), column.nulls().cloned())
        }};
    }
    for_integer!(column.data_type(), integers)
}

/// The other way round.
pub(super) fn typed(integers: &Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    macro_rules! typed {
        ($type:ty) => {{
            let values = integers.values().iter();
            let values = values.map(|value| *value as <$type as ArrowPrimitiveType>::Native);
            let values = PrimitiveArray::<$type>::new(values.collect(), integers.nulls().cloned());
            Arc::new(values) as ArrayRef
        }};
    }
    let typed = for_integer!(data_type, typed)
        .ok_or_else(|| internal_datafusion_err!("integers of type {data_type}"))?;
    // Timestamps have a zone. A cast would take them for local times.
    let zoned = typed.to_data().into_builder().data_type(data_type.clone());
    Ok(make_array(zoned.build()?))
}

/// Integers that fit an i64, and what is stored as such.
pub(super) fn is_dense_integer(data_type: &DataType) -> bool {
    macro_rules! yes {
        ($type:ty) => {
            true
        };
    }
    for_integer!(data_type, yes).is_some()
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// An integer column's smallest and largest value.
pub(super) fn bounds_of(column: &ArrayRef) -> Option<(i64, i64)> {
    macro_rules! bounds {
        ($type:ty) => {{
            let column = column.as_primitive::<$type>();
            let min = datafusion::arrow::compute::min(column);
            let max = datafusion::arrow::compute::max(column);
            min.zip(max)
                .map(|(min, max)| (i64::from(min), i64::from(max)))
        }};
    }
    for_integer!(column.data_type(), bounds).flatten()
}

fn add_integers<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    base: i64,
    null: u64,
    stride: u32,
    out: &mut [u32],
) -> bool
where
    T::Native: Into<i64>,
{
    let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return add_valid(column.values(), base, null, stride, out);
    };
    let mut outside = false;
    for ((out, value), valid) in out.iter_mut().zip(column.values()).zip(nulls) {
        let place = match valid {
            true => (*value).into().wrapping_sub(base) as u64,
            false => null,
        };
        outside |= valid && place >= null;
        *out = out.wrapping_add((place as u32).wrapping_mul(stride));
    }
    !outside
}

/// [`add_integers`] without nulls: without a branch, so that it becomes vector instructions.
fn add_valid<N: ArrowNativeTypeOp + Into<i64>>(
    values: &[N],
    base: i64,
    null: u64,
    stride: u32,
    out: &mut [u32],
) -> bool {
    let (least, most) = (N::MIN_TOTAL_ORDER.into(), N::MAX_TOTAL_ORDER.into());
    let mut outside = false;
    // Where the window lies within the type's values, what lies outside of the one wraps around to
    // outside of it in 32 bits too, and vectors hold twice as many.
    let fits = base >= least && i128::from(base) + i128::from(null) <= i128::from(most) + 1;
    if size_of::<N>() <= size_of::<u32>() && fits {
        let (base, null) = (base as u32, null as u32);
        for (out, value) in out.iter_mut().zip(values) {
            let place = ((*value).into() as u32).wrapping_sub(base);
            outside |= place >= null;
            *out = out.wrapping_add(place.wrapping_mul(stride));
        }
        return !outside;
    }
    for (out, value) in out.iter_mut().zip(values) {
        let place = (*value).into().wrapping_sub(base) as u64;
        outside |= place >= null;
        *out = out.wrapping_add((place as u32).wrapping_mul(stride));
    }
    !outside
}
