//! Who does something when, and to what: the events behind both logs.
//!
//! An event's row number fixes its time (the row's place in the date's cumulative traffic, so rows come sorted) and,
//! by chance, one of the sessions of that half-hour. The session fixes the user, the device and a few interests; the
//! event follows one of these, or a rush. Clicks and requests share the sessions, so the logs can be joined.
//!
//! What is wrong with a row is decided by the row too: the first ones of a date are late, of the date before; some
//! repeat the row before; some clicks have no performance, or one that nobody knows.

use std::ops::Range;

use crate::catalogue::{Catalogue, Charts};
use crate::clock::{self, Clock, DAY_US, WINDOWS};
use crate::plan::{DayPlan, Plan};
use crate::population::{NO_TASTE, Population};
use crate::random::{Chance, Purpose, Stream, below, mix};
use crate::timeline::{Timeline, curve, openings};
use crate::{Config, Table};

/// Items a session may come back to, as bits of its interest's number.
const INTEREST_BITS: u32 = 4;
/// Bits of an event's word that decide whether the row is faulty; those below choose the action or the referrer.
const FAULT_BITS: u32 = 22;
const FAULT_SHIFT: u32 = 10;
/// The item of a click without one.
pub(crate) const NO_ITEM: u32 = u32::MAX;

/// Everything that holds for all dates.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) population: Population,
    pub(crate) catalogue: Catalogue,
    anonymous: Chance,
    unknown: Chance,
    bot: Chance,
    bots: Vec<u32>,
    session_kind: Stream,
    session_user: Stream,
    session_interest: Stream,
    /// The first session of the eve of the first date, of each date, and the first one of the bots.
    first_sessions: Vec<u64>,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let config = plan.config().clone();
        let population = Population::new(&config);
        let stream = |purpose| Stream::new(config.seed, purpose);
        let bot = stream(Purpose::Bot);
        let eve = plan.days().first().map(eve);
        let mut first_sessions = vec![0];
        for (index, day) in eve.iter().chain(plan.days()).enumerate() {
            let sessions = sessions(&config, day);
            first_sessions.push(first_sessions[index] + sessions.iter().sum::<u64>());
        }
        Self {
            anonymous: Chance::new(config.anonymous_share),
            unknown: Chance::new(config.unknown_user_share),
            bot: Chance::new(config.bot_share),
            bots: (0..u64::from(config.bots))
                .map(|i| 1 + below(bot.at(i), config.users) as u32)
                .collect(),
            session_kind: stream(Purpose::SessionKind),
            session_user: stream(Purpose::SessionUser),
            session_interest: stream(Purpose::SessionInterest),
            first_sessions,
            catalogue: Catalogue::new(&config),
            population,
            config,
        }
    }

    /// Items that can occur at all, those unknown to `dim/performances` included: 0 to this, exclusively.
    pub(crate) fn items(&self) -> u64 {
        self.config.performances + self.unknown_items()
    }

    fn unknown_items(&self) -> u64 {
        self.config.performances / 16 + 1
    }

    /// Builds the tables of one date of the plan.
    pub(crate) fn day(&self, plan: &Plan, index: usize) -> Day {
        let day = &plan.days()[index];
        let before = match index.checked_sub(1) {
            Some(before) => plan.days()[before].clone(),
            None => eve(day),
        };
        let charts = self
            .catalogue
            .charts(day.date, openings(&self.config, day.date));
        let curve = curve(&self.config, day.date, &charts.spikes);
        let bot_base = self.first_sessions[self.first_sessions.len() - 1];
        Day {
            plan: day.clone(),
            start_us: clock::day_start_us(day.date),
            clock: Clock::new(curve),
            windows: self.windows(day, self.first_sessions[index + 1]),
            windows_before: self.windows(&before, self.first_sessions[index]),
            // The eve of the first date has some too.
            first_bot_session: bot_base
                + ((index + 1) * WINDOWS) as u64 * u64::from(self.config.bots),
            charts,
        }
    }

    fn windows(&self, day: &DayPlan, mut first: u64) -> [Window; WINDOWS] {
        sessions(&self.config, day).map(|sessions| {
            let window = Window { first, sessions };
            first += sessions;
            window
        })
    }
}

/// The date before the first one, as if it were like it.
fn eve(day: &DayPlan) -> DayPlan {
    DayPlan {
        date: day.date.pred_opt().unwrap_or(day.date),
        ..day.clone()
    }
}

/// The number of sessions in each half-hour of a date.
fn sessions(config: &Config, day: &DayPlan) -> [u64; WINDOWS] {
    let curve = curve(config, day.date, &openings(config, day.date));
    let rows = |range: &Range<u64>| range.end - range.start;
    let events = rows(&day.clicks) + rows(&day.requests);
    let mean = u64::from(config.events_per_session);
    let most = u64::from(u32::MAX);
    std::array::from_fn(|w| curve.window_rows(w, events).div_ceil(mean).clamp(1, most))
}

/// A half-hour's sessions.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: u64,
    sessions: u64,
}

/// The tables of one date.
#[derive(Debug)]
pub(crate) struct Day {
    pub(crate) plan: DayPlan,
    start_us: i64,
    clock: Clock,
    windows: [Window; WINDOWS],
    windows_before: [Window; WINDOWS],
    first_bot_session: u64,
    charts: Charts,
}

