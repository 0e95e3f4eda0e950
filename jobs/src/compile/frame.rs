//! A log as a frame: with its `date`, cut to the days wanted, filtered.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, ident, lit};
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
        let frame = self.dated_frame(input, table, days)?;
        match &input.filter {
            None => Ok(frame),
            Some(filter) => {
                let field = format!("{}.where", input.field);
                let condition = self.expr(&field, filter, frame.schema())?;
                frame
                    .filter(condition)
                    .map_err(|e| self.sql_error(&field, filter, &e))
            }
        }
    }

    /// Whether a log has a row on a day, whatever `where` says. Footers only give a span.
    pub(crate) async fn has_rows(
        &self,
        input: &Input,
        table: SourceTable,
        day: NaiveDate,
    ) -> Result<bool> {
        let found = self
            .dated_frame(input, table, &[day])?
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

    fn dated_frame(
        &self,
        input: &Input,
        table: SourceTable,
        days: &[NaiveDate],
    ) -> Result<DataFrame> {
        let Some((column, zone)) = input.date_column() else {
            return self.frame(input, table);
        };
        let field = format!("{}.date.column", input.field);
        let schema = table.schema();
        let found = schema.field_with_name(column);
        let data_type = found.map_or(DataType::Null, |found| found.data_type().clone());
        let (range, stated) = (range(&data_type, zone, days), table.range(column));
        let within =
            |column: Expr, [start, end]: [Expr; 2]| column.clone().gt_eq(start).and(column.lt(end));
        let table = match &range {
            Some(range) => table.with_hint(within(ident(column), range.clone())),
            None => table,
        };
        let mut frame = self.frame(input, table)?;
        let expr = self.column(&field, column, &frame)?;
        let plan_error = |e| self.plan_error(e);
        // `date` decides, but most rows of other days are told by bounds on the column itself.
        if let Some([start, end]) = range {
            let within = match stated {
                // Files were left out by what their footers say: no row may lie elsewhere.
                Some((least, most)) => {
                    let [least, most] = [least, most].map(|end| Expr::Literal(end, None));
                    let place = lit(input.source.base().to_string());
                    let function = self.context.udf("within_stated").map_err(plan_error)?;
                    function.call(vec![expr.clone(), start, end, least, most, place])
                }
                None => within(expr.clone(), [start, end]),
            };
            frame = frame.filter(within).map_err(plan_error)?;
        }
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
        let function = self.context.udf("local_date").map_err(plan_error)?;
        let date = function.call(vec![expr, lit(zone.name())]);
        let wanted: Vec<Expr> = days.iter().map(|day| date_literal(*day)).collect();
        frame
            .with_column(DATE_COLUMN, date)
            .and_then(|frame| {
                let date = datafusion::common::Column::new_unqualified(DATE_COLUMN);
                frame.filter(Expr::Column(date).in_list(wanted, false))
            })
            .map_err(plan_error)
    }
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
