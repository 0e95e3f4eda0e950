//! How a run on a cluster goes, on stderr.

use rankmill_scheduler::proto::{Progress as Read, Run, RunState};

use super::text::state_name;
use crate::progress::Progress;

/// Tells what is new in each state of a run that it is shown.
pub(crate) struct Watcher {
    progress: Progress,
    state: Option<RunState>,
    dates: usize,
    /// Attempts whose end has been told.
    attempts_ended: usize,
    files: u64,
    /// What the run read, as far as it was told.
    pub(crate) read: Read,
}

impl Watcher {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            progress: Progress::new(quiet).with_bar(1),
            state: None,
            dates: 0,
            attempts_ended: 0,
            files: 0,
            read: Read::default(),
        }
    }

    pub(crate) fn seen(&mut self, run: &Run) {
        let Some(summary) = &run.summary else {
            return;
        };
        let state = summary.state();
        let ended: Vec<_> = run
            .attempts
            .iter()
            .filter(|a| !a.reason.is_empty())
            .collect();
        for attempt in ended.iter().skip(self.attempts_ended) {
            self.progress
                .line(&format!("an attempt failed: {}", attempt.reason));
        }
        self.attempts_ended = ended.len();
        // A new attempt may leave out or repeat dates.
        self.dates = self.dates.min(run.dates.len());
        for date in run.dates.iter().skip(self.dates) {
            self.progress.line(&date_line(date));
        }
        self.dates = run.dates.len();
        if let Some(read) = &run.progress {
            if read.files != self.files {
                self.files = read.files;
                self.progress.files(read.files);
            }
            self.progress.read(read);
            self.read = *read;
        }
        // Publishing comes and goes with each date; its outcome is told.
        let told = state != RunState::Publishing && self.state != Some(state);
        if told && !(state == RunState::Running && self.state == Some(RunState::Publishing)) {
            self.progress.line(&match state {
                RunState::Queued if self.state.is_some() => "queued again".to_owned(),
                RunState::Failed => format!("failed: {}", summary.error),
                state => state_name(state).to_owned(),
            });
        }
        self.state = Some(state);
    }

    pub(crate) fn finish(&self) {
        self.progress.finish();
    }
}

fn date_line(date: &rankmill_scheduler::proto::DateResult) -> String {
    let (day, generation) = (&date.date, date.generation);
    match date.outcome.as_str() {
        "published" => format!(
            "{day}: published {} rows as generation {generation}",
            date.rows
        ),
        "already_current" => {
            format!("{day}: generation {generation} is current already, nothing to do")
        }
        "fenced" => format!("{day}: fenced: generation {generation} was published meanwhile"),
        "gap" => format!("{day}: a gap: there is no input"),
        other => format!("{day}: {other}"),
    }
}
