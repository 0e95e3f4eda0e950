//! A ranking spec as a plan: log → window → aggregation with lookups → top-N per group.

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::Date32Array;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::MemTable;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, cast, lit, when};
use datafusion::prelude::DataFrame;
use rankmill_engine::Session;
use rankmill_engine::fused::{FusedNode, KeySpec, MeasureSpec};
use rankmill_engine::rank::{RankNode, Ranking};
use rankmill_engine::source::DATE_COLUMN;

use super::frame::date_literal;
use super::lookup::{LookedUp, unknown};
use super::measures::count_rows;
use super::{Compiler, is_text};
use crate::error::Result;
use crate::inputs::Inputs;
use crate::spec::{RankingSpec, Spec};

/// Internal columns of the plan's output.
pub(crate) const RUN_DATE: &str = "__date";
/// Rows of the log that went into a ranking's totals.
pub(crate) const ROWS: &str = "__rows";
/// Rows whose item is null.
pub(crate) const NULL_ITEMS: &str = "__null_items";

/// A ranking's plan. Its output: [`RUN_DATE`], the `per` keys but `date`, the item, the
/// measures, totals, and the rank; a row of rank 0 for each date carries that date's totals.
pub(crate) struct CompiledRanking {
    pub(crate) plan: LogicalPlan,
    /// For each lookup the column of its unmatched rows.
    pub(crate) unmatched: Vec<String>,
}

/// Plans a ranking for some dates in one pass over the files.
pub(crate) async fn compile_ranking(
    session: &Session,
    spec: &Spec,
    ranking: &RankingSpec,
    inputs: &Inputs,
    dates: &[NaiveDate],
) -> Result<CompiledRanking> {
    let compiler = Compiler {
        job: &spec.name,
        context: session.context(),
    };
    let input = &inputs.logs[0];
    let table = input.open(session, &spec.name, dates).await?;
    let log = compiler.log_frame(input, table, &input.days_of_all(dates))?;
    let mut measures = compiler.measures(ranking, log.schema())?;
    let item = compiler.column("ranking.item", &ranking.item, &log)?;
    let keys = compiler.log_keys(ranking, spec, &log)?;

    compiler
        .check_labels(session, spec, inputs, dates, &log)
        .await?;

    let looked_up = compiler.look_up(session, spec, inputs, dates, log).await?;
    let LookedUp {
        log,
        lookups,
        attributes,
        unmatched: counted,
    } = looked_up;
    let unmatched: Vec<String> = counted.iter().map(|(name, _)| name.clone()).collect();
    let (log, run_date) = compiler.with_run_date(log, inputs, dates)?;
    let rows = measures.column_of(count_rows());
    let item_column = Expr::Column(Column::new_unqualified(&ranking.item));
    let null_items = when(item_column.clone().is_null(), rows.clone())
        .otherwise(lit(0i64))
        .map_err(|e| compiler.plan_error(e))?;

    let mut group_by = vec![(RUN_DATE.to_owned(), KeySpec::Log(run_date))];
    let mut groups = vec![RUN_DATE.to_owned()];
    for name in ranking.per.iter().filter(|name| *name != DATE_COLUMN) {
        let of_log = keys.iter().find(|(key, _)| key == name);
        let of_log = of_log.map(|(_, key)| KeySpec::Log(key.clone()));
        if let Some(key) = attributes.get(name).cloned().or(of_log) {
            group_by.push((name.clone(), key));
            groups.push(name.clone());
        }
    }
    group_by.push((ranking.item.clone(), KeySpec::Log(item)));
    let mut output: Vec<Expr> = groups
        .iter()
        .map(|name| Expr::Column(Column::new_unqualified(name)))
        .collect();
    output.push(item_column);
    let computed = measures.measures.iter();
    output.extend(computed.map(|(name, expr)| expr.clone().alias(name)));
    let mut totals = unmatched.clone();
    output.extend(
        unmatched
            .iter()
            .map(|name| Expr::Column(Column::new_unqualified(name))),
    );
    for (name, total) in [(NULL_ITEMS, null_items), (ROWS, rows)] {
        output.push(total.alias(name));
        totals.push(name.to_owned());
    }
    let aggregates = measures
        .aggregates()
        .map(|(name, aggregate)| (name, MeasureSpec::Aggregate(aggregate)));
    let fused = FusedNode::try_new(
        log.into_unoptimized_plan(),
        lookups,
        group_by,
        aggregates.chain(counted).collect(),
    )
    .map_err(|e| compiler.plan_error(e))?;
    let aggregated = LogicalPlanBuilder::from(fused.into_plan())
        .project(output)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| compiler.plan_error(e))?;

    let ranking = Ranking {
        groups,
        item: ranking.item.clone(),
        order: ranking
            .order()
            .map(|(measure, descending)| (measure.to_owned(), descending))
            .collect(),
        top: ranking.top as usize,
        totals,
    };
    let node = RankNode::try_new(aggregated, ranking).map_err(|e| compiler.plan_error(e))?;
    Ok(CompiledRanking {
        plan: node.into_plan(),
        unmatched,
    })
}

