//! Plans a fused aggregation as one step, or as two or three with exchanges between them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{
    DFSchema, Result, ScalarValue, Statistics, internal_datafusion_err, internal_err,
};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, StatisticsArgs};

use super::aggregator::Measure;
use super::definition::{Definition, Key, Lookup, MeasureOf};
use super::dimension::Dimension;
use super::exec::{FusedExec, Step, is_date_key};
use super::groups::is_dense_integer;
use super::node::{FusedNode, KeySpec, MeasureSpec, attribute_schema};
use crate::session::Distributed;
use crate::source::DATE_COLUMN;

/// What a distinct value may take while it is sorted by bucket and group, and sent.
const EXCHANGED_PAIR_BYTES: usize = 64;

/// Plans `node` over its inputs' plans.
pub(crate) fn plan(
    node: &FusedNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    state: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let log = Arc::clone(&inputs[0]);
    let statistics = StatisticsContext::new().compute(log.as_ref(), &StatisticsArgs::new());
    let statistics = statistics.ok();
    let statistics = statistics.as_deref();
    let definition = Arc::new(define(node, inputs, statistics, state, context)?);
    let fused = |input, step| {
        let exec = FusedExec::try_new(input, Arc::clone(&definition), step)?;
        Ok(Arc::new(exec) as Arc<dyn ExecutionPlan>)
    };
    let date = (0..definition.keys.len()).find(|at| {
        let is_date = is_date_key(&definition, *at);
        is_date && ends_with_date(&definition.keys[*at], &log)
    });
    let in_one = log.output_partitioning().partition_count() == 1;
    if date.is_some() || in_one {
        return fused(log, Step::Single { date });
    }
    let mut buckets = 0;
    if definition.has_distinct() {
        match state.runtime_env().memory_pool.memory_limit() {
            // The memory is that of whoever plans; executors have their own.
            _ if Distributed::is_set(state.config()) => {}
            MemoryLimit::Finite(bytes) if may_outgrow(statistics, bytes) => {
                return fused(log, Step::Single { date: None });
            }
            MemoryLimit::Finite(_) => {}
            _ => return fused(log, Step::Gather),
        }
        buckets = state.config().target_partitions().max(1) as u32;
    }
    let partial = fused(log, Step::Partial { buckets })?;
    let counted = match buckets {
        0 => partial,
        _ => fused(partial, Step::Count)?,
    };
    fused(counted, Step::Final)
}

/// Whether an exchange of the log's distinct values may need more than the memory of this process. A
/// single task is slower, but spills.
fn may_outgrow(log: Option<&Statistics>, bytes: usize) -> bool {
    let rows = log.and_then(|log| log.num_rows.get_value().copied());
    rows.is_none_or(|rows| rows.saturating_mul(EXCHANGED_PAIR_BYTES) > bytes)
}

