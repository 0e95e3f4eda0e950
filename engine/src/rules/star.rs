//! Finds the log and the dimensions below an aggregation, and puts the fused one in their place.

mod keys;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Operator, lit,
};

pub use keys::with_known_keys;

use crate::fused::{FusedNode, KeySpec, LookupSpec, MeasureSpec, can_look_up};
use crate::source::SourceTable;

/// An aggregation of a log that is joined with dimensions, whose keys occur once each: rows of the
/// log stay what they are, or vanish.
pub(super) struct Star {
    log: LogicalPlan,
    group_expr: Vec<Expr>,
    aggr_expr: Vec<Expr>,
    /// Never empty.
    dimensions: Vec<Dimension>,
}

/// A side of a join.
struct Dimension {
    plan: LogicalPlan,
    table: SourceTable,
    key: Column,
    /// Over the log.
    fact_key: Expr,
    /// Whether rows without a match vanish.
    inner: bool,
}

impl Star {
    /// The log and the dimensions of an aggregation. None if there are no dimensions: no side of an
    /// equijoin, inner or outer, on one key that is known to occur once; or if an aggregate or a group
    /// needs columns of both sides. Dates of the log don't go into attributes here.
    pub(super) fn of(aggregate: &Aggregate) -> Result<Option<Self>> {
        let (group_expr, aggr_expr) = (&aggregate.group_expr, &aggregate.aggr_expr);
        let mut star = Self {
            log: aggregate.input.as_ref().clone(),
            group_expr: group_expr.clone(),
            aggr_expr: aggr_expr.clone(),
            dimensions: Vec::new(),
        };
        if aggr_expr.is_empty() || group_expr.iter().chain(aggr_expr).any(has_subquery) {
            return Ok(None);
        }
        star.see_through()?;
        while let LogicalPlan::Join(join) = &star.log {
            let Some((dimension, log)) = star.peeled(join)? else {
                break;
            };
            star.dimensions.push(dimension);
            star.log = log;
        }
        Ok(star.is_whole().then_some(star))
    }

    /// Whether there are dimensions, and all else is of the log and can be computed for rows without
    /// a match too.
    fn is_whole(&self) -> bool {
        let groups = self.group_expr.iter();
        let groups = groups.filter(|group| self.dimension_of(group).is_none());
        let mut computed = groups.chain(&self.aggr_expr);
        let mut facts = self.dimensions.iter().map(|d| &d.fact_key);
        let schema = self.log.schema();
        let of_log = |expr: &Expr| expr.column_refs().iter().all(|c| schema.has_column(c));
        let inner = self.dimensions.iter().any(|dimension| dimension.inner);
        let fits = |expr: &Expr| of_log(expr) && !(inner && may_fail(expr, schema));
        !self.dimensions.is_empty()
            && facts.all(fits)
            && computed.all(fits)
            && !(inner && self.aggr_expr.iter().any(gathers))
    }

    /// The number of the dimension that a group is made of.
    fn dimension_of(&self, group: &Expr) -> Option<usize> {
        let columns = group.column_refs();
        self.dimensions.iter().position(|dimension| {
            let of_side = dimension.plan.schema().columns();
            !columns.is_empty() && columns.iter().all(|column| of_side.contains(column))
        })
    }

    /// Moves the expressions below projections and aliases.
    fn see_through(&mut self) -> Result<()> {
        loop {
            let (input, below) = match &self.log {
                LogicalPlan::Projection(projection) => {
                    let exprs = projection.expr.iter().cloned().map(Expr::unalias);
                    (&projection.input, exprs.collect::<Vec<_>>())
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let columns = alias.input.schema().columns().into_iter();
                    (&alias.input, columns.map(Expr::Column).collect())
                }
                _ => return Ok(()),
            };
            if below.iter().any(has_subquery) {
                return Ok(());
            }
            let schema = self.log.schema();
            for expr in self.group_expr.iter_mut().chain(&mut self.aggr_expr) {
                let moved = expr.clone().transform(|expr| match &expr {
                    Expr::Column(column) => {
                        let at = schema.index_of_column(column)?;
                        Ok(Transformed::yes(below[at].clone()))
                    }
                    _ => Ok(Transformed::no(expr)),
                });
                *expr = moved?.data;
            }
            self.log = input.as_ref().clone();
        }
    }

    /// The dimension of a join, and its other side.
    fn peeled(&self, join: &Join) -> Result<Option<(Dimension, LogicalPlan)>> {
        for side in keyed_sides(join)? {
            let inner = join.join_type == JoinType::Inner;
            if side.table.is_unique(&side.column) && self.leaves(side.plan, inner) {
                let dimension = Dimension {
                    plan: side.plan.as_ref().clone(),
                    table: side.table,
                    key: side.key.clone(),
                    fact_key: side.fact_key.clone(),
                    inner,
                };
                return Ok(Some((dimension, side.log.as_ref().clone())));
            }
        }
        Ok(None)
    }

