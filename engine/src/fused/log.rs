//! From a batch of the log to keys and arguments: expressions, then lookups.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, Schema, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::aggregator::{Aggregator, Argument};
use super::definition::{Definition, Key, Lookup};
use super::dimension::{Composed, Dimension, FIRST_ROW, dimension};
use super::groups::{KeySource, is_dense_integer};
use crate::skew::{ColumnSketch, HotColumn, Role, TOLD_KEYS};

/// A table for a date is composed when it, or the date before, has one row for so many places.
const PLACES_PER_ROW: usize = 8;
/// Where memory is limited, such tables of all tasks and of one lookup take one of so many parts of it
/// at most.
const COMPOSED_SHARE: usize = 8;
/// Beyond so many runs of equal dates a batch is sorted by date first.
const MAX_RUNS: usize = 16;

/// Turns batches of the log into groups of an [`Aggregator`].
pub(super) struct LogReader {
    definition: Arc<Definition>,
    lookups: Vec<Attributes>,
    /// The key by which groups end.
    ends_with: Option<usize>,
    /// Keys that are the same for all rows.
    constants: Vec<Option<ScalarValue>>,
    unmatched: Vec<Vec<u32>>,
    /// What is found hot of the key of each lookup, where its type can be told.
    lookup_sketches: Vec<Option<ColumnSketch>>,
    /// The same for each key that the log is grouped by.
    key_sketches: Vec<Option<ColumnSketch>>,
}

/// The attributes of a lookup, numbered.
struct Attributes {
    dimension: Arc<Dimension>,
    /// For each date the number of the attributes of each row of the dimension's.
    maps: HashMap<Option<i32>, Arc<Vec<u32>>>,
    /// The same for one date and each key, where there are rows enough to be worth it.
    composed: Option<(Option<i32>, Composed)>,
    /// What `composed` takes, and what it may.
    reservation: MemoryReservation,
    most: usize,
    /// A date, and how many of its rows came.
    seen: (Option<i32>, usize),
    /// How many rows of the date before came, where a date's rows follow on each other.
    seen_before: usize,
    values: Option<Box<dyn GroupValues>>,
    /// How many there are.
    count: usize,
}

/// A part of a batch whose rows have one date.
pub(super) struct Run {
    rows: std::ops::Range<usize>,
    pub(super) date: Option<i32>,
}

impl LogReader {
    /// Builds the tables of all dimensions, or finds them.
    pub(super) async fn new(
        definition: Arc<Definition>,
        ends_with: Option<usize>,
        context: &Arc<TaskContext>,
    ) -> Result<Self> {
        let mut lookups = Vec::with_capacity(definition.lookups.len());
        for lookup in &definition.lookups {
            let consumer = MemoryConsumer::new("a dimension's table for a date");
            let most = match context.memory_pool().memory_limit() {
                MemoryLimit::Finite(bytes) => {
                    let tasks = context.session_config().target_partitions().max(1);
                    bytes / COMPOSED_SHARE / tasks
                }
                _ => usize::MAX,
            };
            let table = dimension(
                &lookup.cache_key,
                &lookup.dimension,
                lookup.rows,
                usize::MAX,
                context,
            );
            lookups.push(Attributes {
                dimension: table.await?,
                maps: HashMap::new(),
                composed: None,
                reservation: consumer.register(context.memory_pool()),
                most,
                seen: (None, 0),
                seen_before: 0,
                values: None,
                count: 0,
            });
        }
        let constants = definition.keys.iter().map(|key| match key {
            Key::Log(key) => key.downcast_ref::<Literal>().map(|key| key.value().clone()),
            Key::Attribute { .. } => None,
        });
        let facts = definition.lookups.iter();
        let facts = facts.map(|lookup| {
            let key = &lookup.fact_key;
            sketch_of(&column_name(key), key, Role::JoinKey, &definition)
        });
        let keys = definition.keys.iter().enumerate();
        let keys = keys.map(|(at, key)| match key {
            Key::Log(key) => {
                let name = group_name(key, definition.output.field(at).name());
                sketch_of(&name, key, Role::GroupKey, &definition)
            }
            Key::Attribute { .. } => None,
        });
        Ok(Self {
            unmatched: vec![Vec::new(); lookups.len()],
            constants: constants.collect(),
            lookup_sketches: facts.collect(),
            key_sketches: keys.collect(),
            definition,
            lookups,
            ends_with,
        })
    }

