//! A log as a frame: with its `date`, cut to the days wanted, filtered.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, lit};
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
        // By texts no file is left out.
        let stated = table.range(column);
        let stated = stated.filter(|ends| ends.0.data_type().is_temporal());
        let mut frame = self.frame(input, table)?;
        if let Some(ends) = stated {
            frame = self.as_footers_say(input, frame, column, ends.into())?;
        }
        self.with_local_date(input, frame, column, zone, days)
    }

    /// The same rows, or an error: files were left out by what their footers say of a column, so no
    /// row may lie elsewhere. Comes first, to see all rows.
    fn as_footers_say(
        &self,
        input: &Input,
        frame: DataFrame,
        name: &str,
        stated: [ScalarValue; 2],
    ) -> Result<DataFrame> {
        let column = self.column(&format!("{}.date.column", input.field), name, &frame)?;
        let [least, most] = stated.map(|end| Expr::Literal(end, None));
        let place = lit(input.source.base().to_string());
        let function = self.context.udf("as_footers_say");
        function
            .and_then(|function| frame.filter(function.call(vec![column, least, most, place])))
            .map_err(|e| self.plan_error(e))
    }

    fn with_local_date(
        &self,
        input: &Input,
        mut frame: DataFrame,
        name: &str,
        zone: TimeZone,
        days: &[NaiveDate],
    ) -> Result<DataFrame> {
        let field = format!("{}.date.column", input.field);
        let column = self.column(&field, name, &frame)?;
        let schema_field = frame.schema().field_with_unqualified_name(name);
        let data_type = match schema_field {
            Ok(field) => field.data_type().clone(),
            Err(e) => return Err(self.plan_error(e)),
        };
        match &data_type {
            DataType::Timestamp(unit, tz) => {
                // By bounds on the column itself much of a file may be left undecoded; `date` decides.
                if let [first, .., last] | [first @ last] = days {
                    let bound = |us| timestamp(us, *unit, tz.clone());
                    let start = bound(day_bounds_us(*first, zone).0);
                    let end = bound(day_bounds_us(*last, zone).1);
                    let within = column.clone().gt_eq(start).and(column.clone().lt(end));
                    frame = frame.filter(within).map_err(|e| self.plan_error(e))?;
                }
            }
            DataType::Date32 | DataType::Date64 => {}
            t if t.is_string() => {}
            other => {
                return Err(self.field_error(
                    &field,
                    format!(
                        "'{name}' is {other}; a date comes from a timestamp, a date or a text \
                         such as 2026-01-31T09:30:00Z"
                    ),
                ));
            }
        }
        let function = self
            .context
            .udf("local_date")
            .map_err(|e| self.plan_error(e))?;
        let date = function.call(vec![column, lit(zone.name())]);
        let wanted: Vec<Expr> = days.iter().map(|day| date_literal(*day)).collect();
        frame
            .with_column(DATE_COLUMN, date)
            .and_then(|frame| {
                let date = datafusion::common::Column::new_unqualified(DATE_COLUMN);
                frame.filter(Expr::Column(date).in_list(wanted, false))
            })
            .map_err(|e| self.plan_error(e))
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
