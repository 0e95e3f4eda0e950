//! The truth about a date, put together from the counts of both logs.

use rayon::prelude::*;

use super::pairs::Pass;
use super::{DateTruth, DayRows, Defects, clicks, web};
use crate::Table;
use crate::encode::BATCH_ROWS;
use crate::make::Maker;
use crate::traffic::{Day, Events};

/// A log's rows of a date that are counted at once, at four bytes each; more take several passes over the seed.
const MOST_ROWS: u64 = 1 << 27;
/// Rows that a thread counts before it takes others.
const TAKEN_ROWS: u64 = BATCH_ROWS << 7;

/// Whether a date's rows are few enough to be counted as they are made.
pub(crate) fn fits(rows: u64) -> bool {
    rows <= MOST_ROWS
}

/// What both logs of a date were counted to.
pub(crate) struct DateCounts {
    pub(crate) clicks: clicks::Counts,
    pub(crate) web: web::Counts,
}

/// Counts a date's clicks from the seed, on the threads of the caller's pool.
pub(crate) fn recount_clicks(maker: &Maker, day: &Day) -> clicks::Counts {
    clicks_in_passes(maker, day, MOST_ROWS)
}

/// The same for its requests.
pub(crate) fn recount_web(maker: &Maker, day: &Day) -> web::Counts {
    web_in_passes(maker, day, MOST_ROWS)
}

fn clicks_in_passes(maker: &Maker, day: &Day, most_rows: u64) -> clicks::Counts {
    let rows = day.plan.clicks.clone();
    let count = |pass: Pass| {
        let new = || clicks::Tally::new(&maker.world, 0, pass);
        let tally = taken(&rows)
            .fold(new, |mut tally, rows| {
                maker.clicks.count(&maker.world, day, rows, &mut tally);
                tally
            })
            .reduce_with(clicks::Tally::merge);
        let tally = tally.unwrap_or_else(new);
        tally.count(&maker.world.population, day.plan.date)
    };
    let mut passes = Pass::over(rows.end - rows.start, most_rows);
    let first = count(passes.next().unwrap_or(Pass::WHOLE));
    passes.fold(first, |counts, pass| counts.merge(count(pass)))
}

fn web_in_passes(maker: &Maker, day: &Day, most_rows: u64) -> web::Counts {
    let rows = day.plan.requests.clone();
    let count = |pass: Pass| {
        let new = || maker.web_tally(0, pass);
        let tally = taken(&rows)
            .fold(new, |mut tally, rows| {
                maker.web_logs.count(&maker.world, day, rows, &mut tally);
                tally
            })
            .reduce_with(web::Tally::merge);
        tally.unwrap_or_else(new).count()
    };
    let mut passes = Pass::over(rows.end - rows.start, most_rows);
    let first = count(passes.next().unwrap_or(Pass::WHOLE));
    passes.fold(first, |counts, pass| counts.merge(count(pass)))
}

/// Rows in the portions that threads take.
fn taken(rows: &std::ops::Range<u64>) -> impl ParallelIterator<Item = std::ops::Range<u64>> {
    let (start, end) = (rows.start, rows.end);
    let portions = (end - start).div_ceil(TAKEN_ROWS);
    (0..portions).into_par_iter().map(move |portion| {
        let start = start + portion * TAKEN_ROWS;
        start..(start + TAKEN_ROWS).min(end)
    })
}

impl DateCounts {
    /// The answers.
    pub(crate) fn truth(self, maker: &Maker, day: &Day) -> DateTruth {
        let (world, plan) = (&maker.world, &day.plan);
        let late = |table| Events::new(world, day, table).late();
        let defects = Defects {
            late_clicks: late(Table::TicketClicks),
            late_requests: late(Table::WebLogs),
            doubled_requests: self.web.doubled,
            ..self.clicks.defects(world.config.performances)
        };
        DateTruth {
            rows: DayRows {
                date: plan.date,
                click_rows: plan.clicks.end - plan.clicks.start,
                web_rows: plan.requests.end - plan.requests.start,
                defects,
            },
            popularity: self.clicks.popularity(plan.date),
            by_age: self.clicks.by_age(plan.date),
            pages: self.web.pages(maker.web_logs.paths(), plan.date),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Plan, Profile};

    #[test]
    fn passes_count_the_same() {
        let config = Config {
            click_rows: 40_000,
            web_rows: 30_000,
            users: 300_000,
            performances: 200,
            ..Profile::Brutal.config()
        };
        let maker = Maker::new(&Plan::new(&config).unwrap());
        let day = maker.world.day(maker.plan(), 0);
        let counted = |most| {
            let counts = DateCounts {
                clicks: clicks_in_passes(&maker, &day, most),
                web: web_in_passes(&maker, &day, most),
            };
            counts.truth(&maker, &day)
        };
        let whole = counted(u64::MAX);
        assert_eq!(counted(9_000), whole);
        assert!(
            whole.rows.defects.doubled_clicks > 0 && whole.rows.defects.unknown_user_clicks > 0
        );
    }
}
