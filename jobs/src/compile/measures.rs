//! Measures: SQL over aggregates that never depend on how the rows were split.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, col, lit};

use super::Compiler;
use crate::error::Result;
use crate::spec::{RankingSpec, did_you_mean};

/// The aggregates whose result does not depend on the order or the split of the rows, as users
/// write them and as the session calls them.
const AGGREGATES: [(&str, &str); 7] = [
    ("count", "count"),
    ("sum", "exact_sum"),
    ("min", "min"),
    ("max", "max"),
    ("avg", "exact_avg"),
    ("approx_percentile_cont", "histogram_percentile"),
    ("approx_distinct", "approx_distinct"),
];

/// The aggregates to compute, each once, and the measures over them.
pub(super) struct Measures {
    aggregates: Vec<Expr>,
    /// Name and expression over the columns of [`Measures::aggregates`].
    pub(super) measures: Vec<(String, Expr)>,
}

impl Measures {
    /// The column that holds an aggregate; computes it once however often it is asked for.
    pub(super) fn column_of(&mut self, aggregate: Expr) -> Expr {
        let known = self.aggregates.iter().position(|a| *a == aggregate);
        let index = known.unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        });
        col(format!("__m{index}"))
    }

    /// The aggregates, and what their columns are called.
    pub(super) fn aggregates(&self) -> impl Iterator<Item = (String, Expr)> {
        let numbered = self.aggregates.iter().enumerate();
        numbered.map(|(i, aggregate)| (format!("__m{i}"), aggregate.clone()))
    }
}

impl Compiler<'_> {
    /// Parses the measures of a ranking over a log's schema.
    pub(super) fn measures(&self, ranking: &RankingSpec, schema: &DFSchema) -> Result<Measures> {
        let mut measures = Measures {
            aggregates: Vec::new(),
            measures: Vec::new(),
        };
        for (name, sql) in &ranking.measures {
            let field = format!("ranking.measures.{name}");
            let parsed = self.expr(&field, sql, schema)?;
            self.check(&field, &parsed)?;
            // The type is checked before planning: a wrong argument is then named as the user's.
            parsed
                .get_type(schema)
                .map_err(|e| self.sql_error(&field, sql, &e))?;
            let over_columns = parsed
                .transform_down(|expr| {
                    Ok(match expr {
                        Expr::AggregateFunction(_) => Transformed::new(
                            measures.column_of(expr),
                            true,
                            TreeNodeRecursion::Jump,
                        ),
                        other => Transformed::no(other),
                    })
                })
                .map_err(|e| self.plan_error(e))?
                .data;
            measures.measures.push((name.clone(), over_columns));
        }
        Ok(measures)
    }

    fn check(&self, field: &str, measure: &Expr) -> Result<()> {
        let mut wrong = None;
        let mut aggregates = 0;
        let visited = measure.apply(|expr| {
            Ok(match expr {
                Expr::AggregateFunction(call) => {
                    aggregates += 1;
                    wrong = wrong_aggregate(call);
                    // What is inside an aggregate may be any column.
                    if wrong.is_some() {
                        TreeNodeRecursion::Stop
                    } else {
                        TreeNodeRecursion::Jump
                    }
                }
                Expr::Column(column) => {
                    wrong = Some(format!(
                        "the column '{}' must be inside an aggregate, such as max({})",
                        column.name, column.name
                    ));
                    TreeNodeRecursion::Stop
                }
                Expr::WindowFunction(_) => {
                    wrong = Some("window functions are not measures".to_owned());
                    TreeNodeRecursion::Stop
                }
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                    wrong = Some("a measure can't hold a query".to_owned());
                    TreeNodeRecursion::Stop
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
        visited.map_err(|e| self.plan_error(e))?;
        if wrong.is_none() && aggregates == 0 {
            wrong = Some(format!("a measure needs an aggregate: {}", known()));
        }
        match wrong {
            None => Ok(()),
            Some(reason) => Err(self.field_error(field, reason)),
        }
    }
}

fn wrong_aggregate(call: &datafusion::logical_expr::expr::AggregateFunction) -> Option<String> {
    let name = call.func.name();
    let Some((written, _)) = AGGREGATES.iter().find(|(_, called)| *called == name) else {
        return Some(format!(
            "the aggregate '{name}' may depend on how the work was split{}; measures use {}",
            did_you_mean(name, AGGREGATES.iter().map(|(written, _)| *written)),
            known()
        ));
    };
    let order_matters = matches!(*written, "sum" | "avg" | "approx_percentile_cont");
    (call.params.distinct && order_matters).then(|| format!("'{written}' takes no 'distinct'"))
}

fn known() -> String {
    AGGREGATES.map(|(written, _)| written).join(", ")
}

/// `count(*)`, as the SQL parser writes it.
pub(super) fn count_rows() -> Expr {
    datafusion::functions_aggregate::expr_fn::count(lit(1i64))
}
