//! The cut as a node of a logical plan.

use std::collections::HashSet;
use std::fmt;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore,
};

/// Keeps of each group the first `limit` rows in an order, and perhaps more: a plan above must choose.
/// Output: the input's columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct GroupLimitNode {
    input: LogicalPlan,
    groups: Vec<Expr>,
    order: Vec<SortExpr>,
    limit: usize,
}

impl GroupLimitNode {
    /// Plans a cut.
    ///
    /// # Errors
    /// If nothing is given to group or to order by.
    pub fn try_new(
        input: LogicalPlan,
        groups: Vec<Expr>,
        order: Vec<SortExpr>,
        limit: usize,
    ) -> Result<Self> {
        if groups.is_empty() || order.is_empty() {
            return plan_err!("a limit of groups needs columns to group and to order by");
        }
        Ok(Self {
            input,
            groups,
            order,
            limit,
        })
    }

    /// The node as a plan.
    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension {
            node: std::sync::Arc::new(self),
        })
    }

    pub(in crate::rank) fn input(&self) -> &LogicalPlan {
        &self.input
    }

    pub(in crate::rank) fn groups(&self) -> &[Expr] {
        &self.groups
    }

    pub(in crate::rank) fn order(&self) -> &[SortExpr] {
        &self.order
    }

    pub(in crate::rank) fn limit(&self) -> usize {
        self.limit
    }

    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let order = self.order.iter().map(|sort| &sort.expr);
        self.groups.iter().chain(order)
    }
}

/// Whether values of a type have the same order in arrow's row format as in a sort.
pub(crate) fn is_orderable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => false,
        DataType::Dictionary(_, values) => is_orderable(values),
        other => !other.is_nested(),
    }
}

impl UserDefinedLogicalNodeCore for GroupLimitNode {
    fn name(&self) -> &str {
        "GroupLimit"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.exprs().cloned().collect()
    }

    // A filter on what groups are made of takes whole groups.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let groups: Vec<_> = self.groups.iter().filter_map(Expr::try_as_col).collect();
        let columns = self.schema().columns().into_iter();
        let others = columns.filter(|column| !groups.contains(&column));
        others.map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let texts = |texts: Vec<String>| texts.join(", ");
        let groups = texts(self.groups.iter().map(Expr::to_string).collect());
        let order = texts(self.order.iter().map(SortExpr::to_string).collect());
        let limit = self.limit;
        write!(f, "GroupLimit: {limit} per [{groups}] by [{order}]")
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else {
            return plan_err!("a limit of groups has one input");
        };
        if exprs.len() != self.groups.len() + self.order.len() {
            return plan_err!("a limit of groups has other expressions");
        }
        let keys = exprs.split_off(self.groups.len());
        let order = self.order.iter().zip(keys);
        let order = order.map(|(sort, expr)| SortExpr { expr, ..*sort });
        Self::try_new(input, exprs, order.collect(), self.limit)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.schema();
        let mut used = output_columns.to_vec();
        for expr in self.exprs() {
            for column in expr.column_refs() {
                used.push(schema.maybe_index_of_column(column)?);
            }
        }
        used.sort_unstable();
        used.dedup();
        Some(vec![used])
    }
}
