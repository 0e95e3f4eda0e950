//! The fused aggregation as a node of a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err, plan_err};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::rules::Aggregates;

/// A dimension and what is taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct LookupSpec {
    /// Names the dimension's files as they are now, and the columns read: two lookups of one name
    /// share a table.
    pub cache_key: String,
    /// The log's key.
    pub fact_key: Expr,
    /// The log's date, where an attribute depends on it.
    pub date: Option<Expr>,
    /// Rows of the dimension, as far as is known.
    pub rows: usize,
    /// Over the dimension's columns, and the log's date.
    pub attributes: Vec<Expr>,
}

/// A column of the groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum KeySpec {
    /// Over the log.
    Log(Expr),
    /// An attribute of a lookup, by their numbers.
    Attribute {
        /// The lookup.
        lookup: usize,
        /// Its attribute.
        attribute: usize,
    },
}

/// An aggregate of the groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum MeasureSpec {
    /// Over the log.
    Aggregate(Expr),
    /// Rows whose key is not null and missing in a dimension, by the lookup's number.
    Unmatched(usize),
}

/// Groups a log by its own columns and by attributes of dimensions, and aggregates it. Inputs: the
/// log, then for each lookup its dimension, whose first column is a key that occurs once. Output:
/// the keys, then the measures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FusedNode {
    log: LogicalPlan,
    dimensions: Vec<LogicalPlan>,
    lookups: Vec<LookupSpec>,
    keys: Vec<(String, KeySpec)>,
    measures: Vec<(String, MeasureSpec)>,
    schema: DFSchemaRef,
}

impl FusedNode {
    /// Plans an aggregation.
    ///
    /// # Errors
    /// If an expression doesn't fit its input.
    pub fn try_new(
        log: LogicalPlan,
        lookups: Vec<(LookupSpec, LogicalPlan)>,
        keys: Vec<(String, KeySpec)>,
        mut measures: Vec<(String, MeasureSpec)>,
    ) -> Result<Self> {
        let rule = Aggregates::default();
        for (_, measure) in &mut measures {
            if let MeasureSpec::Aggregate(expr) = measure
                && let Some(better) = rule.rewrite_expr(expr, log.schema())?
            {
                // The measure has a name of its own.
                *expr = better.unalias();
            }
        }
        if keys.is_empty() {
            return plan_err!("a fused aggregation needs a key to group by");
        }
        let (mut lookups, dimensions): (Vec<LookupSpec>, Vec<_>) = lookups.into_iter().unzip();
        for (lookup, dimension) in lookups.iter_mut().zip(&dimensions) {
            let schema = Arc::new(attribute_schema(&log, dimension)?);
            let context = SimplifyContext::builder().with_schema(Arc::clone(&schema));
            let simplifier = ExprSimplifier::new(context.build());
            for attribute in &mut lookup.attributes {
                let coerced = simplifier.coerce(attribute.clone(), &schema)?;
                *attribute = simplifier.simplify(coerced)?;
            }
        }
        Self::build(log, dimensions, lookups, keys, measures)
    }

    fn build(
        log: LogicalPlan,
        dimensions: Vec<LogicalPlan>,
        lookups: Vec<LookupSpec>,
        keys: Vec<(String, KeySpec)>,
        measures: Vec<(String, MeasureSpec)>,
    ) -> Result<Self> {
        let mut fields = Vec::with_capacity(keys.len() + measures.len());
        for (name, key) in &keys {
            let data_type = match key {
                KeySpec::Log(expr) => expr.get_type(log.schema())?,
                KeySpec::Attribute { lookup, attribute } => {
                    let schema = attribute_schema(&log, &dimensions[*lookup])?;
                    lookups[*lookup].attributes[*attribute].get_type(&schema)?
                }
            };
            fields.push((None, Arc::new(Field::new(name, data_type, true))));
        }
        for (name, measure) in &measures {
            let data_type = match measure {
                MeasureSpec::Aggregate(expr) => expr.get_type(log.schema())?,
                MeasureSpec::Unmatched(_) => DataType::Int64,
            };
            fields.push((None, Arc::new(Field::new(name, data_type, true))));
        }
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        Ok(Self {
            log,
            dimensions,
            lookups,
            keys,
            measures,
            schema: Arc::new(schema),
        })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(self),
        })
    }

    pub(crate) fn log(&self) -> &LogicalPlan {
        &self.log
    }

    pub(crate) fn lookups(&self) -> impl Iterator<Item = (&LookupSpec, &LogicalPlan)> {
        self.lookups.iter().zip(&self.dimensions)
    }

    pub(super) fn keys(&self) -> &[(String, KeySpec)] {
        &self.keys
    }

    pub(super) fn measures(&self) -> &[(String, MeasureSpec)] {
        &self.measures
    }

    /// Expressions over the log.
    fn log_exprs(&self) -> impl Iterator<Item = &Expr> {
        let keys = self.keys.iter().filter_map(|(_, key)| match key {
            KeySpec::Log(expr) => Some(expr),
            KeySpec::Attribute { .. } => None,
        });
        let measures = self
            .measures
            .iter()
            .filter_map(|(_, measure)| match measure {
                MeasureSpec::Aggregate(expr) => Some(expr),
                MeasureSpec::Unmatched(_) => None,
            });
        let facts = self.lookups.iter();
        let facts = facts.flat_map(|lookup| std::iter::once(&lookup.fact_key).chain(&lookup.date));
        keys.chain(measures).chain(facts)
    }
}

