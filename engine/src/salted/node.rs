//! The join as a node of a logical plan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

/// A LEFT JOIN of a log with a dimension. Output: the log's columns, then the dimension's, which are
/// null where nothing matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SaltedJoinNode {
    log: LogicalPlan,
    dimension: LogicalPlan,
    fact_key: Expr,
    /// By its name: rules may put other columns before it.
    dimension_key: Column,
    hot: Vec<ScalarValue>,
    table_bytes: usize,
    schema: DFSchemaRef,
}

impl SaltedJoinNode {
    /// Plans a join by an expression over the log and a column of the dimension. `hot` are the log's most frequent keys; `table_bytes` is what a code table of
    /// the dimension would take, for the skew report.
    ///
    /// # Errors
    /// If both sides have a column of the same name, or the dimension lacks its key.
    pub fn try_new(
        log: LogicalPlan,
        dimension: LogicalPlan,
        (fact_key, dimension_key): (Expr, Column),
        hot: Vec<ScalarValue>,
        table_bytes: usize,
    ) -> Result<Self> {
        dimension.schema().index_of_column(&dimension_key)?;
        let of_log = log.schema().iter();
        let of_log = of_log.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let of_dimension = dimension.schema().iter().map(|(qualifier, field)| {
            let field = field.as_ref().clone().with_nullable(true);
            (qualifier.cloned(), Arc::new(field))
        });
        let fields = of_log.chain(of_dimension).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Self {
            log,
            dimension,
            fact_key,
            dimension_key,
            hot,
            table_bytes,
            schema,
        })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: Arc::new(self),
        })
    }

    pub(super) fn log_schema(&self) -> &DFSchemaRef {
        self.log.schema()
    }

    pub(super) fn fact_key(&self) -> &Expr {
        &self.fact_key
    }

    /// The place of the dimension's key among its columns.
    pub(super) fn dimension_key(&self) -> Result<usize> {
        self.dimension.schema().index_of_column(&self.dimension_key)
    }

    pub(super) fn hot(&self) -> &[ScalarValue] {
        &self.hot
    }

    pub(super) fn table_bytes(&self) -> usize {
        self.table_bytes
    }
}

impl PartialOrd for SaltedJoinNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let parts = |node: &Self| {
            let keys = (node.fact_key.clone(), node.dimension_key.clone());
            (keys, node.hot.clone(), node.table_bytes)
        };
        let inputs = self.log.partial_cmp(&other.log)?;
        let inputs = inputs.then(self.dimension.partial_cmp(&other.dimension)?);
        Some(inputs.then(parts(self).partial_cmp(&parts(other))?))
    }
}

impl UserDefinedLogicalNodeCore for SaltedJoinNode {
    fn name(&self) -> &str {
        "SaltedJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.log, &self.dimension]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.fact_key.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "SaltedJoin: key={}, hot keys={}",
            self.fact_key,
            self.hot.len()
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (
            <[Expr; 1]>::try_from(exprs),
            <[LogicalPlan; 2]>::try_from(inputs),
        ) {
            (Ok([fact_key]), Ok([log, dimension])) => {
                let keys = (fact_key, self.dimension_key.clone());
                Self::try_new(log, dimension, keys, self.hot.clone(), self.table_bytes)
            }
            _ => plan_err!("a salted join has two inputs and a key"),
        }
    }

    /// The columns that are asked for, and the keys.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.log.schema();
        let columns = schema.fields().len();
        let (mut log, of_dimension): (Vec<usize>, Vec<usize>) =
            output_columns.iter().partition(|at| **at < columns);
        for column in self.fact_key.column_refs() {
            log.push(schema.maybe_index_of_column(column)?);
        }
        let mut dimension = vec![self.dimension_key().ok()?];
        dimension.extend(of_dimension.into_iter().map(|at| at - columns));
        for columns in [&mut log, &mut dimension] {
            columns.sort_unstable();
            columns.dedup();
        }
        Some(vec![log, dimension])
    }
}
