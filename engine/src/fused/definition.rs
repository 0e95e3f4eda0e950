//! What a fused aggregation computes, as physical expressions.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;

use super::aggregator::Measure;
use super::groups::KeySource;

/// The column that says to which bucket of distinct values a partial state belongs.
pub(super) const BUCKET: &str = "__bucket";

/// A dimension that is looked up for each row of the log.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    /// Names the dimension's files, as they were when the plan was made, and what is read of them.
    pub(super) cache_key: String,
    /// Over the log.
    pub(super) fact_key: Arc<dyn PhysicalExpr>,
    /// The row's date, over the log, where attributes depend on it.
    pub(super) date: Option<Arc<dyn PhysicalExpr>>,
    /// The key, then the columns that attributes are computed from.
    pub(super) dimension: Arc<dyn ExecutionPlan>,
    /// Rows of the dimension, as far as is known.
    pub(super) rows: usize,
    /// Over the dimension's columns but the key, and the date behind them.
    pub(super) attributes: Vec<Arc<dyn PhysicalExpr>>,
}

impl Lookup {
    /// The columns that attributes are computed from.
    pub(super) fn attribute_schema(dimension: &SchemaRef, date: Option<&Field>) -> Schema {
        let columns = dimension.fields().iter().skip(1);
        let columns = columns.map(|field| field.as_ref().clone().with_nullable(true));
        Schema::new(columns.chain(date.cloned()).collect::<Vec<_>>())
    }
}

/// A column of the groups.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// Over the log.
    Log(Arc<dyn PhysicalExpr>),
    /// An attribute of a lookup.
    Attribute { lookup: usize, attribute: usize },
}

/// A measure and what it is computed from.
#[derive(Debug, Clone)]
pub(super) struct MeasureOf {
    pub(super) measure: Measure,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What is computed; the same in all steps.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) log_schema: SchemaRef,
    pub(super) lookups: Vec<Lookup>,
    pub(super) keys: Vec<Key>,
    /// For each key its smallest and largest value, where statistics say something.
    pub(super) bounds: Vec<Option<(i64, i64)>>,
    pub(super) measures: Vec<MeasureOf>,
    /// The keys, then the measures.
    pub(super) output: SchemaRef,
}

impl Definition {
    pub(super) fn has_distinct(&self) -> bool {
        let measures = self.measures.iter();
        let mut distinct = measures.filter(|m| matches!(m.measure, Measure::Distinct { .. }));
        distinct.next().is_some()
    }

    pub(super) fn measures(&self) -> Vec<Measure> {
        self.measures.iter().map(|m| m.measure.clone()).collect()
    }

    /// The keys as columns of states.
    pub(super) fn key_fields(&self) -> impl Iterator<Item = Field> {
        let fields = self.output.fields().iter().take(self.keys.len());
        fields.map(|field| field.as_ref().clone().with_nullable(true))
    }

    pub(super) fn key_sources(&self) -> Vec<KeySource> {
        self.key_fields()
            .map(|field| KeySource {
                data_type: field.data_type().clone(),
                bounds: None,
            })
            .collect()
    }

    /// The keys as columns of results, with what statistics say of them.
    pub(super) fn bounded_sources(&self) -> Vec<KeySource> {
        let sources = self.key_sources().into_iter().zip(&self.bounds);
        let bounded = sources.map(|(source, bounds)| KeySource {
            bounds: *bounds,
            ..source
        });
        bounded.collect()
    }

    /// The columns of states; `counted` as in [`Measure::state_fields`].
    pub(super) fn state_schema(&self, counted: bool) -> Result<SchemaRef> {
        let mut fields: Vec<Field> = Vec::new();
        if !counted {
            fields.push(Field::new(BUCKET, DataType::UInt32, false));
        }
        fields.extend(self.key_fields());
        for (at, measure) in self.measures.iter().enumerate() {
            let states = measure.measure.state_fields(at, counted)?;
            fields.extend(states.iter().map(|field| field.as_ref().clone()));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Cuts columns of states, without the bucket, into keys and the states of each measure.
    pub(super) fn states(
        &self,
        columns: &[ArrayRef],
        counted: bool,
    ) -> Result<(Vec<ArrayRef>, Vec<Vec<ArrayRef>>)> {
        let (keys, mut rest) = columns.split_at(self.keys.len());
        let mut states = Vec::with_capacity(self.measures.len());
        for (at, measure) in self.measures.iter().enumerate() {
            let width = measure.measure.state_fields(at, counted)?.len();
            let (state, others) = rest.split_at(width);
            states.push(state.to_vec());
            rest = others;
        }
        Ok((keys.to_vec(), states))
    }
}