/// The dimension's columns, which are null for a key that it doesn't have, and the log's: an
/// attribute's date is one of the log's.
pub(super) fn attribute_schema(log: &LogicalPlan, dimension: &LogicalPlan) -> Result<DFSchema> {
    let fields = dimension.schema().iter();
    let fields = fields.map(|(qualifier, field)| {
        let field = field.as_ref().clone().with_nullable(true);
        (qualifier.cloned(), Arc::new(field))
    });
    let mut schema = DFSchema::new_with_metadata(fields.collect(), Default::default())?;
    schema.merge(log.schema());
    Ok(schema)
}

impl PartialOrd for FusedNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let parts = |node: &Self| {
            (
                node.lookups.clone(),
                node.keys.clone(),
                node.measures.clone(),
            )
        };
        match self.log.partial_cmp(&other.log) {
            Some(Ordering::Equal) => parts(self).partial_cmp(&parts(other)),
            other => other,
        }
    }
}

impl UserDefinedLogicalNodeCore for FusedNode {
    fn name(&self) -> &str {
        "FusedAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        std::iter::once(&self.log).chain(&self.dimensions).collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    // Not the attributes, which are simplified already: rules take it that a dimension's column is
    // null only where it is in the dimension, and drop what stands for a key that it doesn't have.
    fn expressions(&self) -> Vec<Expr> {
        self.log_exprs().cloned().collect()
    }

    // A filter on a key above could go below; none is ever put there.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "FusedAggregate: keys=[")?;
        for (i, (name, key)) in self.keys.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            match key {
                KeySpec::Log(expr) => write!(f, "{separator}{expr} AS {name}")?,
                KeySpec::Attribute { lookup, attribute } => {
                    let expr = &self.lookups[*lookup].attributes[*attribute];
                    write!(f, "{separator}{expr} AS {name}")?;
                }
            }
        }
        write!(f, "], measures=[")?;
        for (i, (name, measure)) in self.measures.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            match measure {
                MeasureSpec::Aggregate(expr) => write!(f, "{separator}{expr} AS {name}")?,
                MeasureSpec::Unmatched(lookup) => {
                    write!(f, "{separator}unmatched({lookup}) AS {name}")?;
                }
            }
        }
        let facts: Vec<String> = self
            .lookups
            .iter()
            .map(|l| l.fact_key.to_string())
            .collect();
        write!(f, "], lookups=[{}]", facts.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if inputs.len() != 1 + self.dimensions.len() {
            return plan_err!(
                "a fused aggregation has {} inputs",
                1 + self.dimensions.len()
            );
        }
        let mut exprs = exprs.into_iter();
        let mut next = |_: &Expr| match exprs.next() {
            Some(expr) => Ok(expr),
            None => internal_err!("a fused aggregation lacks an expression"),
        };
        let mut new = self.clone();
        for (_, key) in &mut new.keys {
            if let KeySpec::Log(expr) = key {
                *expr = next(expr)?;
            }
        }
        for (_, measure) in &mut new.measures {
            if let MeasureSpec::Aggregate(expr) = measure {
                *expr = next(expr)?;
            }
        }
        for lookup in &mut new.lookups {
            lookup.fact_key = next(&lookup.fact_key)?;
            if let Some(date) = &mut lookup.date {
                *date = next(date)?;
            }
        }
        let mut inputs = inputs.into_iter();
        let Some(log) = inputs.next() else {
            return internal_err!("a fused aggregation lacks its log");
        };
        Self::build(log, inputs.collect(), new.lookups, new.keys, new.measures)
    }

    /// The log's columns that are read, whatever is asked for; all of the dimensions', which were
    /// chosen already.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.log.schema();
        let mut used = Vec::new();
        for expr in self.log_exprs() {
            for column in expr.column_refs() {
                used.push(schema.maybe_index_of_column(column)?);
            }
        }
        used.sort_unstable();
        used.dedup();
        let dimensions = self.dimensions.iter();
        let dimensions = dimensions.map(|plan| (0..plan.schema().fields().len()).collect());
        Some(std::iter::once(used).chain(dimensions).collect())
    }
}
