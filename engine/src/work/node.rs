//! Work as a node of a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::{ORDER_COLUMN, Work, output_schema};

/// Does the orders of its input, a column [`ORDER_COLUMN`] of text. Output: the orders, and what came out of each.
#[derive(Debug, Clone)]
pub struct WorkNode {
    input: LogicalPlan,
    work: Work,
    schema: DFSchemaRef,
}

impl WorkNode {
    /// Plans work; an error if the input has no orders.
    pub fn try_new(input: LogicalPlan, work: Work) -> Result<Self> {
        if !input
            .schema()
            .has_column_with_unqualified_name(ORDER_COLUMN)
        {
            return plan_err!("work needs the column '{ORDER_COLUMN}', which is not there");
        }
        let schema = DFSchema::try_from(output_schema().as_ref().clone())?;
        Ok(Self {
            input,
            work,
            schema: Arc::new(schema),
        })
    }

    /// The node as a plan.
    #[must_use]
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(self),
        })
    }

    /// What is done.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }
}

impl PartialEq for WorkNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.work == other.work
    }
}

impl Eq for WorkNode {}

impl Hash for WorkNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.work.hash(state);
    }
}

impl PartialOrd for WorkNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => self.work.partial_cmp(&other.work),
            other => other,
        }
    }
}

impl UserDefinedLogicalNodeCore for WorkNode {
    fn name(&self) -> &str {
        "Work"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(Column::new_unqualified(ORDER_COLUMN))]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Work: {}", self.work)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Self::try_new(input, self.work.clone()),
            Err(inputs) => plan_err!("work has one input, not {}", inputs.len()),
        }
    }
}
