//! From a spec and its files to a logical plan.

mod frame;
mod lookup;
mod measures;
mod query;
mod ranking;
mod shuffled;
mod windows;

pub(crate) use query::compile_query;
pub(crate) use ranking::{NULL_ITEMS, ROWS, RUN_DATE, compile_ranking};
pub(crate) use windows::WindowQuery;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, Volatility};
use datafusion::prelude::{DataFrame, SessionContext};
use rankmill_engine::source::SourceTable;

use crate::error::{Error, Result, reason_of};
use crate::inputs::Input;
use crate::spec::{On, did_you_mean};

/// What the steps of a compilation share.
pub(crate) struct Compiler<'a> {
    pub(crate) job: &'a str,
    pub(crate) context: &'a SessionContext,
}

impl Compiler<'_> {
    /// A table as a frame; its name shows in plans and messages.
    pub(crate) fn frame(&self, input: &Input, table: SourceTable) -> Result<DataFrame> {
        let name = input.table_name();
        let source = provider_as_source(Arc::new(table));
        let plan = LogicalPlanBuilder::scan(TableReference::bare(name), source, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| self.plan_error(e))?;
        Ok(DataFrame::new(self.context.state(), plan))
    }

    /// Fails unless a log's key can be compared with a dimension's.
    pub(crate) fn check_key_types(
        &self,
        field: &str,
        log: &DataFrame,
        dimension: &DataFrame,
        on: &On,
    ) -> Result<()> {
        let type_of = |frame: &DataFrame, name: &str| {
            let field = frame.schema().field_with_unqualified_name(name);
            field
                .map(|f| f.data_type().clone())
                .map_err(|e| self.plan_error(e))
        };
        let fact = type_of(log, on.fact())?;
        let dim = type_of(dimension, on.dimension())?;
        let fits =
            fact == dim || fact.is_integer() && dim.is_integer() || is_text(&fact) && is_text(&dim);
        if fits {
            return Ok(());
        }
        Err(self.field_error(
            field,
            format!(
                "the keys don't fit: '{}' is {fact} in the log, '{}' is {dim} in the dimension",
                on.fact(),
                on.dimension()
            ),
        ))
    }

    /// Parses SQL of the spec over a schema.
    fn expr(&self, field: &str, sql: &str, schema: &DFSchema) -> Result<Expr> {
        let expr = self
            .context
            .parse_sql_expr(sql, schema)
            .map_err(|e| self.sql_error(field, sql, &e))?;
        if holds_query(&expr).map_err(|e| self.plan_error(e))? {
            let reason = "it holds a query; what needs other rows goes into 'sql'";
            return Err(self.field_error(field, reason));
        }
        match changing_function(&expr) {
            Ok(None) => Ok(expr),
            Ok(Some(name)) => Err(self.field_error(field, changing(&name))),
            Err(e) => Err(self.plan_error(e)),
        }
    }

    fn sql_error(
        &self,
        field: &str,
        sql: &str,
        error: &datafusion::error::DataFusionError,
    ) -> Error {
        Error::Sql {
            job: self.job.to_owned(),
            field: field.to_owned(),
            sql: sql.trim().to_owned(),
            reason: reason_of(error),
        }
    }

    fn field_error(&self, field: &str, reason: impl Into<String>) -> Error {
        Error::Field {
            job: self.job.to_owned(),
            field: field.to_owned(),
            reason: reason.into(),
        }
    }

    /// An error of the planner that isn't about one field.
    fn plan_error(&self, error: datafusion::error::DataFusionError) -> Error {
        Error::Engine {
            job: self.job.to_owned(),
            source: Box::new(error.into()),
        }
    }

    /// A column of a frame by its exact name, with the frame's qualifier.
    pub(crate) fn column(&self, field: &str, name: &str, frame: &DataFrame) -> Result<Expr> {
        match frame.schema().qualified_field_with_unqualified_name(name) {
            Ok((qualifier, column)) => Ok(Expr::from((qualifier, column))),
            Err(_) => {
                let names = || frame.schema().fields().iter().map(|f| f.name().as_str());
                Err(self.field_error(
                    field,
                    format!(
                        "there is no column '{name}'{}; columns: {}",
                        did_you_mean(name, names()),
                        names().collect::<Vec<_>>().join(", ")
                    ),
                ))
            }
        }
    }
}

/// Whether values of a type are texts, however they are stored.
fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        t => t.is_string(),
    }
}

/// Whether an expression reads more than its row: its own check would not see into a query.
fn holds_query(expr: &Expr) -> datafusion::error::Result<bool> {
    expr.exists(|node| {
        Ok(matches!(
            node,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
        ))
    })
}

/// The name of a function in an expression whose result differs from call to call, such as
/// `random` or `now`: a result must be a function of the files alone.
fn changing_function(expr: &Expr) -> datafusion::error::Result<Option<String>> {
    let mut found = None;
    expr.apply(|node| {
        if let Expr::ScalarFunction(call) = node
            && call.func.signature().volatility != Volatility::Immutable
        {
            found = Some(call.func.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn changing(function: &str) -> String {
    format!(
        "'{function}' gives another result each time; a result must follow from the files alone \
         (the date of the run is {{date}})"
    )
}
