//! The work on a plan, shared by the threads: they take part after part in the plan's order, and who finishes a
//! date counts it, so that only the dates in work take memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::lake::Lake;
use crate::make::{Maker, Tally};
use crate::runner::Progress;
use crate::traffic::Day;
use crate::truth::date::fits;
use crate::truth::pairs::Pass;
use crate::truth::{self, DateTruth, Totals, add_part};
use crate::{Error, Part};

/// Work done and to be done.
pub(crate) struct Work<'a> {
    maker: &'a Maker,
    lake: &'a Lake,
    /// The size of each part that an earlier generation has left, by its path.
    present: &'a BTreeMap<String, u64>,
    handle: &'a Handle,
    progress: &'a dyn Progress,
    next: AtomicUsize,
    stopped: AtomicBool,
    dates: Vec<Mutex<Date>>,
    totals: Mutex<Totals>,
}

/// A date's state: its tables while they are needed, its tallies, and then its answer.
#[derive(Default)]
struct Date {
    day: Option<Arc<Day>>,
    parts_left: usize,
    clicks: Option<truth::clicks::Tally>,
    web: Option<truth::web::Tally>,
    truth: Option<DateTruth>,
}

/// A part on its way into the store.
struct Upload<'a> {
    part: &'a Part,
    bytes: u64,
    task: JoinHandle<Result<(), Error>>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        maker: &'a Maker,
        lake: &'a Lake,
        present: &'a BTreeMap<String, u64>,
        handle: &'a Handle,
        progress: &'a dyn Progress,
    ) -> Self {
        let plan = maker.plan();
        let mut dates: Vec<Date> = plan.days().iter().map(|_| Date::default()).collect();
        for part in plan.parts().iter().filter(|part| part.date.is_some()) {
            dates[part.day].parts_left += 1;
        }
        Self {
            maker,
            lake,
            present,
            handle,
            progress,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            dates: dates.into_iter().map(Mutex::new).collect(),
            totals: Mutex::default(),
        }
    }

    /// One thread's share: takes parts until none is left or any thread has failed.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let outcome = self.take_parts();
        if outcome.is_err() {
            self.stopped.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Sizes by table, and the truths about the dates in order.
    pub(crate) fn finish(self) -> (Totals, Vec<DateTruth>) {
        let totals = self.totals.into_inner();
        let dates = self.dates.into_iter();
        let truths = dates.filter_map(|date| {
            let date = date.into_inner().unwrap_or_else(PoisonError::into_inner);
            date.truth
        });
        let truths = truths.collect();
        (totals.unwrap_or_else(PoisonError::into_inner), truths)
    }

    fn take_parts(&self) -> Result<(), Error> {
        // The upload of a part goes on while the next one is made.
        let mut upload: Option<Upload<'_>> = None;
        while !self.stopped.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = self.maker.plan().parts().get(index) else {
                break;
            };
            if self.progress.is_stopped() {
                if let Some(upload) = upload.take() {
                    self.settle(upload)?;
                }
                return Err(Error::Stopped);
            }
            if let Some(&bytes) = self.present.get(&part.path) {
                self.count(part);
                self.part_done(part, bytes);
                continue;
            }
            let made = self.make(part);
            if let Some(upload) = upload.take() {
                self.settle(upload)?;
            }
            let bytes = Bytes::from(made?);
            let lake = self.lake.clone();
            let path = part.path.clone();
            upload = Some(Upload {
                part,
                bytes: bytes.len() as u64,
                task: self
                    .handle
                    .spawn(async move { lake.put(&path, bytes).await }),
            });
        }
        upload.map_or(Ok(()), |upload| self.settle(upload))
    }

    /// Waits for a part to be in the store.
    fn settle(&self, upload: Upload<'_>) -> Result<(), Error> {
        let Upload { part, bytes, task } = upload;
        let ended = self.handle.block_on(task);
        ended.map_err(|source| Error::Upload {
            path: part.path.clone(),
            source,
        })??;
        self.part_done(part, bytes);
        Ok(())
    }

    fn part_done(&self, part: &Part, bytes: u64) {
        add_part(&mut lock(&self.totals), part, bytes);
        self.progress.part_done(part, part.row_count(), bytes);
    }

    /// Makes a part's file; the last one of a date counts the date.
    fn make(&self, part: &Part) -> Result<Vec<u8>, Error> {
        let day = self.day(part);
        let pass = match self.is_counted_later(part) {
            true => Pass::NONE,
            false => Pass::WHOLE,
        };
        let (file, tally) = self.maker.make(part, day.as_deref(), pass)?;
        self.part_made(part, tally);
        Ok(file)
    }

    /// Counts a part that is there already.
    fn count(&self, part: &Part) {
        let tally = match self.is_counted_later(part) {
            true => Tally::None,
            false => self.maker.count(part, self.day(part).as_deref()),
        };
        self.part_made(part, tally);
    }

    /// Whether a log's date has too many rows to be counted as they are made.
    fn is_counted_later(&self, part: &Part) -> bool {
        let rows = self.maker.plan().days()[part.day].rows(part.table);
        part.date.is_some() && !fits(rows.end - rows.start)
    }

    /// A date's tables, made by the first thread that needs them.
    fn day(&self, part: &Part) -> Option<Arc<Day>> {
        part.date?;
        let mut date = lock(&self.dates[part.day]);
        let make = || Arc::new(self.maker.world.day(self.maker.plan(), part.day));
        Some(Arc::clone(date.day.get_or_insert_with(make)))
    }

    fn part_made(&self, part: &Part, tally: Tally) {
        if part.date.is_none() {
            return;
        }
        let mut date = lock(&self.dates[part.day]);
        match tally {
            Tally::Clicks(_) | Tally::Web(_) if self.is_counted_later(part) => {}
            Tally::Clicks(tally) => {
                date.clicks = Some(match date.clicks.take() {
                    Some(before) => before.merge(tally),
                    None => tally,
                });
            }
            Tally::Web(tally) => {
                date.web = Some(match date.web.take() {
                    Some(before) => before.merge(tally),
                    None => tally,
                });
            }
            Tally::None => {}
        }
        date.parts_left -= 1;
        if date.parts_left > 0 {
            return;
        }
        let (clicks, web) = (date.clicks.take(), date.web.take());
        let day = date.day.take();
        let day =
            day.unwrap_or_else(|| Arc::new(self.maker.world.day(self.maker.plan(), part.day)));
        date.truth = Some(self.maker.date_truth(&day, clicks, web));
    }
}

/// A panic elsewhere ends the generation anyway: what it left behind a lock is not looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
