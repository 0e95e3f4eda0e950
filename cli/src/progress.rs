//! How a run or a generation goes, on stderr.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use indicatif::{ProgressBar, ProgressStyle};
use rankmill_datagen as datagen;
use rankmill_engine::{Location, ScanProgress};
use rankmill_jobs::{DateOutcome, DateReport, Error, Observer};
use rankmill_scheduler::proto;

use crate::{human, space};

/// Between two lines of progress where stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// A bar on a terminal, a line now and then elsewhere, nothing if quiet.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    terminal: bool,
    files: Mutex<usize>,
    /// Where a lake goes.
    place: Option<Location>,
    last_line: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        Self {
            bar: ProgressBar::hidden(),
            quiet,
            terminal,
            files: Mutex::new(0),
            place: None,
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// The same with a bar of the given length; `unit` names what it counts.
    pub(crate) fn with_bar(mut self, length: u64) -> Self {
        if self.terminal {
            self.bar = ProgressBar::new(length);
            self.bar.set_style(bar_style());
        }
        self
    }

    /// The same for a lake that goes to a place.
    pub(crate) fn of_lake(mut self, place: &Location) -> Self {
        self.place = Some(place.clone());
        self
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Tells how far a run on a cluster has come.
    pub(crate) fn read(&self, read: &proto::Progress) {
        let tasks = match read.tasks {
            0 => String::new(),
            tasks => format!(", {} of {tasks} tasks", read.tasks_done),
        };
        let text = format!(
            "{} of {} files, {} rows, {} read{tasks}",
            read.files_done,
            read.files,
            human::count(read.rows),
            human::bytes(read.bytes)
        );
        if self.is_line_due() {
            self.line(&text);
        }
        self.bar.set_position(read.files_done.min(read.files));
        self.bar.set_message(text);
    }

    /// Begins a bar of so many files.
    pub(crate) fn files(&self, files: u64) {
        if self.terminal {
            self.bar.reset();
            self.bar.set_length(files.max(1));
            self.bar.set_style(bar_style());
            self.bar
                .set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    }

    fn is_line_due(&self) -> bool {
        let Ok(mut last) = self.last_line.lock() else {
            return false;
        };
        let due = !self.terminal && last.elapsed() >= LINE_INTERVAL;
        if due {
            *last = Instant::now();
        }
        due
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Observer for Progress {
    fn reading(&self, files: usize, rows: Option<u64>, bytes: u64) {
        let rows = rows.map_or(String::new(), |rows| {
            format!("{} rows, ", human::count(rows))
        });
        let bytes = human::bytes(bytes);
        self.line(&format!("reading {files} files, {rows}{bytes}"));
        if let Ok(mut known) = self.files.lock() {
            *known = files;
        }
        Progress::files(self, files as u64);
    }

    fn progress(&self, scanned: ScanProgress) {
        let files = self.files.lock().map_or(0, |files| *files);
        let text = format!(
            "{} of {files} files, {} rows, {} read",
            scanned.files_done.min(files),
            human::count(scanned.rows),
            human::bytes(scanned.bytes)
        );
        if self.is_line_due() {
            self.line(&text);
        }
        self.bar.set_position(scanned.files_done.min(files) as u64);
        self.bar.set_message(text);
    }

    fn publishing(&self, _date: NaiveDate) {}

    fn retrying(&self, reason: &Error) {
        self.line(&format!("{reason}; beginning anew"));
    }

    fn date_done(&self, report: &DateReport) {
        let date = report.date;
        self.line(&match &report.outcome {
            DateOutcome::Published { generation, rows } => {
                format!("{date}: published {rows} rows as generation {generation}")
            }
            DateOutcome::AlreadyCurrent { generation } => {
                format!("{date}: generation {generation} is current already, nothing to do")
            }
            DateOutcome::Fenced { generation, run_id } => {
                format!("{date}: fenced: run {run_id} published generation {generation} meanwhile")
            }
            DateOutcome::Gap { path } => {
                format!("{date}: a gap: there is no input at '{path}'")
            }
        });
    }
}

impl datagen::Progress for Progress {
    fn part_done(&self, part: &datagen::Part, rows: u64, bytes: u64) {
        self.bar.inc(rows);
        let message = format!("{} ({})", part.path, human::bytes(bytes));
        if self.is_line_due() {
            self.line(&format!("wrote {message}"));
        }
        self.bar.set_message(message);
    }

    fn free_bytes(&self) -> Option<u64> {
        self.place.as_ref().and_then(space::free_bytes)
    }

    fn truth_started(&self) {
        self.bar.set_message("truth.json");
    }
}