    /// What was found hot so far.
    pub(super) fn hot_columns(&self) -> Result<Vec<HotColumn>> {
        let all = self
            .lookup_sketches
            .iter()
            .chain(&self.key_sketches)
            .flatten();
        all.filter_map(|sketch| sketch.finish(TOLD_KEYS).transpose())
            .collect()
    }

    /// Whether the key is one that the aggregation groups by itself: of the log, not the one that
    /// groups end with, and not the same for all rows.
    fn is_grouped(&self, at: usize) -> bool {
        matches!(self.definition.keys[at], Key::Log(_))
            && self.ends_with != Some(at)
            && self.constants[at].is_none()
    }

    /// The keys of the aggregation: a number for each lookup, then those of the log.
    fn sources(&self) -> Vec<KeySource> {
        let definition = &self.definition;
        let grouped = (0..definition.keys.len()).filter(|at| self.is_grouped(*at));
        let log = grouped.map(|at| KeySource {
            data_type: definition.output.field(at).data_type().clone(),
            bounds: definition.bounds[at],
        });
        let lookups = self.lookups.iter().map(|state| KeySource {
            data_type: DataType::UInt32,
            bounds: Some((0, state.count.saturating_sub(1) as i64)),
        });
        // Lookups first: their windows are small and known, and the last may be wide.
        lookups.chain(log).collect()
    }

    /// Cuts a batch into parts of one date each, where it matters.
    pub(super) fn runs(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<Run>)> {
        let ending = self.ends_with.map(|at| &self.definition.keys[at]);
        let mut dates = self
            .definition
            .lookups
            .iter()
            .filter_map(|l| l.date.as_ref());
        let date = match (ending, dates.next()) {
            (Some(Key::Log(key)), _) => key,
            (_, Some(date)) => date,
            _ => {
                let rows = 0..batch.num_rows();
                return Ok((batch.clone(), vec![Run { rows, date: None }]));
            }
        };
        let dates = date.evaluate(batch)?;
        if let datafusion::logical_expr::ColumnarValue::Scalar(date) = &dates {
            let ScalarValue::Date32(date) = date else {
                return exec_err!("a date is {}", date.data_type());
            };
            let (rows, date) = (0..batch.num_rows(), *date);
            return Ok((batch.clone(), vec![Run { rows, date }]));
        }
        let dates = dates.into_array(batch.num_rows())?;
        let runs = runs_of(&dates)?;
        if runs.len() <= MAX_RUNS {
            return Ok((batch.clone(), runs));
        }
        let order = sort_to_indices(&dates, None, None)?;
        let sorted = take_record_batch(batch, &order)?;
        let dates = date.evaluate(&sorted)?.into_array(sorted.num_rows())?;
        Ok((sorted, runs_of(&dates)?))
    }

    /// Adds the rows of a part of a batch of [`LogReader::runs`].
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        run: &Run,
        aggregator: &mut Aggregator,
    ) -> Result<()> {
        let definition = Arc::clone(&self.definition);
        let (date, rows) = (run.date, run.rows.len());
        let part;
        let batch = match rows == batch.num_rows() {
            true => batch,
            false => {
                part = batch.slice(run.rows.start, rows);
                &part
            }
        };
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(definition.keys.len());
        for (at, lookup) in definition.lookups.iter().enumerate() {
            let fact_keys = lookup.fact_key.evaluate(batch)?.into_array(rows)?;
            if let Some(sketch) = &mut self.lookup_sketches[at] {
                sketch.add(&fact_keys)?;
            }
            let unmatched = &mut self.unmatched[at];
            let state = &mut self.lookups[at];
            state.see(
                lookup.date.as_ref().and(date),
                rows,
                self.ends_with.is_some(),
            );
            let mut codes = Vec::with_capacity(rows);
            state.look_up(lookup, date, &fact_keys, &mut codes, unmatched)?;
            keys.push(Arc::new(UInt32Array::from(codes)));
        }
        for (at, key) in definition.keys.iter().enumerate() {
            if let Key::Log(key) = key
                && self.is_grouped(at)
            {
                let values = key.evaluate(batch)?.into_array(rows)?;
                if let Some(sketch) = &mut self.key_sketches[at] {
                    sketch.add(&values)?;
                }
                keys.push(values);
            }
        }
        let mut arguments = Vec::with_capacity(definition.measures.len());
        for measure in &definition.measures {
            let values = measure.arguments.iter();
            let values = values.map(|argument| argument.evaluate(batch)?.into_array(rows));
            let passing = match &measure.filter {
                Some(condition) => {
                    let passing = condition.evaluate(batch)?.into_array(rows)?;
                    Some(passing.as_boolean().clone())
                }
                None => None,
            };
            arguments.push(Argument {
                values: values.collect::<Result<_>>()?,
                filter: passing,
            });
        }
        aggregator.expect(|| self.sources());
        aggregator.update(&keys, rows, &arguments, &self.unmatched)?;
        Ok(())
    }

    /// Turns the aggregator's keys into the columns of the groups; `date` is the one that they end
    /// with.
    pub(super) fn keys(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        date: Option<i32>,
    ) -> Result<Vec<ArrayRef>> {
        let lookups = self.lookups.len();
        let mut attributes = Vec::with_capacity(lookups);
        for (state, codes) in self.lookups.iter_mut().zip(columns) {
            let codes = codes.as_primitive::<UInt32Type>();
            attributes.push(state.columns(codes)?);
        }
        let mut log = columns[lookups..].iter();
        let keys = self.definition.keys.iter().enumerate().map(|(at, key)| {
            if let Key::Attribute { lookup, attribute } = key {
                return Ok(Arc::clone(&attributes[*lookup][*attribute]));
            }
            if let Some(constant) = &self.constants[at] {
                return constant.to_array_of_size(rows);
            }
            if self.ends_with == Some(at) {
                return ScalarValue::Date32(date).to_array_of_size(rows);
            }
            match log.next() {
                Some(column) => Ok(Arc::clone(column)),
                None => exec_err!("a key's column is missing"),
            }
        });
        keys.collect()
    }
}