/// Something a visitor did.
#[derive(Debug)]
pub(crate) struct Event {
    /// The row it is in; of a row that repeats another one, that.
    pub(crate) row: u64,
    /// Microseconds since 1970, UTC.
    pub(crate) at_us: i64,
    /// From 0.
    pub(crate) session: u64,
    /// The user's id; 0 is anonymous.
    pub(crate) user: u32,
    /// The performance, from 0; [`NO_ITEM`] for none.
    pub(crate) item: u32,
    pub(crate) is_bot: bool,
    /// Random bits for the row's other columns.
    pub(crate) word: u64,
}

/// Of so many values of [`FAULT_BITS`] bits, those below the first bound repeat the row before, those from there to
/// the second have no item, to the third an unknown one.
type Faults = [u64; 3];

/// The events of one log on one date.
#[derive(Debug)]
pub(crate) struct Events<'a> {
    world: &'a World,
    day: &'a Day,
    table: Table,
    timeline: Timeline,
    faults: Faults,
    who: Stream,
    what: Stream,
}

impl<'a> Events<'a> {
    pub(crate) fn new(world: &'a World, day: &'a Day, table: Table) -> Self {
        let config = &world.config;
        let doubled = config.duplicate_share;
        let (who, what, shares) = match table {
            Table::WebLogs => (Purpose::WebWho, Purpose::WebWhat, [doubled, 0.0, 0.0]),
            _ => (
                Purpose::ClickWho,
                Purpose::ClickWhat,
                [doubled, config.null_item_share, config.unknown_item_share],
            ),
        };
        Self {
            world,
            day,
            table,
            timeline: Timeline::new(config, day.plan.rows(table)),
            faults: faults(shares),
            who: Stream::new(config.seed, who),
            what: Stream::new(config.seed, what),
        }
    }

    /// The event of a row, numbered through the whole table.
    #[inline]
    pub(crate) fn event(&self, row: u64) -> Event {
        let word = self.what.at(row);
        if fault(word) < self.faults[2] {
            self.faulty(row)
        } else {
            self.usual(row, word)
        }
    }

    /// Whether a row repeats the one before.
    pub(crate) fn is_double(&self, row: u64) -> bool {
        row > self.timeline.first_row() && fault(self.what.at(row)) < self.faults[0]
    }

    /// How many rows are of the date before: the late ones, and those that repeat the last of them.
    pub(crate) fn late(&self) -> u64 {
        let late = self.timeline.late_rows();
        if late.is_empty() {
            return 0;
        }
        let after = late.end..self.day.plan.rows(self.table).end;
        late.end - late.start + after.take_while(|&row| self.is_double(row)).count() as u64
    }

    #[cold]
    fn faulty(&self, mut row: u64) -> Event {
        while self.is_double(row) {
            row -= 1;
        }
        let word = self.what.at(row);
        let mut event = self.usual(row, word);
        let fault = fault(word);
        // A date's first row repeats none, whatever was drawn.
        if fault >= self.faults[0] {
            if fault < self.faults[1] {
                event.item = NO_ITEM;
            } else if fault < self.faults[2] {
                let among = below(mix(word), self.world.unknown_items());
                event.item = (self.world.config.performances + among) as u32;
            }
        }
        event
    }

    #[inline]
    fn usual(&self, row: u64, word: u64) -> Event {
        let (world, day) = (self.world, self.day);
        let who = self.who.at(row);
        let since_start_us = self.timeline.since_start_us(&day.clock, row, word);
        // What was before the start is of the date before.
        let is_late = since_start_us < 0;
        let (of_date_us, windows) = match is_late {
            true => (since_start_us + DAY_US, &day.windows_before),
            false => (since_start_us, &day.windows),
        };
        let window = clock::window(of_date_us);
        let at_us = day.start_us + since_start_us;
        if world.bot.hit(who) {
            let bots = u64::from(world.config.bots);
            let bot = below(who, bots);
            let first = match is_late {
                true => day.first_bot_session - WINDOWS as u64 * bots,
                false => day.first_bot_session,
            };
            return Event {
                row,
                at_us,
                session: first + window as u64 * bots + bot,
                user: world.bots[bot as usize],
                // A crawler takes the whole catalogue alike.
                item: below(mix(word), world.config.performances) as u32,
                is_bot: true,
                word,
            };
        }
        let Window { first, sessions } = windows[window];
        let session = first + below(who, sessions);
        let user = world.user(session);
        let rushed = match is_late {
            true => None,
            false => day.clock.rush(since_start_us, word),
        };
        let item = rushed.unwrap_or_else(|| {
            let taste = match user {
                0 => NO_TASTE,
                user => world.population.taste(user),
            };
            let interest = (word >> 32) % (1 << INTEREST_BITS);
            let interest = world
                .session_interest
                .at(session << INTEREST_BITS | interest);
            day.charts.draw(taste, interest)
        });
        Event {
            row,
            at_us,
            session,
            user,
            item,
            is_bot: false,
            word,
        }
    }
}

/// The bits of an event's word that decide whether the row is faulty.
#[inline]
fn fault(word: u64) -> u64 {
    (word >> FAULT_SHIFT) % (1 << FAULT_BITS)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 ≤ sum of shares ≤ 1"
)]
fn faults(shares: [f64; 3]) -> Faults {
    let mut sum = 0.0;
    shares.map(|share| {
        sum += share;
        (sum * f64::from(1 << FAULT_BITS)).round() as u64
    })
}

impl World {
    /// The user of a session; 0 is anonymous.
    #[inline]
    fn user(&self, session: u64) -> u32 {
        let kind = self.session_kind.at(session);
        if self.anonymous.hit(kind) {
            0
        } else if self.unknown.hit(kind >> 32) {
            self.population.draw_unknown(mix(kind))
        } else {
            self.population.draw(self.session_user.at(session))
        }
    }
}
