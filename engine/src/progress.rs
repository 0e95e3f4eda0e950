//! How far the scans of a running plan have come.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;

/// The counter of rows that a scan left out after it decoded a condition's columns, as DataFusion's
/// `ParquetFileMetrics` calls it.
pub const LEFT_OUT_ROWS: &str = "pushdown_rows_pruned";

/// Totals over the file scans of a plan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ScanProgress {
    /// Files read to the end (or found to hold nothing of use).
    pub files_done: usize,
    /// Rows looked at: those handed on by the scans, and those that a condition within left out.
    pub rows: u64,
    /// Bytes read from the store.
    pub bytes: u64,
    /// On a cluster: tasks of the stages known so far.
    pub tasks: u64,
    /// On a cluster: tasks done.
    pub tasks_done: u64,
}

impl ScanProgress {
    /// Adds what other scans have done.
    pub fn add(&mut self, other: Self) {
        self.files_done += other.files_done;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.tasks += other.tasks;
        self.tasks_done += other.tasks_done;
    }
}

/// Reads the metrics of all file scans below `plan`; may be called while it runs.
pub fn scan_progress(plan: &Arc<dyn ExecutionPlan>) -> ScanProgress {
    let mut progress = ScanProgress::default();
    add(plan, &mut progress);
    progress
}

/// Bytes of all files (or parts of files) that the scans of `plan` are to read.
pub fn scan_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let below: u64 = plan.children().into_iter().map(scan_bytes).sum();
    let groups = file_scan(plan).map_or(&[][..], |scan| &scan.file_groups);
    let files = groups.iter().flat_map(|group| group.iter());
    below + files.map(PartitionedFile::effective_size).sum::<u64>()
}

fn file_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?
        .data_source()
        .downcast_ref::<FileScanConfig>()
}

fn add(plan: &Arc<dyn ExecutionPlan>, progress: &mut ScanProgress) {
    for child in plan.children() {
        add(child, progress);
    }
    if file_scan(plan).is_none() {
        return;
    }
    let Some(metrics) = plan.metrics() else {
        return;
    };
    for metric in metrics.iter() {
        match metric.value() {
            MetricValue::OutputRows(rows) => progress.rows += rows.value() as u64,
            MetricValue::Count { name, count } => match name.as_ref() {
                "bytes_scanned" => progress.bytes += count.value() as u64,
                "files_processed" => progress.files_done += count.value(),
                LEFT_OUT_ROWS => progress.rows += count.value() as u64,
                _ => {}
            },
            _ => {}
        }
    }
}