impl Compiler<'_> {
    /// The `per` keys that are columns of the log; a text that is null ranks under `unknown`.
    fn log_keys(
        &self,
        ranking: &RankingSpec,
        spec: &Spec,
        log: &DataFrame,
    ) -> Result<Vec<(String, Expr)>> {
        let is_attribute =
            |name: &String| spec.lookups.iter().any(|l| l.attributes.contains_key(name));
        let mut keys = Vec::new();
        for (i, name) in ranking.per.iter().enumerate() {
            if name == DATE_COLUMN || is_attribute(name) {
                continue;
            }
            let column = self.column(&format!("ranking.per[{i}]"), name, log)?;
            let field = log.schema().field_with_unqualified_name(name);
            let field = field.map_err(|e| self.plan_error(e))?;
            let key = match is_text(field.data_type()) {
                true => coalesce(vec![cast(column, DataType::Utf8View), unknown()]),
                false => column,
            };
            keys.push((name.clone(), key));
        }
        Ok(keys)
    }

    /// Labels are joined when all else is done: what is wrong with them shows now.
    async fn check_labels(
        &self,
        session: &Session,
        spec: &Spec,
        inputs: &Inputs,
        dates: &[NaiveDate],
        log: &DataFrame,
    ) -> Result<()> {
        for (labels, input) in spec.labels.iter().zip(&inputs.labels) {
            let table = input.open(session, &spec.name, dates).await?;
            let dimension = self.frame(input, table)?;
            let on = format!("{}.on", input.field);
            self.column(&on, labels.on.dimension(), &dimension)?;
            self.check_key_types(&on, log, &dimension, &labels.on)?;
            for (i, name) in labels.columns.iter().enumerate() {
                self.column(&format!("{}.columns[{i}]", input.field), name, &dimension)?;
            }
        }
        Ok(())
    }

    /// Gives each row the date, or dates, whose ranking it counts for.
    fn with_run_date(
        &self,
        log: DataFrame,
        inputs: &Inputs,
        dates: &[NaiveDate],
    ) -> Result<(DataFrame, Expr)> {
        let input = &inputs.logs[0];
        let date = Expr::Column(Column::new_unqualified(DATE_COLUMN));
        // A constant: DataFusion then doesn't group by it. All days of the window count for it.
        if let [run_date] = dates {
            return Ok((log, date_literal(*run_date)));
        }
        if input.window_days == 1 {
            return Ok((log, date));
        }
        let plan_error = |e| self.plan_error(e);
        let pairs: Vec<(NaiveDate, NaiveDate)> = dates
            .iter()
            .flat_map(|run| input.days_of(*run).map(move |day| (day, *run)))
            .collect();
        let calendar = calendar(&pairs).map_err(plan_error)?;
        let calendar = self
            .context
            .read_table(Arc::new(calendar))
            .map_err(plan_error)?;
        let day = Expr::Column(Column::new_unqualified("__day"));
        let frame = log
            .join_on(calendar, JoinType::Inner, [date.eq(day)])
            .map_err(plan_error)?;
        let run_date = Expr::Column(Column::new_unqualified("__run_date"));
        Ok((frame, run_date))
    }
}

/// A table of (day, date of a ranking that the day counts for).
fn calendar(pairs: &[(NaiveDate, NaiveDate)]) -> datafusion::error::Result<MemTable> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("__day", DataType::Date32, false),
        Field::new("__run_date", DataType::Date32, false),
    ]));
    let days = |date: NaiveDate| match date_literal(date) {
        Expr::Literal(ScalarValue::Date32(days), _) => days,
        _ => None,
    };
    let column = |of: fn(&(NaiveDate, NaiveDate)) -> NaiveDate| {
        let dates: Date32Array = pairs.iter().map(|pair| days(of(pair))).collect();
        Arc::new(dates)
    };
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column(|p| p.0), column(|p| p.1)])?;
    MemTable::try_new(schema, vec![vec![batch]])
}
