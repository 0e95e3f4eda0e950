//! Who does something when, and to what: the events behind both logs.
//!
//! An event's row number fixes its time (the row's place in the date's cumulative traffic, so rows come sorted) and,
//! by chance, one of the sessions of that half-hour. The session fixes the user, the device and a few interests; the
//! event follows one of these. Clicks and requests share the sessions, so the logs can be joined.

use crate::catalogue::{Catalogue, Charts};
use crate::clock::{self, Clock, POSITION_BITS, WINDOWS};
use crate::plan::{DayPlan, Plan};
use crate::population::{NO_TASTE, Population};
use crate::random::{Chance, Purpose, Stream, below, mix};
use crate::{Config, Table};

const BOTS: u64 = 8;
const JITTER_BITS: u32 = 20;
/// Items a session may come back to, as bits of its interest's number.
const INTEREST_BITS: u32 = 4;

/// Everything that holds for all dates.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) population: Population,
    pub(crate) catalogue: Catalogue,
    anonymous: Chance,
    unknown: Chance,
    bot: Chance,
    bots: [u32; BOTS as usize],
    session_kind: Stream,
    session_user: Stream,
    session_interest: Stream,
    /// The first session of each date, and the first one of the bots.
    first_sessions: Vec<u64>,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let config = plan.config().clone();
        let population = Population::new(&config);
        let stream = |purpose| Stream::new(config.seed, purpose);
        let bot = stream(Purpose::Bot);
        let mut first_sessions = vec![0];
        for (index, day) in plan.days().iter().enumerate() {
            let sessions = sessions(&config, day, &Clock::of(day.date));
            first_sessions.push(first_sessions[index] + sessions.iter().sum::<u64>());
        }
        Self {
            anonymous: Chance::new(config.anonymous_share),
            unknown: Chance::new(config.unknown_user_share),
            bot: Chance::new(config.bot_share),
            bots: std::array::from_fn(|i| 1 + below(bot.at(i as u64), config.users) as u32),
            session_kind: stream(Purpose::SessionKind),
            session_user: stream(Purpose::SessionUser),
            session_interest: stream(Purpose::SessionInterest),
            first_sessions,
            catalogue: Catalogue::new(&config),
            population,
            config,
        }
    }

    /// Builds the tables of one date of the plan.
    pub(crate) fn day(&self, plan: &Plan, index: usize) -> Day {
        let day = &plan.days()[index];
        let clock = Clock::of(day.date);
        let mut first = self.first_sessions[index];
        let windows = sessions(&self.config, day, &clock).map(|sessions| {
            let window = Window { first, sessions };
            first += sessions;
            window
        });
        let bot_base = self.first_sessions[self.first_sessions.len() - 1];
        Day {
            plan: day.clone(),
            start_us: clock::day_start_us(day.date),
            clock,
            windows,
            first_bot_session: bot_base + (index * WINDOWS) as u64 * BOTS,
            charts: self.catalogue.charts(day.date),
        }
    }
}

/// The number of sessions in each half-hour of a date.
fn sessions(config: &Config, day: &DayPlan, clock: &Clock) -> [u64; WINDOWS] {
    let rows = |range: &std::ops::Range<u64>| range.end - range.start;
    let events = rows(&day.clicks) + rows(&day.requests);
    let mean = u64::from(config.events_per_session);
    std::array::from_fn(|w| clock.window_rows(w, events).div_ceil(mean).max(1))
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
    plan: DayPlan,
    start_us: i64,
    clock: Clock,
    windows: [Window; WINDOWS],
    first_bot_session: u64,
    charts: Charts,
}

/// Something a visitor did.
#[derive(Debug)]
pub(crate) struct Event {
    /// Microseconds since 1970, UTC.
    pub(crate) at_us: i64,
    /// From 0.
    pub(crate) session: u64,
    /// The user's id; 0 is anonymous.
    pub(crate) user: u32,
    /// The performance, from 0.
    pub(crate) item: u32,
    pub(crate) is_bot: bool,
    /// Random bits for the row's other columns.
    pub(crate) word: u64,
}

/// The events of one log on one date.
#[derive(Debug)]
pub(crate) struct Events<'a> {
    world: &'a World,
    day: &'a Day,
    first_row: u64,
    /// Length of a row's stretch of the day, in positions.
    step: u64,
    who: Stream,
    what: Stream,
}

impl<'a> Events<'a> {
    pub(crate) fn new(world: &'a World, day: &'a Day, table: Table) -> Self {
        let (rows, who, what) = match table {
            Table::WebLogs => (&day.plan.requests, Purpose::WebWho, Purpose::WebWhat),
            _ => (&day.plan.clicks, Purpose::ClickWho, Purpose::ClickWhat),
        };
        Self {
            world,
            day,
            first_row: rows.start,
            step: (1 << POSITION_BITS) / (rows.end - rows.start).max(1),
            who: Stream::new(world.config.seed, who),
            what: Stream::new(world.config.seed, what),
        }
    }

    /// The event of a row, numbered through the whole table.
    #[inline]
    pub(crate) fn event(&self, row: u64) -> Event {
        let (world, day) = (self.world, self.day);
        let who = self.who.at(row);
        let word = self.what.at(row);
        let jitter = word >> (64 - JITTER_BITS);
        let position = (row - self.first_row) * self.step + jitter * (self.step >> JITTER_BITS);
        let since_start_us = day.clock.at(position);
        let window = clock::window(since_start_us);
        let at_us = day.start_us + since_start_us;
        if world.bot.hit(who) {
            let bot = below(who, BOTS);
            return Event {
                at_us,
                session: day.first_bot_session + window as u64 * BOTS + bot,
                user: world.bots[bot as usize],
                // A crawler takes the whole catalogue alike.
                item: below(mix(word), world.config.performances) as u32,
                is_bot: true,
                word,
            };
        }
        let Window { first, sessions } = day.windows[window];
        let session = first + below(who, sessions);
        let user = world.user(session);
        let taste = match user {
            0 => NO_TASTE,
            user => world.population.taste(user),
        };
        let interest = (word >> 32) % (1 << INTEREST_BITS);
        let interest = world
            .session_interest
            .at(session << INTEREST_BITS | interest);
        Event {
            at_us,
            session,
            user,
            item: day.charts.draw(taste, interest),
            is_bot: false,
            word,
        }
    }
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