fn sketch_of(
    name: &str,
    key: &Arc<dyn PhysicalExpr>,
    role: Role,
    definition: &Definition,
) -> Option<ColumnSketch> {
    let data_type = key.data_type(&definition.log_schema).ok()?;
    ColumnSketch::new(name, role, &data_type)
}

/// The column that an expression is over, if it is just one; else the expression.
pub(crate) fn column_name(expr: &Arc<dyn PhysicalExpr>) -> String {
    let mut columns = collect_columns(expr).into_iter();
    match (columns.next(), columns.next()) {
        (Some(column), None) => column.name().to_owned(),
        _ => expr.to_string(),
    }
}

/// What a key that the log is grouped by is called: a column by its name, unless it is one of a
/// dimension that was joined; other expressions as in the output.
fn group_name(key: &Arc<dyn PhysicalExpr>, output: &str) -> String {
    let column = collect_columns(key).into_iter().next();
    let column = column.filter(|column| !column.name().starts_with("__"));
    match column {
        Some(column) if column_name(key) == column.name() => column.name().to_owned(),
        _ => output.trim_start_matches('_').to_owned(),
    }
}

/// Parts of equal dates.
fn runs_of(dates: &ArrayRef) -> Result<Vec<Run>> {
    if dates.data_type() != &DataType::Date32 {
        return exec_err!("a date is {}", dates.data_type());
    }
    let dates = dates.as_primitive::<Date32Type>();
    let mut runs = Vec::new();
    let mut start = 0;
    if dates.null_count() == 0 {
        let values = dates.values();
        while start < values.len() {
            let first = values[start];
            // Mostly all are equal: without an end before the last of them, comparing becomes vector
            // instructions.
            let rest = &values[start..];
            let alike = rest
                .iter()
                .fold(true, |alike, date| alike & (*date == first));
            let end = match alike {
                true => values.len(),
                false => {
                    let other = rest.iter().position(|date| *date != first);
                    start + other.unwrap_or(rest.len())
                }
            };
            runs.push(Run {
                rows: start..end,
                date: Some(first),
            });
            start = end;
        }
        return Ok(runs);
    }
    let value = |row: usize| dates.is_valid(row).then(|| dates.value(row));
    for row in 1..=dates.len() {
        if row == dates.len() || value(row) != value(start) {
            runs.push(Run {
                rows: start..row,
                date: value(start),
            });
            start = row;
        }
    }
    Ok(runs)
}

impl Attributes {
    /// Takes note of rows to look up.
    fn see(&mut self, date: Option<i32>, rows: usize, follow: bool) {
        if self.seen.0 != date {
            self.seen_before = if follow { self.seen.1 } else { 0 };
            self.seen = (date, 0);
        }
        self.seen.1 += rows;
    }

    /// Whether a table of so many places is worth making for the date. Of dates that follow on each
    /// other, the one before tells before the rows have come.
    fn is_worth_composing(&self, places: usize) -> bool {
        self.seen.1.max(self.seen_before) > places / PLACES_PER_ROW
    }

