//! The work on a plan, shared by the threads: they take part after part in the plan's order, and who finishes a
//! date counts it, so that only the dates in work take memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::Array;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::encode::encode;
use crate::lake::Lake;
use crate::runner::Progress;
use crate::tables::clicks::Clicks;
use crate::tables::web_logs::WebLogs;
use crate::tables::{performances, users};
use crate::traffic::{Day, World};
use crate::truth::{self, DailyWebPages, TableTotals};
use crate::{Error, Part, Plan, Table};

/// Work done and to be done.
pub(crate) struct Work<'a> {
    plan: &'a Plan,
    lake: &'a Lake,
    handle: &'a Handle,
    progress: &'a dyn Progress,
    world: World,
    clicks: Clicks,
    web_logs: WebLogs,
    next: AtomicUsize,
    stopped: AtomicBool,
    dates: Vec<Mutex<Date>>,
    totals: Mutex<BTreeMap<Table, TableTotals>>,
}

/// The true answers about a date.
pub(crate) struct Answer {
    pub(crate) clicks: truth::clicks::Counted,
    pub(crate) pages: DailyWebPages,
}

/// A date's state: its tables while they are needed, its tallies, and then its answer.
#[derive(Default)]
struct Date {
    day: Option<Arc<Day>>,
    parts_left: usize,
    clicks: Option<truth::clicks::Tally>,
    web: Option<truth::web::Tally>,
    answer: Option<Answer>,
}

/// A part on its way into the store.
struct Upload<'a> {
    part: &'a Part,
    bytes: u64,
    task: JoinHandle<Result<(), Error>>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        lake: &'a Lake,
        handle: &'a Handle,
        progress: &'a dyn Progress,
    ) -> Self {
        let world = World::new(plan);
        let mut dates: Vec<Date> = plan.days().iter().map(|_| Date::default()).collect();
        for part in plan.parts().iter().filter(|part| part.date.is_some()) {
            dates[part.day].parts_left += 1;
        }
        Self {
            plan,
            lake,
            handle,
            progress,
            clicks: Clicks::new(&world),
            web_logs: WebLogs::new(&world),
            world,
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

    /// Sizes by table, and the dates' answers in order.
    pub(crate) fn finish(self) -> (BTreeMap<Table, TableTotals>, impl Iterator<Item = Answer>) {
        let totals = self.totals.into_inner();
        let dates = self.dates.into_iter();
        let answers = dates.filter_map(|date| {
            let date = date.into_inner().unwrap_or_else(PoisonError::into_inner);
            date.answer
        });
        (totals.unwrap_or_else(PoisonError::into_inner), answers)
    }

    fn take_parts(&self) -> Result<(), Error> {
        // The upload of a part goes on while the next one is made.
        let mut upload: Option<Upload<'_>> = None;
        while !self.stopped.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = self.plan.parts().get(index) else {
                break;
            };
            if self.progress.is_stopped() {
                if let Some(upload) = upload.take() {
                    self.settle(upload)?;
                }
                return Err(Error::Stopped);
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
        let rows = part.rows.end - part.rows.start;
        let mut totals = lock(&self.totals);
        let total = totals.entry(part.table).or_default();
        total.rows += rows;
        total.bytes += bytes;
        total.files += 1;
        drop(totals);
        self.progress.part_done(part, rows, bytes);
        Ok(())
    }

    /// Makes a part's file; the last one of a date counts the date.
    fn make(&self, part: &Part) -> Result<Vec<u8>, Error> {
        let (world, config) = (&self.world, &self.world.config);
        let rows = part.rows.end - part.rows.start;
        match part.table {
            Table::Users => encode(part, config, |rows| users::columns(world, rows)),
            Table::Performances => encode(part, config, |rows| performances::columns(world, rows)),
            Table::TicketClicks => {
                let day = self.day(part.day);
                let items = config.performances;
                let mut tally = truth::clicks::Tally::new(items, &world.population, rows);
                let file = encode(part, config, |rows| {
                    self.clicks.columns(world, &day, rows, &mut tally)
                })?;
                self.part_made(part, |date| match &mut date.clicks {
                    Some(before) => before.absorb(tally),
                    none => *none = Some(tally),
                });
                Ok(file)
            }
            Table::WebLogs => {
                let day = self.day(part.day);
                let paths = self.web_logs.paths().len() as u64;
                let mut tally = truth::web::Tally::new(paths, self.web_logs.addresses(), rows);
                let file = encode(part, config, |rows| {
                    self.web_logs.columns(world, &day, rows, &mut tally)
                })?;
                self.part_made(part, |date| match &mut date.web {
                    Some(before) => before.absorb(tally),
                    none => *none = Some(tally),
                });
                Ok(file)
            }
        }
    }

    /// A date's tables, made by the first thread that needs them.
    fn day(&self, index: usize) -> Arc<Day> {
        let mut date = lock(&self.dates[index]);
        let make = || Arc::new(self.world.day(self.plan, index));
        Arc::clone(date.day.get_or_insert_with(make))
    }

    fn part_made(&self, part: &Part, keep: impl FnOnce(&mut Date)) {
        let mut date = lock(&self.dates[part.day]);
        keep(&mut date);
        date.parts_left -= 1;
        if date.parts_left > 0 {
            return;
        }
        date.day = None;
        // Both logs have a part, empty or not, on each date.
        let (Some(clicks), Some(web)) = (date.clicks.take(), date.web.take()) else {
            return;
        };
        let day = self.plan.days()[part.day].date;
        let counted = clicks.count(&self.world.population, day);
        drop(clicks);
        date.answer = Some(Answer {
            clicks: counted,
            pages: web.count(self.web_logs.paths(), day),
        });
    }
}

/// A panic elsewhere ends the generation anyway: what it left behind a lock is not looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
