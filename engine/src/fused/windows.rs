//! The groups of many windows of days, from one pass over the days.
//!
//! A job that looks at the last thirty days reads twenty-nine of them again for the next date. Where
//! the memory is there, each day is aggregated once instead, and kept: counts are added when a day
//! enters the window and taken back when it leaves, largest values are compared anew, and a distinct
//! value is in a window if one of its days is.
//!
//! Sharing a sliding window's work by parts: Li et al., "No Pane, No Gain: Efficient Evaluation of
//! Sliding-Window Aggregates over Data Streams" (SIGMOD Record 34, 2005); a day is a pane.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{
    DataFusionError, Result as DataFusionResult, ScalarValue, internal_datafusion_err,
};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use tokio::task::{JoinHandle, spawn_blocking};

use super::aggregator::{MAX_DAYS, Windows};
use super::definition::Key;
use super::exec::{FusedExec, is_date_key};
use crate::compute::watched;
use crate::error::Result;
use crate::progress::ScanProgress;
use crate::session::Session;
use crate::skew::{self, SkewReport};
use crate::source::{DATE_COLUMN, days_since_epoch};

/// The key that says of which day a group is.
const DATE_KEY: usize = 0;

/// What a projection makes of an operator's columns.
type Columns = Vec<Arc<dyn PhysicalExpr>>;

/// The groups of some windows of days, one window after the other.
pub struct WindowGroups {
    /// The next window's, put together while the last one's are worked with.
    ahead: JoinHandle<(Source, DataFusionResult<Option<RecordBatch>>)>,
    /// What the scans have read.
    pub scanned: ScanProgress,
    /// What was skewed.
    pub skew: SkewReport,
}

/// Makes rows of a plan from groups.
struct Source {
    windows: Windows,
    /// The operator's columns, and what the plan makes of them.
    schema: SchemaRef,
    columns: Option<Columns>,
    output: SchemaRef,
}

/// A plan for the groups of some windows.
pub struct WindowPlan {
    root: Arc<dyn ExecutionPlan>,
    windows: Vec<RangeInclusive<i32>>,
}

impl WindowPlan {
    /// Plans to aggregate each day of a log once for all of `windows`. `plan` is an aggregation of it,
    /// with the log's `date` as its first key. None if that isn't possible: the session doesn't
    /// [keep what it computes in memory](Session::keeps_in_memory), there are too many days, the
    /// aggregation has distinct texts or aggregates that are DataFusion's, or it isn't fused.
    pub async fn new(
        session: &Session,
        plan: &LogicalPlan,
        windows: &[RangeInclusive<NaiveDate>],
    ) -> Result<Option<Self>> {
        let windows: Vec<RangeInclusive<i32>> = windows.iter().map(days_of).collect();
        let days: BTreeSet<i32> = windows.iter().cloned().flatten().collect();
        if !session.keeps_in_memory() || days.len() > MAX_DAYS {
            return Ok(None);
        }
        let root = session.context().state().create_physical_plan(plan).await?;
        let planned = Self { root, windows };
        let fits = match planned.aggregation() {
            Some((fused, _)) => fused.can_keep_days() && is_log_date(fused),
            None => false,
        };
        Ok(fits.then_some(planned))
    }

    /// The aggregation, and what is made of its columns.
    fn aggregation(&self) -> Option<(&FusedExec, Option<Columns>)> {
        let Some(projection) = self.root.downcast_ref::<ProjectionExec>() else {
            return Some((self.root.downcast_ref::<FusedExec>()?, None));
        };
        let columns = projection.expr().iter();
        let columns = columns.map(|column| Arc::clone(&column.expr)).collect();
        Some((
            projection.input().downcast_ref::<FusedExec>()?,
            Some(columns),
        ))
    }

    /// Reads the log.
    pub async fn compute(
        self,
        session: &Session,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<WindowGroups> {
        let Some((fused, columns)) = self.aggregation() else {
            return Err(
                internal_datafusion_err!("windows are planned without an aggregation").into(),
            );
        };
        let context = session.context();
        let threads = context.copied_config().target_partitions();
        let task_context = context.task_ctx();
        let windows = self.windows.clone();
        let keeping = async {
            let days = fused.days(DATE_KEY, &task_context).await?;
            let counting = spawn_blocking(move || days.windows(windows, threads));
            let counted = counting.await;
            counted.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?
        };
        let (windows, scanned) = watched(keeping, &self.root, progress).await;
        let mut skew = skew::embedded(&self.root);
        skew.decisions.insert(
            0,
            "each day is aggregated once for all dates whose windows hold it".to_owned(),
        );
        let source = Source {
            windows: windows?,
            schema: fused.schema(),
            columns,
            output: self.root.schema(),
        };
        Ok(WindowGroups {
            ahead: source.ahead(),
            scanned,
            skew,
        })
    }
}

/// Whether the first key is the log's date, as it is.
fn is_log_date(fused: &FusedExec) -> bool {
    let definition = fused.definition();
    let Some(Key::Log(key)) = definition.keys.get(DATE_KEY) else {
        return false;
    };
    let column = key.downcast_ref::<Column>();
    is_date_key(definition, DATE_KEY) && column.is_some_and(|column| column.name() == DATE_COLUMN)
}

impl WindowGroups {
    /// The plan's rows for the next window; the date is null.
    pub async fn next_window(&mut self) -> Result<Option<RecordBatch>> {
        let (source, next) = (&mut self.ahead)
            .await
            .map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))?;
        self.ahead = source.ahead();
        Ok(next?)
    }
}

impl Source {
    fn ahead(mut self) -> JoinHandle<(Self, DataFusionResult<Option<RecordBatch>>)> {
        spawn_blocking(move || {
            let next = self.next();
            (self, next)
        })
    }

    fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let Some(groups) = self.windows.next()? else {
            return Ok(None);
        };
        let rows = groups.groups;
        let mut columns = groups.keys;
        let date = ScalarValue::Date32(None).to_array_of_size(rows)?;
        columns.insert(DATE_KEY, date);
        columns.extend(groups.measures);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let Some(columns) = &self.columns else {
            return Ok(Some(batch));
        };
        let columns = columns.iter();
        let columns = columns.map(|column| column.evaluate(&batch)?.into_array(rows));
        let columns: Vec<ArrayRef> = columns.collect::<DataFusionResult<_>>()?;
        let output = Arc::clone(&self.output);
        let batch = RecordBatch::try_new_with_options(output, columns, &options)?;
        Ok(Some(batch))
    }
}

/// As Arrow's Date32.
fn days_of(window: &RangeInclusive<NaiveDate>) -> RangeInclusive<i32> {
    days_since_epoch(*window.start())..=days_since_epoch(*window.end())
}