    /// Whether all expressions can do without a side of a join, but for groups that are made of it
    /// alone. An attribute is null without a match: in an outer join it has to be a column as it is.
    fn leaves(&self, side: &LogicalPlan, inner: bool) -> bool {
        let of_side: HashSet<Column> = side.schema().columns().into_iter().collect();
        let facts = self.dimensions.iter().map(|d| &d.fact_key);
        let mut of_log = self.aggr_expr.iter().chain(facts);
        let mut groups = self.group_expr.iter();
        of_log.all(|expr| expr.column_refs().iter().all(|c| !of_side.contains(*c)))
            && groups.all(|group| {
                let columns = group.column_refs();
                let within = columns.iter().filter(|c| of_side.contains(**c)).count();
                let plain = inner || matches!(group, Expr::Column(_));
                let whole = within == columns.len();
                within == 0 || whole && plain && !may_fail(group, side.schema())
            })
    }

    /// The fused aggregation, with the names of its keys and of its measures.
    pub(super) fn fused(self, keys: &[String], measures: &[String]) -> Result<LogicalPlan> {
        let mut attributes: Vec<Vec<Expr>> = vec![Vec::new(); self.dimensions.len()];
        let mut named = Vec::new();
        for (name, group) in keys.iter().zip(&self.group_expr) {
            let key = match self.dimension_of(group) {
                None => KeySpec::Log(group.clone()),
                Some(lookup) => {
                    attributes[lookup].push(group.clone());
                    let attribute = attributes[lookup].len() - 1;
                    KeySpec::Attribute { lookup, attribute }
                }
            };
            named.push((name.clone(), key));
        }
        // Not null exactly where there is a match.
        let mut matched = Vec::new();
        for (lookup, dimension) in self.dimensions.iter().enumerate() {
            if dimension.inner {
                attributes[lookup].push(lit(true));
                let attribute = attributes[lookup].len() - 1;
                let name = format!("__matched{lookup}");
                matched.push(Expr::Column(Column::new_unqualified(&name)).is_not_null());
                named.push((name, KeySpec::Attribute { lookup, attribute }));
            }
        }
        let dimensions = self.dimensions.into_iter().zip(attributes).enumerate();
        let lookups =
            dimensions.map(|(at, (dimension, attributes))| dimension.lookup(at, attributes));
        let lookups = lookups.collect::<Result<Vec<_>>>()?;
        let aggregates = self.aggr_expr.into_iter().map(MeasureSpec::Aggregate);
        let measures = measures.iter().cloned().zip(aggregates).collect();
        let node = FusedNode::try_new(self.log, lookups, named, measures)?;
        let mut plan = LogicalPlanBuilder::from(node.into_plan());
        if let Some(matched) = matched.into_iter().reduce(Expr::and) {
            plan = plan.filter(matched)?;
        }
        plan.build()
    }
}

impl Dimension {
    /// The lookup number `at` of some attributes.
    fn lookup(self, at: usize, attributes: Vec<Expr>) -> Result<(LookupSpec, LogicalPlan)> {
        let key = Expr::Column(self.key);
        let mut columns = vec![key.clone().alias(format!("__k{at}"))];
        let mut specs = Vec::new();
        for (i, attribute) in attributes.into_iter().enumerate() {
            let name = format!("__a{at}_{i}");
            specs.push(Expr::Column(Column::new_unqualified(&name)));
            columns.push(attribute.alias(name));
        }
        let dimension = LogicalPlanBuilder::from(self.plan)
            .filter(key.is_not_null())?
            .project(columns)?
            .build()?;
        let spec = LookupSpec {
            cache_key: format!("{} {}", self.table.identity(), dimension.display_indent()),
            fact_key: self.fact_key,
            date: None,
            rows: self.table.rows().unwrap_or(0) as usize,
            attributes: specs,
        };
        Ok((spec, dimension))
    }
}

/// A side of a join that is a table by a column of it, of which the keys of both sides have the type.
pub(super) struct KeyedSide<'a> {
    pub(super) plan: &'a Arc<LogicalPlan>,
    pub(super) key: &'a Column,
    /// The table, and its column that the key is.
    pub(super) table: SourceTable,
    pub(super) column: String,
    /// The other side, and its key.
    pub(super) log: &'a Arc<LogicalPlan>,
    pub(super) fact_key: &'a Expr,
}

