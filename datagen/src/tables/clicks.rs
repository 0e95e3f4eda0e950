//! `stage/ticket_clicks`: what visitors did to performances.

use std::ops::Range;
use std::sync::Arc;

use super::names;
use crate::Table;
use crate::draw::Pick;
use crate::encode::{Batch, NULL, Values};
use crate::random::{Purpose, Stream};
use crate::traffic::{Day, Events, NO_ITEM, World};
use crate::truth::clicks::Tally;

/// The action that a ranking counts as a view comes first.
const ACTIONS: [(&str, u32); 5] = [
    ("view", 70),
    ("search", 15),
    ("like", 8),
    ("share", 3),
    ("buy_link", 4),
];
const BOT_ACTIONS: [u32; 5] = [96, 4, 0, 0, 0];
const VIEW: u8 = 0;
const PLATFORMS: [(&str, u32); 4] = [
    ("interpark", 41),
    ("melon", 26),
    ("yes24", 20),
    ("ticketlink", 13),
];
/// The devices a session can be on.
pub(crate) const DEVICES: [(&str, u32); 4] =
    [("android", 42), ("ios", 33), ("pc", 21), ("tablet", 4)];

/// What all rows share.
#[derive(Debug)]
pub(crate) struct Clicks {
    actions: Pick,
    bot_actions: Pick,
    platforms: Pick,
    devices: Pick,
    session: Stream,
    action_names: Arc<Vec<String>>,
    platform_names: Arc<Vec<String>>,
    device_names: Arc<Vec<String>>,
}

impl Clicks {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            actions: Pick::new(&ACTIONS.map(|action| action.1)),
            bot_actions: Pick::new(&BOT_ACTIONS),
            platforms: Pick::new(&PLATFORMS.map(|platform| platform.1)),
            devices: Pick::new(&DEVICES.map(|device| device.1)),
            session: Stream::new(world.config.seed, Purpose::SessionDevice),
            action_names: names(&ACTIONS),
            platform_names: names(&PLATFORMS),
            device_names: names(&DEVICES),
        }
    }

    /// Counts rows without making their columns.
    pub(crate) fn count(&self, world: &World, day: &Day, rows: Range<u64>, tally: &mut Tally) {
        let events = Events::new(world, day, Table::TicketClicks);
        for row in rows {
            let event = events.event(row);
            tally.add(event.item, event.user, self.action(&event) == VIEW);
            if event.row != row {
                tally.add_double();
            }
        }
    }

    #[inline]
    fn action(&self, event: &crate::traffic::Event) -> u8 {
        let actions = match event.is_bot {
            true => &self.bot_actions,
            false => &self.actions,
        };
        actions.draw(event.word)
    }
}

/// Some rows of a date, counted as they are made.
#[derive(Debug)]
pub(crate) struct ClickBatch<'a> {
    clicks: &'a Clicks,
    events: Events<'a>,
    pub(crate) tally: Tally,
    ids: Vec<i64>,
    at_us: Vec<i64>,
    users: Vec<i64>,
    sessions: Vec<i64>,
    items: Vec<i64>,
    actions: Vec<u32>,
    platforms: Vec<u32>,
    devices: Vec<u32>,
}

impl<'a> ClickBatch<'a> {
    pub(crate) fn new(clicks: &'a Clicks, world: &'a World, day: &'a Day, tally: Tally) -> Self {
        Self {
            clicks,
            events: Events::new(world, day, Table::TicketClicks),
            tally,
            ids: Vec::new(),
            at_us: Vec::new(),
            users: Vec::new(),
            sessions: Vec::new(),
            items: Vec::new(),
            actions: Vec::new(),
            platforms: Vec::new(),
            devices: Vec::new(),
        }
    }
}

impl Batch for ClickBatch<'_> {
    fn make(&mut self, rows: Range<u64>) {
        let clicks = self.clicks;
        for numbers in [
            &mut self.ids,
            &mut self.at_us,
            &mut self.users,
            &mut self.sessions,
            &mut self.items,
        ] {
            numbers.clear();
        }
        for codes in [&mut self.actions, &mut self.platforms, &mut self.devices] {
            codes.clear();
        }
        for row in rows {
            let event = self.events.event(row);
            let session = clicks.session.at(event.session);
            let action = clicks.action(&event);
            self.tally.add(event.item, event.user, action == VIEW);
            if event.row != row {
                self.tally.add_double();
            }
            // Row numbers and items start at 0, ids at 1.
            self.ids.push(event.row as i64 + 1);
            self.at_us.push(event.at_us);
            self.users.push(match event.user {
                0 => NULL,
                user => user.into(),
            });
            self.sessions.push(event.session as i64 + 1);
            self.items.push(match event.item {
                NO_ITEM => NULL,
                item => i64::from(item) + 1,
            });
            self.actions.push(action.into());
            self.platforms.push(clicks.platforms.draw(session).into());
            self.devices.push(clicks.devices.draw(session >> 10).into());
        }
    }

    fn columns(&self) -> Vec<Values<'_>> {
        vec![
            Values::Ints(&self.ids),
            Values::Ints(&self.at_us),
            Values::Ints(&self.users),
            Values::Ints(&self.sessions),
            Values::Ints(&self.items),
            Values::Codes(&self.actions, &self.clicks.action_names),
            Values::Codes(&self.platforms, &self.clicks.platform_names),
            Values::Codes(&self.devices, &self.clicks.device_names),
        ]
    }
}
