//! The condition on a log's rows, checked by the aggregation itself.
//!
//! A filter below would copy the rows that pass twice: out of each batch, and into batches as large as
//! those that came in. Here a batch's rows are looked at once, while it lies in the caches: where all
//! pass nothing is copied, else the columns in use are.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::exec::FusedExec;

/// Makes rows of a log from those of an operator's input.
#[derive(Debug)]
pub(super) struct Selection {
    /// Which rows: over the input.
    predicate: Arc<dyn PhysicalExpr>,
    /// The input's columns that are kept; none means all.
    columns: Option<Vec<usize>>,
    /// What the log's columns are, over those that are kept; none means these.
    projection: Option<Vec<ProjectionExpr>>,
    log: SchemaRef,
}

impl Selection {
    /// What a plan selects of another, if it is a filter, or one below a projection.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<(Self, Arc<dyn ExecutionPlan>)> {
        let (projection, below) = match plan.downcast_ref::<ProjectionExec>() {
            Some(projection) => (Some(projection.expr().to_vec()), projection.input()),
            None => (None, plan),
        };
        let filter = below.downcast_ref::<FilterExec>()?;
        if filter.fetch().is_some() {
            return None;
        }
        let selection = Self {
            predicate: Arc::clone(filter.predicate()),
            columns: filter.projection().as_deref().map(<[usize]>::to_vec),
            projection,
            log: plan.schema(),
        };
        Some((selection, Arc::clone(filter.input())))
    }

    /// The same as a plan over an input: what [`Selection::of`] makes this of.
    pub(super) fn over(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = FilterExecBuilder::new(Arc::clone(&self.predicate), input);
        let filter = filter.apply_projection(self.columns.clone())?.build()?;
        let filter: Arc<dyn ExecutionPlan> = Arc::new(filter);
        Ok(match &self.projection {
            Some(exprs) => Arc::new(ProjectionExec::try_new(exprs.iter().cloned(), filter)?),
            None => filter,
        })
    }

    /// Which rows, for people.
    pub(super) fn condition(&self) -> &Arc<dyn PhysicalExpr> {
        &self.predicate
    }

    /// The log's rows in a batch of the input; none if there are none.
    pub(super) fn select(&self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let rows = batch.num_rows();
        let passing = self.predicate.evaluate(batch)?.into_array(rows)?;
        let passing = as_boolean_array(&passing)?;
        // Null doesn't pass.
        let count = passing.true_count();
        if count == 0 {
            return Ok(None);
        }
        let kept = match &self.columns {
            Some(columns) => batch.project(columns)?,
            None => batch.clone(),
        };
        let kept = match count == rows {
            true => kept,
            false => filter_record_batch(&kept, passing)?,
        };
        let Some(projection) = &self.projection else {
            return Ok(Some(kept));
        };
        let columns = projection.iter();
        let columns = columns.map(|column| column.expr.evaluate(&kept)?.into_array(count));
        let columns = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let log = Arc::clone(&self.log);
        let log = RecordBatch::try_new_with_options(log, columns, &options)?;
        Ok(Some(log))
    }
}

/// Puts filters below an aggregation into it. Comes after DataFusion's rules, which put some of them
/// into the scan, and after [`WholeDates`](super::WholeDates), which looks through them.
#[derive(Debug)]
pub(crate) struct FusedFilters;

impl PhysicalOptimizerRule for FusedFilters {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let fused = plan.transform_up(|node| match node.downcast_ref::<FusedExec>() {
            Some(exec) => Ok(match exec.with_filter_below()? {
                Some(exec) => Transformed::yes(Arc::new(exec) as _),
                None => Transformed::no(node),
            }),
            None => Ok(Transformed::no(node)),
        })?;
        Ok(fused.data)
    }

    fn name(&self) -> &str {
        "rankmill_fused_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