fn define(
    node: &FusedNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    statistics: Option<&Statistics>,
    state: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Definition> {
    let props = state.execution_props();
    let log_schema = node.log().schema();
    let physical = |expr: &Expr| create_physical_expr(expr, log_schema, props, context);
    let bounds = |expr: &Arc<dyn PhysicalExpr>| {
        let column = expr.downcast_ref::<Column>()?;
        let of_column = statistics?.column_statistics.get(column.index())?;
        bounds_of(&of_column.min_value, &of_column.max_value)
    };

    let mut lookups = Vec::new();
    // Groups are those of the attributes that are keys; others would cut them finer.
    let mut used: Vec<Vec<usize>> = Vec::new();
    for (at, ((spec, dimension), plan)) in node.lookups().zip(&inputs[1..]).enumerate() {
        let keys = node.keys().iter().filter_map(|(_, key)| match key {
            KeySpec::Attribute { lookup, attribute } if *lookup == at => Some(*attribute),
            _ => None,
        });
        used.push(keys.collect());
        let logical = attribute_schema(node.log(), dimension)?;
        let date = match &spec.date {
            Some(date) => Some(Field::new(DATE_COLUMN, date.get_type(log_schema)?, true)),
            None => None,
        };
        let schema = Lookup::attribute_schema(&plan.schema(), date.as_ref());
        let attributes = used[at].iter().map(|attribute| {
            let attribute = &spec.attributes[*attribute];
            let expr = create_physical_expr(attribute, &logical, props, context)?;
            at_columns_of(expr, &schema)
        });
        lookups.push(Lookup {
            cache_key: spec.cache_key.clone(),
            fact_key: physical(&spec.fact_key)?,
            date: spec.date.as_ref().map(physical).transpose()?,
            rows: spec.rows,
            attributes: attributes.collect::<Result<_>>()?,
            dimension: Arc::clone(plan),
        });
    }
    let mut keys = Vec::new();
    let mut key_bounds = Vec::new();
    for (_, key) in node.keys() {
        keys.push(match key {
            KeySpec::Log(expr) => Key::Log(physical(expr)?),
            KeySpec::Attribute { lookup, attribute } => Key::Attribute {
                lookup: *lookup,
                attribute: used[*lookup]
                    .iter()
                    .position(|used| used == attribute)
                    .unwrap_or_default(),
            },
        });
        key_bounds.push(match keys.last() {
            Some(Key::Log(expr)) => bounds(expr),
            _ => None,
        });
    }
    let mut measures = Vec::new();
    for (name, measure) in node.measures() {
        measures.push(match measure {
            MeasureSpec::Unmatched(lookup) => MeasureOf {
                measure: Measure::Unmatched(*lookup),
                arguments: Vec::new(),
                filter: None,
            },
            MeasureSpec::Aggregate(expr) => {
                let schema = inputs[0].schema();
                let built = LoweredAggregateBuilder::new(expr, log_schema, &schema, props, context)
                    .with_name(name.as_str())
                    .build()?;
                let distinct = distinct_argument(expr, log_schema)?;
                match (counted(expr), distinct, extreme(expr, log_schema)?) {
                    (Some(values), ..) => MeasureOf {
                        measure: match values.is_empty() && built.filter.is_none() {
                            true => Measure::Rows,
                            false => Measure::Values,
                        },
                        arguments: values.into_iter().map(physical).collect::<Result<_>>()?,
                        filter: built.filter,
                    },
                    (None, Some(argument), _) => {
                        let value_type = argument.get_type(log_schema)?;
                        let plain = match &argument {
                            Expr::Cast(cast) => physical(&cast.expr)?,
                            other => physical(other)?,
                        };
                        let bounds = match value_type == DataType::Int64 {
                            true => bounds(&plain),
                            false => None,
                        };
                        MeasureOf {
                            measure: Measure::Distinct { value_type, bounds },
                            arguments: vec![physical(&argument)?],
                            filter: built.filter,
                        }
                    }
                    (None, None, Some((smallest, value_type))) => MeasureOf {
                        measure: Measure::Extreme {
                            smallest,
                            value_type,
                        },
                        arguments: built.aggregate.expressions(),
                        filter: built.filter,
                    },
                    (None, None, None) => {
                        let arguments = built.aggregate.expressions();
                        let types = arguments.iter().map(|a| a.data_type(&schema));
                        MeasureOf {
                            measure: Measure::Other {
                                types: types.collect::<Result<_>>()?,
                                function: built.aggregate,
                            },
                            arguments,
                            filter: built.filter,
                        }
                    }
                }
            }
        });
    }
    Ok(Definition {
        log_schema: inputs[0].schema(),
        lookups,
        keys,
        bounds: key_bounds,
        measures,
        output: Arc::clone(node_schema(node)),
    })
}

fn node_schema(node: &FusedNode) -> &Arc<Schema> {
    use datafusion::logical_expr::UserDefinedLogicalNodeCore;
    node.schema().inner()
}

fn aggregate_of(expr: &Expr) -> Option<&datafusion::logical_expr::expr::AggregateFunction> {
    match expr {
        Expr::AggregateFunction(call) => Some(call),
        Expr::Alias(alias) => aggregate_of(&alias.expr),
        _ => None,
    }
}

/// What `count(x)` counts, with or without a filter: one column that may be null, or every row.
fn counted(expr: &Expr) -> Option<Vec<&Expr>> {
    let params = &aggregate_of(expr)
        .filter(|call| call.func.name() == "count")?
        .params;
    if params.distinct || !params.order_by.is_empty() {
        return None;
    }
    let literal = |e: &Expr| matches!(e, Expr::Literal(value, _) if !value.is_null());
    match params.args.as_slice() {
        args if args.iter().all(literal) => Some(Vec::new()),
        [value] if !matches!(value, Expr::Literal(..)) => Some(vec![value]),
        _ => None,
    }
}

/// The values that `count(distinct x)` counts, as Int64 or Utf8View; none if it is another
/// aggregate, or of another type.
fn distinct_argument(expr: &Expr, log: &DFSchema) -> Result<Option<Expr>> {
    let Some(call) = aggregate_of(expr) else {
        return Ok(None);
    };
    let [argument] = call.params.args.as_slice() else {
        return Ok(None);
    };
    let name = call.func.name();
    let counts = name == "count" && call.params.distinct || name.starts_with("count_distinct_");
    if !counts || !call.params.order_by.is_empty() {
        return Ok(None);
    }
    let data_type = argument.get_type(log)?;
    let value_type = match &data_type {
        t if is_dense_integer(t) => DataType::Int64,
        t if t.is_string() => DataType::Utf8View,
        _ => return Ok(None),
    };
    Ok(Some(match data_type == value_type {
        true => argument.clone(),
        false => cast(argument.clone(), value_type),
    }))
}

/// The type of the integers, or what is stored as such, of which an aggregate is the largest or the
/// smallest, and whether it is the smallest.
fn extreme(expr: &Expr, log: &DFSchema) -> Result<Option<(bool, DataType)>> {
    let Some(call) = aggregate_of(expr) else {
        return Ok(None);
    };
    let smallest = match call.func.name() {
        "max" => false,
        "min" => true,
        _ => return Ok(None),
    };
    let [argument] = call.params.args.as_slice() else {
        return Ok(None);
    };
    let data_type = argument.get_type(log)?;
    Ok(is_dense_integer(&data_type).then_some((smallest, data_type)))
}

/// Whether an aggregate over `log` counts distinct values of a type that can be packed or numbered.
///
/// # Errors
/// If the aggregate's argument has no type over these columns.
pub fn counts_distinct(expr: &Expr, log: &DFSchema) -> Result<bool> {
    Ok(distinct_argument(expr, log)?.is_some())
}

/// An expression over the columns of `schema`, by their names.
fn at_columns_of(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    use datafusion::common::tree_node::Transformed;
    let moved = expr.transform(|expr| match expr.downcast_ref::<Column>() {
        Some(column) => {
            let at = schema.index_of(column.name()).map_err(|_| {
                internal_datafusion_err!("the attribute's column '{}' is gone", column.name())
            })?;
            Ok(Transformed::yes(
                Arc::new(Column::new(column.name(), at)) as _
            ))
        }
        None => Ok(Transformed::no(expr)),
    });
    Ok(moved?.data)
}

/// Statistics may be wrong: bounds are a first guess.
fn bounds_of(min: &Precision<ScalarValue>, max: &Precision<ScalarValue>) -> Option<(i64, i64)> {
    let integer = |value: &Precision<ScalarValue>| {
        let value = value.get_value()?;
        if !is_dense_integer(&value.data_type()) {
            return None;
        }
        match value.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(value) => value,
            _ => None,
        }
    };
    let bounds = integer(min).zip(integer(max))?;
    (bounds.0 <= bounds.1).then_some(bounds)
}

