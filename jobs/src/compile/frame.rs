//! A log as a frame: with its `date`, cut to the days wanted, filtered.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, cast, ident, lit, when};
use datafusion::prelude::DataFrame;
use rankmill_engine::functions::{TimeZone, day_bounds_us};
use rankmill_engine::source::{DATE_COLUMN, SourceTable};

use super::Compiler;
use crate::error::{Result, reason_of};
use crate::inputs::Input;

impl Compiler<'_> {
    /// The rows of a log on the given days (in order), with their `date`, that satisfy `where`.
    pub(super) fn log_frame(
        &self,
        input: &Input,
        table: SourceTable,
        days: &[NaiveDate],
    ) -> Result<DataFrame> {
        self.dated_frame(input, table, days, input.filter.as_deref())
    }

    /// Whether a log has a row on a day, whatever `where` says. Footers only give a span.
    pub(crate) async fn has_rows(
        &self,
        input: &Input,
        table: SourceTable,
        day: NaiveDate,
    ) -> Result<bool> {
        let found = self
            .dated_frame(input, table, &[day], None)?
            .select_columns(&[DATE_COLUMN])
            .and_then(|frame| frame.limit(0, Some(1)))
            .map_err(|e| self.plan_error(e))?
            .collect()
            .await;
        match (found, input.date_column()) {
            (Ok(batches), _) => Ok(batches.iter().any(|batch| batch.num_rows() > 0)),
            // A text that is no date is only met while reading.
            (Err(e), Some((column, _))) if is_parse_error(&e) => {
                let field = format!("{}.date.column", input.field);
                let reason = format!("'{column}' doesn't hold dates: {}", reason_of(&e));
                Err(self.field_error(&field, reason))
            }
            (Err(e), _) => Err(self.plan_error(e)),
        }
    }

    /// The rows of a log on some days that satisfy a condition.
    fn dated_frame(
        &self,
        input: &Input,
        mut table: SourceTable,
        days: &[NaiveDate],
        condition: Option<&str>,
    ) -> Result<DataFrame> {
        let plan_error = |e| self.plan_error(e);
        let field_of_condition = format!("{}.where", input.field);
        let parsed = |schema: &DFSchema| {
            let condition = condition.map(|sql| self.expr(&field_of_condition, sql, schema));
            condition.transpose()
        };
        let filtered = |frame: DataFrame, filter: Expr| {
            frame.filter(filter).map_err(|e| match condition {
                Some(sql) => self.sql_error(&field_of_condition, sql, &e),
                None => self.plan_error(e),
            })
        };
        let Some((column, zone)) = input.date_column() else {
            let frame = self.frame(input, table)?;
            return match parsed(frame.schema())? {
                Some(condition) => filtered(frame, condition),
                None => Ok(frame),
            };
        };
        let field = format!("{}.date.column", input.field);
        let schema = table.schema();
        let found = schema.field_with_name(column);
        let data_type = found.map_or(DataType::Null, |found| found.data_type().clone());
        let (range, stated) = (range(&data_type, zone, days), table.range(column));
        let within =
            |column: Expr, [start, end]: [Expr; 2]| column.clone().gt_eq(start).and(column.lt(end));
        if let Some(range) = &range {
            table = table.with_hint(within(ident(column), range.clone()));
        }
        let columns = DFSchema::try_from(schema).map_err(plan_error)?;
        // Of `date`, which it may know as well, footers say nothing.
        if let Ok(Some(condition)) = parsed(&columns) {
            table = table.with_hint(condition);
        }
        let mut frame = self.frame(input, table)?;
        let expr = self.column(&field, column, &frame)?;
        match data_type {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {}
            text if text.is_string() => {}
            other => {
                let reason = format!(
                    "'{column}' is {other}; a date comes from a timestamp, a date or a text such as \
                     2026-01-31T09:30:00Z"
                );
                return Err(self.field_error(&field, reason));
            }
        }
        // `date` decides, but most rows of other days are told by bounds on the column itself.
        if let Some([start, end]) = range {
            let column = expr.clone();
            let within = match stated {
                // Files were left out by what their footers say: no row may lie elsewhere.
                Some((least, most)) => {
                    let [least, most] = [least, most].map(|end| Expr::Literal(end, None));
                    let place = lit(input.source.base().to_string());
                    let function = self.context.udf("within_stated").map_err(plan_error)?;
                    function.call(vec![column, start, end, least, most, place])
                }
                None => within(column, [start, end]),
            };
            frame = frame.filter(within).map_err(plan_error)?;
        }
        let function = self.context.udf("local_date").map_err(plan_error)?;
        let date = function.call(vec![expr, lit(zone.name())]);
        let frame = frame.with_column(DATE_COLUMN, date).map_err(plan_error)?;
        let wanted: Vec<Expr> = days.iter().map(|day| date_literal(*day)).collect();
        let of_day = datafusion::common::Column::new_unqualified(DATE_COLUMN);
        let of_days = Expr::Column(of_day).in_list(wanted, false);
        let filter = match parsed(frame.schema())? {
            Some(condition) => after(of_days, condition).map_err(plan_error)?,
            None => of_days,
        };
        filtered(frame, filter)
    }
}

/// A condition that is only evaluated for rows that satisfy the first: what it makes of others, those
/// of other days, is nobody's business, an error least of all. Of parts that are joined by AND, the one
/// that looks cheapest would be evaluated first; a CASE of truth values would be made into an AND.
fn after(first: Expr, condition: Expr) -> Result<Expr, DataFusionError> {
    let case = when(first, cast(condition, DataType::Int8)).otherwise(lit(0i8))?;
    Ok(case.eq(lit(1i8)))
}

/// What lies from the first of some days (in order) up to the last, in the type of a column; none
/// where texts tell the days.
fn range(data_type: &DataType, zone: TimeZone, days: &[NaiveDate]) -> Option<[Expr; 2]> {
    let ([first, .., last] | [first @ last]) = days else {
        return None;
    };
    match data_type {
        DataType::Timestamp(unit, tz) => {
            let bounds = [day_bounds_us(*first, zone).0, day_bounds_us(*last, zone).1];
            Some(bounds.map(|us| timestamp(us, *unit, tz.clone())))
        }
        DataType::Date32 => Some([date_literal(*first), date_literal(last.succ_opt()?)]),
        _ => None,
    }
}

/// A date as Date32.
pub(super) fn date_literal(date: NaiveDate) -> Expr {
    let days = date.num_days_from_ce() - NaiveDate::default().num_days_from_ce();
    Expr::Literal(ScalarValue::Date32(Some(days)), None)
}

/// An instant in the type of a timestamp column.
fn timestamp(us: i64, unit: TimeUnit, tz: Option<Arc<str>>) -> Expr {
    let value = match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(us.div_euclid(1_000_000)), tz),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(us.div_euclid(1_000)), tz),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(us), tz),
        TimeUnit::Nanosecond => {
            let ns = DateTime::from_timestamp_micros(us).and_then(|t| t.timestamp_nanos_opt());
            // Beyond the years that nanoseconds reach there are no rows either.
            let ns = ns.unwrap_or(if us < 0 { i64::MIN } else { i64::MAX });
            ScalarValue::TimestampNanosecond(Some(ns), tz)
        }
    };
    Expr::Literal(value, None)
}

fn is_parse_error(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => matches!(**error, ArrowError::ParseError(_)),
        _ => false,
    }
}
