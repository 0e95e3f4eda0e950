//! How far the scans of a running plan have come.

use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;

/// Totals over the file scans of a plan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ScanProgress {
    /// Files read to the end (or found to hold nothing of use).
    pub files_done: usize,
    /// Rows handed on by the scans.
    pub rows: u64,
    /// Bytes read from the store.
    pub bytes: u64,
    /// On a cluster: tasks of the stages known so far.
    pub tasks: u64,
    /// On a cluster: tasks done.
    pub tasks_done: u64,
}

/// Reads the metrics of all file scans below `plan`; may be called while it runs.
pub fn scan_progress(plan: &Arc<dyn ExecutionPlan>) -> ScanProgress {
    let mut progress = ScanProgress::default();
    add(plan, &mut progress);
    progress
}

fn add(plan: &Arc<dyn ExecutionPlan>, progress: &mut ScanProgress) {
    for child in plan.children() {
        add(child, progress);
    }
    let is_file_scan = plan.downcast_ref::<DataSourceExec>().is_some_and(|scan| {
        scan.data_source()
            .downcast_ref::<FileScanConfig>()
            .is_some()
    });
    if !is_file_scan {
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
                _ => {}
            },
            _ => {}
        }
    }
}
