//! The operator between the nodes of a cluster.
//!
//! Expressions, schemas and aggregates travel inside of plans that DataFusion encodes: a projection
//! over nothing carries expressions, an aggregation over nothing carries aggregates.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use super::aggregator::Measure;
use super::definition::{Definition, Key, Lookup, MeasureOf};
use super::exec::{FusedExec, Step};
use super::selection::Selection;
use crate::source::DATE_COLUMN;

/// A [`FusedExec`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FusedMessage {
    #[prost(message, optional, tag = "1")]
    step: Option<StepMessage>,
    /// A projection of the log: what keys, lookups and measures are computed from.
    #[prost(bytes = "vec", tag = "2")]
    log: Vec<u8>,
    /// An aggregation of the log: the measures of DataFusion's kind.
    #[prost(bytes = "vec", tag = "3")]
    aggregates: Vec<u8>,
    /// A plan of the output's schema.
    #[prost(bytes = "vec", tag = "4")]
    output: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    lookups: Vec<LookupMessage>,
    #[prost(message, repeated, tag = "6")]
    keys: Vec<KeyMessage>,
    #[prost(message, repeated, tag = "7")]
    measures: Vec<MeasureMessage>,
    /// A plan over nothing that selects the log; none if the input is the log.
    #[prost(bytes = "vec", optional, tag = "8")]
    selection: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct StepMessage {
    #[prost(oneof = "StepKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<StepKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum StepKind {
    #[prost(bool, tag = "1")]
    Single(bool),
    /// The key that groups end with.
    #[prost(uint32, tag = "2")]
    SingleByDate(u32),
    /// Buckets.
    #[prost(uint32, tag = "3")]
    Partial(u32),
    #[prost(bool, tag = "4")]
    Count(bool),
    #[prost(bool, tag = "5")]
    Final(bool),
}

