//! Conditions on the rows of Parquet files.
//!
//! Nothing is left out by what a footer says of values: writers have got their statistics wrong
//! before, and a row that isn't read is missed by nobody. What footers say is a hint only: where by
//! them much is left out, the columns of the condition are decoded first, and the others where rows
//! pass (late materialization).

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::DFSchema;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccessPlanFilter};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

use super::FOOTER_BYTES;

/// Parts of the rows that footers must leave out for decoding the condition's columns first.
const LEAST_LEFT_OUT: f64 = 0.25;

/// Bytes of a condition's decoded columns that a reader keeps until they are needed: a million rows of
/// two of them. The default is 100 MiB, of which no limit of memory knows.
const MOST_KEPT: usize = 16 << 20;

/// DataFusion's reader of Parquet files; `late` if it is to decode the columns of a condition first.
pub(super) fn reader(late: bool) -> ParquetFormat {
    let mut options = TableParquetOptions::default();
    options.global.pruning = false;
    options.global.enable_page_index = false;
    options.global.bloom_filter_on_read = false;
    options.global.pushdown_filters = late;
    options.global.max_predicate_cache_size = Some(MOST_KEPT);
    ParquetFormat::default()
        .with_options(options)
        .with_metadata_size_hint(Some(FOOTER_BYTES))
}

/// How many rows pass a condition by what footers say.
pub(super) struct Estimate {
    predicate: Arc<PruningPredicate>,
    schema: SchemaRef,
    rows: u64,
    may_pass: u64,
    /// Pruning asks for them; nobody reads them.
    metrics: ParquetFileMetrics,
}

impl Estimate {
    /// For all `filters` together, over columns of `schema`; none if footers can't say anything.
    pub(super) fn new(
        state: &dyn CatalogSession,
        filters: &[Expr],
        schema: SchemaRef,
    ) -> Option<Self> {
        let condition = conjunction(filters.iter().cloned())?;
        let columns = DFSchema::try_from(Arc::clone(&schema)).ok()?;
        let condition = state.create_physical_expr(condition, &columns).ok()?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&schema));
        Some(Self {
            predicate: predicate.build(condition)?,
            schema,
            rows: 0,
            may_pass: 0,
            metrics: ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new()),
        })
    }

    /// Adds a file.
    pub(super) fn add(&mut self, footer: &ParquetMetaData) {
        let groups = footer.row_groups();
        let rows = |at: usize| groups[at].num_rows().max(0) as u64;
        let all = (0..groups.len()).map(rows).sum::<u64>();
        self.rows += all;
        // Statistics are found by a column's place: in other files they would be another's.
        let roots = footer
            .file_metadata()
            .schema_descr()
            .root_schema()
            .get_fields();
        let names = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        if !names
            .take(roots.len())
            .eq(roots.iter().map(|root| root.name()))
        {
            self.may_pass += all;
            return;
        }
        let mut left = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(groups.len()));
        left.prune_by_statistics(
            &self.schema,
            footer.file_metadata().schema_descr(),
            groups,
            &self.predicate,
            &self.metrics,
        );
        self.may_pass += left.row_group_indexes().map(rows).sum::<u64>();
    }

    /// Whether the condition's columns are worth decoding first.
    pub(super) fn leaves_much_out(&self) -> bool {
        let left_out = self.rows - self.may_pass;
        left_out > 0 && left_out as f64 >= self.rows as f64 * LEAST_LEFT_OUT
    }
}
