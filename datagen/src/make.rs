//! Makes the parts of a plan and counts its dates: pure functions of the seed, without input or output.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::encode::encode;
use crate::tables::clicks::{ClickBatch, Clicks};
use crate::tables::performances::PerformanceBatch;
use crate::tables::users::UserBatch;
use crate::tables::web_logs::{RequestBatch, WebLogs};
use crate::traffic::{Day, World};
use crate::truth::date::{self, DateCounts};
use crate::truth::pairs::Pass;
use crate::truth::{self, DateTruth, TableTotals, Truth};
use crate::{Error, Part, Plan, Table};

/// Makes any part of a plan, alone and in any order, and the truth about any date.
#[derive(Debug)]
pub struct Maker {
    plan: Plan,
    pub(crate) world: World,
    pub(crate) clicks: Clicks,
    pub(crate) web_logs: WebLogs,
    /// The tables of the dates asked for last: the next part is probably of one of them.
    last_days: Mutex<VecDeque<(usize, Arc<Day>)>>,
}

/// Dates whose tables are kept: as many as threads make parts of at once.
const KEPT_DAYS: usize = 8;

/// What was counted of a part.
#[derive(Debug)]
pub(crate) enum Tally {
    /// Of a dimension, nothing.
    None,
    Clicks(truth::clicks::Tally),
    Web(truth::web::Tally),
}