#[derive(Clone, PartialEq, Message)]
struct LookupMessage {
    #[prost(string, tag = "1")]
    cache_key: String,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(bool, tag = "3")]
    has_date: bool,
    /// The dimension's plan.
    #[prost(bytes = "vec", tag = "4")]
    dimension: Vec<u8>,
    /// A projection of the dimension: its attributes.
    #[prost(bytes = "vec", tag = "5")]
    attributes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyMessage {
    /// Of the log if there is none.
    #[prost(message, optional, tag = "1")]
    attribute: Option<AttributeMessage>,
    #[prost(message, optional, tag = "2")]
    bounds: Option<BoundsMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeMessage {
    #[prost(uint32, tag = "1")]
    lookup: u32,
    #[prost(uint32, tag = "2")]
    attribute: u32,
}

#[derive(Clone, PartialEq, Message)]
struct BoundsMessage {
    #[prost(sint64, tag = "1")]
    min: i64,
    #[prost(sint64, tag = "2")]
    max: i64,
}

#[derive(Clone, PartialEq, Message)]
struct MeasureMessage {
    #[prost(oneof = "MeasureKind", tags = "1, 2, 3, 4, 8, 9")]
    kind: Option<MeasureKind>,
    #[prost(uint32, tag = "5")]
    arguments: u32,
    #[prost(bool, tag = "6")]
    has_filter: bool,
    #[prost(message, optional, tag = "7")]
    bounds: Option<BoundsMessage>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum MeasureKind {
    #[prost(bool, tag = "1")]
    Rows(bool),
    /// The lookup.
    #[prost(uint32, tag = "2")]
    Unmatched(u32),
    #[prost(bool, tag = "3")]
    Distinct(bool),
    /// Its place among the aggregates.
    #[prost(uint32, tag = "4")]
    Other(u32),
    #[prost(bool, tag = "8")]
    Values(bool),
    /// Whether it is the smallest.
    #[prost(bool, tag = "9")]
    Extreme(bool),
}

fn bounds_message(bounds: Option<(i64, i64)>) -> Option<BoundsMessage> {
    bounds.map(|(min, max)| BoundsMessage { min, max })
}

fn bounds(message: Option<BoundsMessage>) -> Option<(i64, i64)> {
    message.map(|bounds| (bounds.min, bounds.max))
}

pub(crate) fn broken(what: &str) -> DataFusionError {
    exec_datafusion_err!("an operator came without {what}")
}

fn nothing(schema: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    Arc::new(EmptyExec::new(Arc::clone(schema)))
}

pub(crate) fn projection(
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>> {
    let named = exprs.into_iter().enumerate();
    let named: Vec<_> = named.map(|(i, expr)| (expr, format!("e{i}"))).collect();
    Ok(Arc::new(ProjectionExec::try_new(named, nothing(schema))?))
}

pub(crate) fn projected(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else {
        return Err(broken("expressions"));
    };
    let exprs = projection.expr().iter();
    Ok(exprs.map(|expr| Arc::clone(&expr.expr)).collect())
}

pub(crate) fn encode(
    exec: &FusedExec,
    codec: &dyn PhysicalExtensionCodec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<FusedMessage> {
    let bytes = |plan: &Arc<dyn ExecutionPlan>| {
        Ok::<_, DataFusionError>(
            converter
                .execution_plan_to_proto(plan, codec)?
                .encode_to_vec(),
        )
    };
    let definition = exec.definition();
    let mut log = Vec::new();
    let mut keys = Vec::new();
    for (key, known) in definition.keys.iter().zip(&definition.bounds) {
        let attribute = match key {
            Key::Log(expr) => {
                log.push(Arc::clone(expr));
                None
            }
            Key::Attribute { lookup, attribute } => Some(AttributeMessage {
                lookup: *lookup as u32,
                attribute: *attribute as u32,
            }),
        };
        keys.push(KeyMessage {
            attribute,
            bounds: bounds_message(*known),
        });
    }
    let mut lookups = Vec::new();
    for lookup in &definition.lookups {
        log.push(Arc::clone(&lookup.fact_key));
        log.extend(lookup.date.clone());
        let schema = attribute_schema(&lookup.dimension, lookup.date.is_some());
        lookups.push(LookupMessage {
            cache_key: lookup.cache_key.clone(),
            rows: lookup.rows as u64,
            has_date: lookup.date.is_some(),
            dimension: bytes(&lookup.dimension)?,
            attributes: bytes(&projection(lookup.attributes.clone(), &schema)?)?,
        });
    }
    let mut aggregates = Vec::new();
    let mut measures = Vec::new();
    for measure in &definition.measures {
        let kind = match &measure.measure {
            Measure::Rows => MeasureKind::Rows(true),
            Measure::Unmatched(lookup) => MeasureKind::Unmatched(*lookup as u32),
            Measure::Values => MeasureKind::Values(true),
            Measure::Distinct { .. } => MeasureKind::Distinct(true),
            Measure::Extreme { smallest, .. } => MeasureKind::Extreme(*smallest),
            Measure::Other { function, .. } => {
                aggregates.push(Arc::clone(function));
                MeasureKind::Other(aggregates.len() as u32 - 1)
            }
        };
        let known = match &measure.measure {
            Measure::Distinct { bounds, .. } => *bounds,
            _ => None,
        };
        log.extend(measure.arguments.iter().cloned());
        log.extend(measure.filter.clone());
        measures.push(MeasureMessage {
            kind: Some(kind),
            arguments: measure.arguments.len() as u32,
            has_filter: measure.filter.is_some(),
            bounds: bounds_message(known),
        });
    }
    let filters = vec![None; aggregates.len()];
    let aggregation: Arc<dyn ExecutionPlan> = Arc::new(AggregateExec::try_new(
        AggregateMode::Partial,
        PhysicalGroupBy::new_single(Vec::new()),
        aggregates,
        filters,
        nothing(&definition.log_schema),
        Arc::clone(&definition.log_schema),
    )?);
    let step = match exec.step() {
        Step::Gather => {
            return internal_err!("what is gathered in one process can't be sent to another");
        }
        Step::Single { date: None } => StepKind::Single(true),
        Step::Single { date: Some(at) } => StepKind::SingleByDate(at as u32),
        Step::Partial { buckets } => StepKind::Partial(buckets),
        Step::Count => StepKind::Count(true),
        Step::Final => StepKind::Final(true),
    };
    let input = exec.children()[0].schema();
    let selection = match exec.selection() {
        Some(selection) => Some(bytes(&selection.over(nothing(&input))?)?),
        None => None,
    };
    Ok(FusedMessage {
        step: Some(StepMessage { kind: Some(step) }),
        log: bytes(&projection(log, &definition.log_schema)?)?,
        aggregates: bytes(&aggregation)?,
        output: bytes(&nothing(&definition.output))?,
        lookups,
        keys,
        measures,
        selection,
    })
}

fn attribute_schema(dimension: &Arc<dyn ExecutionPlan>, has_date: bool) -> SchemaRef {
    let date = has_date.then(|| Field::new(DATE_COLUMN, DataType::Date32, true));
    let schema: Schema = Lookup::attribute_schema(&dimension.schema(), date.as_ref());
    Arc::new(schema)
}

pub(crate) fn decode(
    message: FusedMessage,
    input: Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<FusedExec> {
    let plan = |bytes: &[u8]| {
        let node =
            PhysicalPlanNode::decode(bytes).map_err(|e| DataFusionError::External(Box::new(e)))?;
        converter.proto_to_execution_plan(&node, context)
    };
    let log = plan(&message.log)?;
    let log_schema = log.children()[0].schema();
    let mut exprs = projected(&log)?.into_iter();
    let mut next = || exprs.next().ok_or_else(|| broken("an expression"));
    let mut keys = Vec::new();
    let mut key_bounds = Vec::new();
    for key in message.keys {
        keys.push(match key.attribute {
            None => Key::Log(next()?),
            Some(key) => Key::Attribute {
                lookup: key.lookup as usize,
                attribute: key.attribute as usize,
            },
        });
        key_bounds.push(bounds(key.bounds));
    }
    let mut lookups = Vec::new();
    for lookup in message.lookups {
        lookups.push(Lookup {
            cache_key: lookup.cache_key,
            fact_key: next()?,
            date: match lookup.has_date {
                true => Some(next()?),
                false => None,
            },
            dimension: plan(&lookup.dimension)?,
            rows: lookup.rows as usize,
            attributes: projected(&plan(&lookup.attributes)?)?,
        });
    }
    let aggregates = plan(&message.aggregates)?;
    let Some(aggregates) = aggregates.downcast_ref::<AggregateExec>() else {
        return Err(broken("its aggregates"));
    };
    let mut measures = Vec::new();
    for measure in message.measures {
        let arguments: Vec<Arc<dyn PhysicalExpr>> = (0..measure.arguments)
            .map(|_| next())
            .collect::<Result<_>>()?;
        let type_of = |argument: &Arc<dyn PhysicalExpr>| argument.data_type(&log_schema);
        let kind = match measure.kind {
            Some(MeasureKind::Rows(_)) => Measure::Rows,
            Some(MeasureKind::Unmatched(lookup)) => Measure::Unmatched(lookup as usize),
            Some(MeasureKind::Values(_)) => Measure::Values,
            Some(MeasureKind::Distinct(_)) => Measure::Distinct {
                value_type: type_of(arguments.first().ok_or_else(|| broken("values"))?)?,
                bounds: bounds(measure.bounds),
            },
            Some(MeasureKind::Extreme(smallest)) => Measure::Extreme {
                smallest,
                value_type: type_of(arguments.first().ok_or_else(|| broken("values"))?)?,
            },
            Some(MeasureKind::Other(at)) => Measure::Other {
                function: match aggregates.aggr_expr().get(at as usize) {
                    Some(function) => Arc::clone(function),
                    None => return Err(broken("an aggregate")),
                },
                types: arguments.iter().map(type_of).collect::<Result<_>>()?,
            },
            None => return Err(broken("a measure")),
        };
        measures.push(MeasureOf {
            measure: kind,
            arguments,
            filter: match measure.has_filter {
                true => Some(next()?),
                false => None,
            },
        });
    }
    let definition = Definition {
        log_schema,
        lookups,
        keys,
        bounds: key_bounds,
        measures,
        output: plan(&message.output)?.schema(),
    };
    let step = match message.step.and_then(|step| step.kind) {
        Some(StepKind::Single(_)) => Step::Single { date: None },
        Some(StepKind::SingleByDate(at)) => Step::Single {
            date: Some(at as usize),
        },
        Some(StepKind::Partial(buckets)) => Step::Partial { buckets },
        Some(StepKind::Count(_)) => Step::Count,
        Some(StepKind::Final(_)) => Step::Final,
        None => return exec_err!("a fused aggregation came without its step"),
    };
    let exec = FusedExec::try_new(input, Arc::new(definition), step)?;
    match &message.selection {
        None => Ok(exec),
        Some(bytes) => match Selection::of(&plan(bytes)?) {
            Some((selection, _)) => Ok(exec.with_selection(selection)),
            None => Err(broken("its filter")),
        },
    }
}