/// The sides of a join that may be a dimension, in the order in which they are tried.
pub(super) fn keyed_sides(join: &Join) -> Result<Vec<KeyedSide<'_>>> {
    let mut found = Vec::new();
    for ((plan, key), (log, fact_key)) in sides(join) {
        let same_type = key.get_type(plan.schema())? == fact_key.get_type(log.schema())?;
        let Some(key) = key_column(plan, key)?.filter(|_| same_type) else {
            continue;
        };
        found.extend(base_column(plan, key)?.map(|(table, column)| KeyedSide {
            plan,
            key,
            table,
            column,
            log,
            fact_key,
        }));
    }
    Ok(found)
}

/// A side of a join and its key.
type Side<'a> = (&'a Arc<LogicalPlan>, &'a Expr);

/// The sides of a join on one key: what may be a dimension, and what is the log then.
fn sides(join: &Join) -> Vec<(Side<'_>, Side<'_>)> {
    let plain = join.filter.is_none()
        && !join.null_aware
        && join.null_equality == NullEquality::NullEqualsNothing;
    let [(left_key, right_key)] = join.on.as_slice() else {
        return Vec::new();
    };
    let (left, right) = ((&join.left, left_key), (&join.right, right_key));
    match join.join_type {
        JoinType::Inner if plain => vec![(right, left), (left, right)],
        JoinType::Left if plain => vec![(right, left)],
        JoinType::Right if plain => vec![(left, right)],
        _ => Vec::new(),
    }
}

/// The column that is a join's key, or is cast to it without two values becoming one.
fn key_column<'a>(plan: &LogicalPlan, key: &'a Expr) -> Result<Option<&'a Column>> {
    let column = match key {
        Expr::Column(column) => column,
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Column(column) => column,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let from = Expr::Column(column.clone()).get_type(plan.schema())?;
    let to = key.get_type(plan.schema())?;
    let small = |t: &DataType| t.is_integer() && *t != DataType::UInt64;
    let same = from == to || small(&from) && small(&to) || from.is_string() && to.is_string();
    Ok((same && can_look_up(&from) && can_look_up(&to)).then_some(column))
}

/// Functions that have a result for all values.
const NEVER_FAIL: [&str; 12] = [
    "btrim",
    "character_length",
    "coalesce",
    "concat",
    "date_part",
    "date_trunc",
    "lower",
    "ltrim",
    "nullif",
    "rtrim",
    "starts_with",
    "upper",
];

/// Whether an expression may fail for a row that a join leaves out: attributes are computed for all
/// rows of a dimension, groups and aggregates for all of the log.
fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    let failing = expr.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => {
                let divides = matches!(binary.op, Operator::Divide | Operator::Modulo);
                let by_number = match binary.right.as_ref() {
                    Expr::Literal(number, _) => !is_zero(number),
                    _ => false,
                };
                divides && !by_number || expr.get_type(schema)?.is_decimal()
            }
            Expr::ScalarFunction(call) => !NEVER_FAIL.contains(&call.name()),
            Expr::Cast(cast) => {
                let (from, to) = (cast.expr.get_type(schema)?, expr.get_type(schema)?);
                let wider = from.primitive_width() < to.primitive_width();
                let widens =
                    from.is_integer() && (to.is_floating() || to.is_signed_integer() && wider);
                from != to && !to.is_string() && !widens
            }
            _ => false,
        })
    });
    failing.unwrap_or(true)
}

fn is_zero(number: &ScalarValue) -> bool {
    ScalarValue::new_zero(&number.data_type()).map_or(true, |zero| *number == zero)
}

/// Whether an aggregate keeps more than a number for each group, or may fail for many rows: an inner
/// join would drop the rows without a match before.
fn gathers(aggregate: &Expr) -> bool {
    match aggregate {
        Expr::Alias(alias) => gathers(&alias.expr),
        Expr::AggregateFunction(call) => {
            let name = call.func.name();
            !["count", "min", "max"].contains(&name) && !name.starts_with("count_distinct_")
        }
        _ => true,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let found = expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    });
    found.unwrap_or(true)
}

/// The table and the column that a plan's column comes from, where rows are only left out between.
fn base_column(plan: &LogicalPlan, column: &Column) -> Result<Option<(SourceTable, String)>> {
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let provider = source_as_provider(&scan.source)?;
            let table = provider.downcast_ref::<SourceTable>().cloned();
            Ok(table.map(|table| (table, column.name.clone())))
        }
        LogicalPlan::Filter(filter) if !has_subquery(&filter.predicate) => {
            base_column(&filter.input, column)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let at = alias.schema.index_of_column(column)?;
            let below = Column::from(alias.input.schema().qualified_field(at));
            base_column(&alias.input, &below)
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(has_subquery) => {
            let at = projection.schema.index_of_column(column)?;
            match projection.expr[at].clone().unalias() {
                Expr::Column(below) => base_column(&projection.input, &below),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}