    /// Numbers the attributes of rows of one date; see [`Dimension::look_up`].
    fn look_up(
        &mut self,
        lookup: &Lookup,
        date: Option<i32>,
        keys: &ArrayRef,
        out: &mut Vec<u32>,
        unmatched: &mut Vec<u32>,
    ) -> Result<()> {
        let date = lookup.date.as_ref().and(date);
        if let Some((of, composed)) = &self.composed
            && *of == date
            && composed.look_up(keys, out, unmatched)
        {
            return Ok(());
        }
        let map = self.map(lookup, date)?;
        if let Some(places) = self.dimension.places()
            && is_dense_integer(keys.data_type())
            && self.is_worth_composing(places)
            && let Some(composed) = self.compose(&map)
        {
            let done = composed.look_up(keys, out, unmatched);
            debug_assert!(done, "a table of integers takes {}", keys.data_type());
            self.composed = Some((date, composed));
            return Ok(());
        }
        self.dimension.look_up(keys, &map, out, unmatched)
    }

    /// A table in the place of the last one, where there is the memory for it: it isn't needed.
    fn compose(&mut self, map: &[u32]) -> Option<Composed> {
        self.composed = None;
        let bytes = self.dimension.composed_bytes(map)?;
        if bytes > self.most || self.reservation.try_resize(bytes).is_err() {
            self.reservation.free();
            return None;
        }
        self.dimension.compose(map)
    }

    /// For each number of the dimension's that of its attributes on a date.
    fn map(&mut self, lookup: &Lookup, date: Option<i32>) -> Result<Arc<Vec<u32>>> {
        let date = lookup.date.as_ref().and(date);
        if let Some(map) = self.maps.get(&date) {
            return Ok(Arc::clone(map));
        }
        let rows = &self.dimension.attributes;
        // Without a row of the dimension all of its columns are null.
        let types = rows.columns().iter().map(|column| column.data_type());
        let missing = types
            .map(|data_type| new_null_array(data_type, 1))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let missing = RecordBatch::try_new_with_options(rows.schema(), missing, &options)?;
        let all = concat_batches(&rows.schema(), [&missing, rows])?;
        let count = all.num_rows();
        let mut columns = all.columns().to_vec();
        let mut fields: Vec<Arc<Field>> = all.schema().fields().iter().cloned().collect();
        if lookup.date.is_some() {
            columns.push(ScalarValue::Date32(date).to_array_of_size(count)?);
            fields.push(Arc::new(Field::new("date", DataType::Date32, true)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::new(Schema::new(fields));
        let input = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let attributes: Vec<ArrayRef> = lookup
            .attributes
            .iter()
            .map(|attribute| attribute.evaluate(&input)?.into_array(count))
            .collect::<Result<_>>()?;
        let mut numbers = Vec::new();
        if attributes.is_empty() {
            numbers.resize(count, 0);
            self.count = 1;
        } else {
            if self.values.is_none() {
                let fields: Vec<Field> = attributes
                    .iter()
                    .enumerate()
                    .map(|(i, a)| Field::new(format!("a{i}"), a.data_type().clone(), true))
                    .collect();
                let schema = Arc::new(Schema::new(fields));
                self.values = Some(new_group_values(schema, &GroupOrdering::None)?);
            }
            if let Some(values) = &mut self.values {
                values.intern(&attributes, &mut numbers)?;
                self.count = values.len();
            }
        }
        // The first two numbers, null and unmatched, both lead to what is missing.
        let mut map = vec![numbers[0] as u32; FIRST_ROW as usize];
        map.extend(numbers[1..].iter().map(|number| *number as u32));
        let map = Arc::new(map);
        if self.maps.len() >= 64 {
            self.maps.clear();
        }
        self.maps.insert(date, Arc::clone(&map));
        Ok(map)
    }

    /// The attributes with these numbers.
    fn columns(&mut self, numbers: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let Some(values) = &mut self.values else {
            return Ok(Vec::new());
        };
        let columns = values.emit(EmitTo::All)?;
        values.clear_shrink(columns.first().map_or(0, |column| column.len()));
        // Taking them out empties the table: put back, they get the same numbers.
        let mut same = Vec::new();
        values.intern(&columns, &mut same)?;
        let taken = columns
            .iter()
            .map(|column| Ok(datafusion::arrow::compute::take(column, numbers, None)?));
        taken.collect()
    }
}
