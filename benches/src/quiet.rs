//! Nobody watches.

use chrono::NaiveDate;
use rankmill_datagen::{Part, Progress};
use rankmill_engine::ScanProgress;
use rankmill_jobs::{DateReport, Error, Observer};

/// Watches a run or a generation and says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn part_done(&self, _part: &Part, _rows: u64, _bytes: u64) {}
}

impl Observer for Quiet {
    fn reading(&self, _files: usize, _rows: Option<u64>, _bytes: u64) {}
    fn progress(&self, _scanned: ScanProgress) {}
    fn publishing(&self, _: NaiveDate) {}
    fn retrying(&self, _reason: &Error) {}
    fn date_done(&self, _report: &DateReport) {}
}