/// Whether `key` is the date of the log's files, and each partition holds whole dates, one after
/// the other.
fn ends_with_date(key: &Key, log: &Arc<dyn ExecutionPlan>) -> bool {
    let Key::Log(key) = key else {
        return false;
    };
    let Some(mut column) = key.downcast_ref::<Column>().cloned() else {
        return false;
    };
    let mut plan = log;
    loop {
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let below = &projection.expr()[column.index()].expr;
            let Some(below) = below.downcast_ref::<Column>() else {
                return false;
            };
            column = below.clone();
            plan = projection.input();
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            // It may leave columns out.
            if let Some(projection) = filter.projection() {
                let at = projection[column.index()];
                column = Column::new(column.name(), at);
            }
            plan = filter.input();
        } else if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
            let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else {
                return false;
            };
            return column.name() == DATE_COLUMN && holds_whole_dates(config);
        } else {
            return false;
        }
    }
}

fn holds_whole_dates(config: &FileScanConfig) -> bool {
    let dates = config.file_source.table_schema().table_partition_cols();
    // Files must stay where they were put.
    if dates.len() != 1 || dates[0].name() != DATE_COLUMN || config.output_partitioning.is_none() {
        return false;
    }
    let mut seen = std::collections::HashSet::new();
    for group in &config.file_groups {
        let mut last = None;
        for file in group.iter() {
            let date = file.partition_values.first();
            if last != date {
                let Some(date) = date else {
                    return false;
                };
                if !seen.insert(date.clone()) {
                    return false;
                }
                last = file.partition_values.first();
            }
        }
    }
    true
}

/// Fails for a plan in which an aggregation by whole dates lost them: another rule may have put a
/// repartition below it.
#[derive(Debug)]
pub(crate) struct WholeDates;

impl PhysicalOptimizerRule for WholeDates {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.apply(|node| {
            if let Some(fused) = node.downcast_ref::<FusedExec>()
                && let Step::Single { date: Some(at) } = fused.step()
                && !ends_with_date(&fused.definition().keys[at], fused.children()[0])
            {
                return internal_err!("the dates of an aggregation were torn apart");
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "rankmill_whole_dates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a dimension's keys can be looked up in a code table.
pub fn can_look_up(key: &DataType) -> bool {
    Dimension::takes(key)
}