impl Maker {
    /// Builds the tables that all dates share: a second for every few million performances or users.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let world = World::new(plan);
        Self {
            plan: plan.clone(),
            clicks: Clicks::new(&world),
            web_logs: WebLogs::new(&world),
            world,
            last_days: Mutex::default(),
        }
    }

    /// The plan that is made.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A part's file.
    ///
    /// # Errors
    /// [`Error::Encode`] if the part doesn't become Parquet.
    pub fn part(&self, part: &Part) -> Result<Vec<u8>, Error> {
        let day = self.day(part);
        Ok(self.make(part, day.as_deref(), Pass::NONE)?.0)
    }

    /// The same on so many threads of its own.
    ///
    /// # Errors
    /// [`Error::Threads`] if they can't be started, besides [`Error::Encode`].
    pub fn part_on(&self, part: &Part, threads: usize) -> Result<Vec<u8>, Error> {
        pool(threads)?.install(|| self.part(part))
    }

    /// The truth about the date of that number in the plan, counted from the seed on the threads of the caller's
    /// pool.
    #[must_use]
    pub fn date(&self, index: usize) -> DateTruth {
        let day = self.world.day(&self.plan, index);
        self.date_truth(&day, None, None)
    }

    /// The same on so many threads of its own.
    ///
    /// # Errors
    /// [`Error::Threads`] if they can't be started.
    pub fn date_on(&self, index: usize, threads: usize) -> Result<DateTruth, Error> {
        Ok(pool(threads)?.install(|| self.date(index)))
    }

    /// The truth about a lake, put together from the sizes of its tables and the truths about all dates in order.
    #[must_use]
    pub fn truth(
        &self,
        tables: std::collections::BTreeMap<Table, TableTotals>,
        dates: Vec<DateTruth>,
    ) -> Truth {
        let population = &self.world.population;
        let [without_birth_date, wrong_birth_date] = (1..=self.world.config.users as u32)
            .into_par_iter()
            .map(|user| population.birth_faults(user))
            .reduce(|| [0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        let mut truth = Truth {
            version: truth::VERSION,
            config: self.plan.config().clone(),
            tables,
            defects: truth::Defects::default(),
            users_without_birth_date: without_birth_date,
            users_with_wrong_birth_date: wrong_birth_date,
            days: Vec::new(),
            daily_popularity: Vec::new(),
            age_date_ranking: Vec::new(),
            daily_web_pages: Vec::new(),
        };
        for date in dates {
            truth.defects += date.rows.defects;
            truth.days.push(date.rows);
            truth.daily_popularity.push(date.popularity);
            truth.age_date_ranking.extend(date.by_age);
            truth.daily_web_pages.push(date.pages);
        }
        truth
    }

    /// A part's file, and what was counted of its rows.
    pub(crate) fn make(
        &self,
        part: &Part,
        day: Option<&Day>,
        pass: Pass,
    ) -> Result<(Vec<u8>, Tally), Error> {
        let (world, config) = (&self.world, &self.world.config);
        // Counted by as many threads as there are groups for, about evenly.
        let shares = part
            .row_groups(config)
            .len()
            .min(rayon::current_num_threads());
        let rows = part.row_count() / shares.max(1) as u64;
        match (part.table, day) {
            (Table::TicketClicks, Some(day)) => {
                let tally = || truth::clicks::Tally::new(world, rows, pass);
                let new_batch = || ClickBatch::new(&self.clicks, world, day, tally());
                let (file, batches) = encode(part, config, new_batch)?;
                let tallies = batches.into_iter().map(|batch| batch.tally);
                let tally = tallies.reduce(truth::clicks::Tally::merge);
                Ok((file, tally.map_or(Tally::None, Tally::Clicks)))
            }
            (Table::WebLogs, Some(day)) => {
                let tally = || self.web_tally(rows, pass);
                let new_batch = || RequestBatch::new(&self.web_logs, world, day, tally());
                let (file, batches) = encode(part, config, new_batch)?;
                let tallies = batches.into_iter().map(|batch| batch.tally);
                let tally = tallies.reduce(truth::web::Tally::merge);
                Ok((file, tally.map_or(Tally::None, Tally::Web)))
            }
            (Table::Users, _) => Ok((
                encode(part, config, || UserBatch::new(world))?.0,
                Tally::None,
            )),
            // Logs have a date.
            _ => Ok((
                encode(part, config, || PerformanceBatch::new(world))?.0,
                Tally::None,
            )),
        }
    }

    /// What is to be counted of a part that is there already.
    pub(crate) fn count(&self, part: &Part, day: Option<&Day>) -> Tally {
        let (rows, world) = (part.rows.clone(), &self.world);
        match (part.table, day) {
            (Table::TicketClicks, Some(day)) => {
                let mut tally = truth::clicks::Tally::new(world, part.row_count(), Pass::WHOLE);
                self.clicks.count(world, day, rows, &mut tally);
                Tally::Clicks(tally)
            }
            (Table::WebLogs, Some(day)) => {
                let mut tally = self.web_tally(part.row_count(), Pass::WHOLE);
                self.web_logs.count(world, day, rows, &mut tally);
                Tally::Web(tally)
            }
            _ => Tally::None,
        }
    }

    pub(crate) fn web_tally(&self, rows: u64, pass: Pass) -> truth::web::Tally {
        let paths = self.web_logs.paths().len() as u64;
        truth::web::Tally::new(paths, self.web_logs.addresses(), rows, pass)
    }

    /// The truth about a date of which each log was counted, or is to be.
    pub(crate) fn date_truth(
        &self,
        day: &Day,
        clicks: Option<truth::clicks::Tally>,
        web: Option<truth::web::Tally>,
    ) -> DateTruth {
        let counts = DateCounts {
            clicks: match clicks {
                Some(tally) => tally.count(&self.world.population, day.plan.date),
                None => date::recount_clicks(self, day),
            },
            web: match web {
                Some(tally) => tally.count(),
                None => date::recount_web(self, day),
            },
        };
        counts.truth(self, day)
    }

    /// The tables of a part's date.
    fn day(&self, part: &Part) -> Option<Arc<Day>> {
        part.date?;
        let days = || {
            self.last_days
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some((_, day)) = days().iter().find(|(index, _)| *index == part.day) {
            return Some(Arc::clone(day));
        }
        let day = Arc::new(self.world.day(&self.plan, part.day));
        let mut days = days();
        days.truncate(KEPT_DAYS - 1);
        days.push_front((part.day, Arc::clone(&day)));
        Some(day)
    }
}

/// So many threads, at least one.
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    let threads = threads.max(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("datagen-{index}"))
        .build()
        .map_err(|source| Error::Threads { threads, source })
}
