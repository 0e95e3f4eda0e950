//! What a run says while it runs, on its way into its record.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rankmill_engine::ScanProgress;
use rankmill_engine::skew::SkewReport;
use rankmill_jobs::{DateOutcome, DateReport, Error, Observer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::judge::{ALREADY_CURRENT, FENCED, GAP, PUBLISHED, put_date};
use crate::core::{Core, RunCell, happened};
use crate::error::describe;
use crate::metrics::Metrics;
use crate::model::{DateResult, Run, RunState};

/// Something to record.
#[derive(Debug, Clone)]
pub(super) enum Note {
    Publishing,
    Date(DateResult),
    Skew(Box<SkewReport>),
    Said(DateTime<Utc>, String),
}

/// Hears how a run goes. Progress is shown at once; what is to be recorded goes to [`Notes`].
pub(super) struct RunObserver {
    cell: Arc<RunCell>,
    metrics: Metrics,
    notes: UnboundedSender<Note>,
    /// Whether a date is being published now.
    publishing: watch::Sender<bool>,
    /// Scanned in computations before this one, and what the last was seen to have scanned.
    scanned: std::sync::Mutex<(ScanProgress, ScanProgress)>,
    /// What was skewed in all computations of the run, those of earlier attempts too.
    skew: std::sync::Mutex<SkewReport>,
}

/// What is to be recorded, and is not yet.
pub(super) struct Notes {
    arriving: UnboundedReceiver<Note>,
    pending: Vec<Note>,
    publishing: watch::Receiver<bool>,
}

pub(super) fn observe(cell: &Arc<RunCell>, metrics: &Metrics) -> (RunObserver, Notes) {
    let (notes, arriving) = unbounded_channel();
    let (publishing, published) = watch::channel(false);
    let observer = RunObserver {
        cell: Arc::clone(cell),
        metrics: metrics.clone(),
        notes,
        publishing,
        scanned: std::sync::Mutex::default(),
        skew: std::sync::Mutex::new(cell.run().skew.clone().unwrap_or_default()),
    };
    let notes = Notes {
        arriving,
        pending: Vec::new(),
        publishing: published,
    };
    (observer, notes)
}

impl RunObserver {
    fn note(&self, note: Note) {
        // Nobody listens once the attempt has ended.
        let _ = self.notes.send(note);
    }

    fn say(&self, message: String) {
        self.note(Note::Said(Utc::now(), message));
    }
}

impl Observer for RunObserver {
    fn reading(&self, files: usize, rows: Option<u64>, bytes: u64) {
        self.cell.advance(|progress| progress.files += files as u64);
        let rows = rows.map_or(String::new(), |rows| format!(", {rows} rows"));
        self.say(format!("reading {files} files{rows}, {bytes} bytes"));
    }

    fn progress(&self, now: ScanProgress) {
        let mut scanned = self
            .scanned
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (before, last) = &mut *scanned;
        if now.rows < last.rows || now.bytes < last.bytes || now.tasks_done < last.tasks_done {
            // Another computation has begun.
            *before = plus(before, last);
            *last = ScanProgress::default();
        }
        let rows = now.rows - last.rows;
        let bytes = now.bytes - last.bytes;
        *last = now;
        let total = plus(before, last);
        drop(scanned);
        self.metrics.scanned(rows, bytes);
        self.cell.advance(|progress| {
            // Executors count a file once for each of its parts, and once more after a loss.
            progress.files_done = (total.files_done as u64).min(progress.files);
            progress.rows = total.rows;
            progress.bytes = total.bytes;
            progress.tasks = total.tasks;
            progress.tasks_done = total.tasks_done;
        });
    }

    fn publishing(&self, _date: NaiveDate) {
        self.publishing.send_replace(true);
        self.note(Note::Publishing);
    }

    fn skewed(&self, found: &SkewReport) {
        let mut skew = self
            .skew
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        skew.add(found.clone());
        self.note(Note::Skew(Box::new(skew.clone())));
    }

    fn retrying(&self, reason: &Error) {
        self.say(format!("begins anew: {}", describe(reason)));
    }

    fn date_done(&self, report: &DateReport) {
        self.note(Note::Date(result_of(report)));
        self.publishing.send_replace(false);
    }
}

fn plus(a: &ScanProgress, b: &ScanProgress) -> ScanProgress {
    ScanProgress {
        files_done: a.files_done + b.files_done,
        rows: a.rows + b.rows,
        bytes: a.bytes + b.bytes,
        tasks: a.tasks + b.tasks,
        tasks_done: a.tasks_done + b.tasks_done,
    }
}

/// What a record says of a date.
fn result_of(report: &DateReport) -> DateResult {
    let (outcome, generation, rows) = match &report.outcome {
        DateOutcome::Published { generation, rows } => (PUBLISHED, *generation, *rows),
        DateOutcome::AlreadyCurrent { generation } => (ALREADY_CURRENT, *generation, 0),
        DateOutcome::Fenced { generation, .. } => (FENCED, *generation, 0),
        DateOutcome::Gap { .. } => (GAP, 0, 0),
    };
    DateResult {
        date: report.date,
        outcome: outcome.to_owned(),
        generation,
        rows,
    }
}

impl Notes {
    /// Records what comes, until the run has nothing more to say. A store that is slow gets fewer
    /// writes; one that is away, none: what is left is recorded at the attempt's end. The future
    /// may be dropped.
    pub(super) async fn record(&mut self, core: &Core, cell: &RunCell) {
        while let Some(note) = self.arriving.recv().await {
            self.pending.push(note);
            self.collect();
            let changed = core.update(cell, |run| self.apply(run)).await;
            match changed {
                Ok(_) => self.pending.clear(),
                Err(error) => tracing::warn!("{}", describe(&error)),
            }
        }
    }

    /// Whether a date is being published at any time; no more after the attempt.
    pub(super) fn publishing(&self) -> watch::Receiver<bool> {
        self.publishing.clone()
    }

    /// Takes what has arrived.
    pub(super) fn collect(&mut self) {
        while let Ok(note) = self.arriving.try_recv() {
            self.pending.push(note);
        }
    }

    /// Writes it into the record; twice is as good as once.
    pub(super) fn apply(&self, run: &mut Run) {
        if !matches!(run.state, RunState::Running | RunState::Publishing) {
            return;
        }
        for note in &self.pending {
            match note {
                Note::Publishing => run.state = RunState::Publishing,
                Note::Date(result) => {
                    if result.outcome == PUBLISHED {
                        run.state = RunState::Running;
                    }
                    put_date(&mut run.dates, result.clone());
                }
                Note::Skew(report) => run.skew = Some(report.as_ref().clone()),
                Note::Said(at, message) => happened(run, *at, message.clone()),
            }
        }
    }
}
