//! The ranking as a node of a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{RANK_COLUMN, Ranking};

/// Top-N per group over an input that is complete by item. Output: the input's columns, all
/// nullable, and [`RANK_COLUMN`] (Int64).
#[derive(Debug, Clone)]
pub struct RankNode {
    input: LogicalPlan,
    ranking: Ranking,
    schema: DFSchemaRef,
}

impl RankNode {
    /// Plans a ranking; an error if a column is missing or already called `rank`.
    pub fn try_new(input: LogicalPlan, ranking: Ranking) -> Result<Self> {
        let input_schema = input.schema();
        for name in ranking.columns() {
            if !input_schema.has_column_with_unqualified_name(name) {
                return plan_err!("a ranking needs the column '{name}', which is not there");
            }
        }
        if input_schema.has_column_with_unqualified_name(RANK_COLUMN) {
            return plan_err!("the input of a ranking has a column '{RANK_COLUMN}' already");
        }
        for name in &ranking.totals {
            let field = input_schema.field_with_unqualified_name(name)?;
            if field.data_type() != &DataType::Int64 {
                return plan_err!("the total '{name}' is {}, not Int64", field.data_type());
            }
        }
        let mut fields: Vec<_> = input_schema
            .iter()
            .map(|(qualifier, field)| {
                let field = field.as_ref().clone().with_nullable(true);
                (qualifier.cloned(), Arc::new(field))
            })
            .collect();
        let rank = Field::new(RANK_COLUMN, DataType::Int64, true);
        fields.push((None, Arc::new(rank)));
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        Ok(Self {
            input,
            ranking,
            schema: Arc::new(schema),
        })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(self),
        })
    }

    /// What is ranked.
    pub fn ranking(&self) -> &Ranking {
        &self.ranking
    }
}

impl Ranking {
    /// All columns that the ranking reads.
    fn columns(&self) -> impl Iterator<Item = &String> {
        let order = self.order.iter().map(|(name, _)| name);
        let groups = self.groups.iter();
        groups.chain([&self.item]).chain(order).chain(&self.totals)
    }

    /// The columns' places in a schema.
    pub(super) fn resolve(&self, schema: &Schema) -> Result<ResolvedRanking> {
        let index = |name: &String| {
            schema
                .index_of(name)
                .map_err(|_| plan_datafusion_err!("a ranking's column '{name}' is gone"))
        };
        Ok(ResolvedRanking {
            groups: self.groups.iter().map(index).collect::<Result<_>>()?,
            item: index(&self.item)?,
            order: self
                .order
                .iter()
                .map(|(name, descending)| Ok((index(name)?, *descending)))
                .collect::<Result<_>>()?,
            totals: self.totals.iter().map(index).collect::<Result<_>>()?,
        })
    }
}

/// A [`Ranking`]'s columns as places in a schema.
#[derive(Debug, Clone)]
pub(super) struct ResolvedRanking {
    pub(super) groups: Vec<usize>,
    pub(super) item: usize,
    pub(super) order: Vec<(usize, bool)>,
    pub(super) totals: Vec<usize>,
}

impl PartialEq for RankNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.ranking == other.ranking
    }
}

impl Eq for RankNode {}

impl Hash for RankNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.ranking.hash(state);
    }
}

impl PartialOrd for RankNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => self.ranking.partial_cmp(&other.ranking),
            other => other,
        }
    }
}

impl UserDefinedLogicalNodeCore for RankNode {
    fn name(&self) -> &str {
        "Rank"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.ranking
            .columns()
            .map(|name| Expr::Column(Column::new_unqualified(name)))
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Rank: {}", self.ranking)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Self::try_new(input, self.ranking.clone()),
            Err(inputs) => plan_err!("a ranking has one input, not {}", inputs.len()),
        }
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order: Vec<String> = self
            .order
            .iter()
            .map(|(name, descending)| format!("{name}{}", if *descending { " desc" } else { "" }))
            .collect();
        write!(
            f,
            "top {} {} per [{}] by [{}]",
            self.top,
            self.item,
            self.groups.join(", "),
            order.join(", ")
        )
    }
}
