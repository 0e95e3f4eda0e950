//! `stage/ticket_clicks`: what visitors did to performances.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int8Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::error::ArrowError;

use super::{coded, nullable_ids};
use crate::Table;
use crate::draw::Pick;
use crate::random::{Purpose, Stream};
use crate::traffic::{Day, Events, World};
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
    action_names: Arc<StringArray>,
    platform_names: Arc<StringArray>,
    device_names: Arc<StringArray>,
}

impl Clicks {
    pub(crate) fn new(world: &World) -> Self {
        let names = |choices: &[(&'static str, u32)]| {
            Arc::new(StringArray::from_iter_values(choices.iter().map(|c| c.0)))
        };
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

    /// The columns of some rows of a date, counted into `tally`.
    pub(crate) fn columns(
        &self,
        world: &World,
        day: &Day,
        rows: Range<u64>,
        tally: &mut Tally,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let count = (rows.end - rows.start) as usize;
        let events = Events::new(world, day, Table::TicketClicks);
        let mut at = Vec::with_capacity(count);
        let mut users = Vec::with_capacity(count);
        let mut sessions = Vec::with_capacity(count);
        let mut items = Vec::with_capacity(count);
        let mut actions = Vec::with_capacity(count);
        let mut platforms = Vec::with_capacity(count);
        let mut devices = Vec::with_capacity(count);
        for row in rows.clone() {
            let event = events.event(row);
            let action = if event.is_bot {
                self.bot_actions.draw(event.word)
            } else {
                self.actions.draw(event.word)
            };
            let session = self.session.at(event.session);
            tally.add(event.item, event.user, action == VIEW);
            at.push(event.at_us);
            users.push(i64::from(event.user));
            sessions.push(event.session as i64 + 1);
            items.push(event.item as i32 + 1);
            actions.push(action as i8);
            platforms.push(self.platforms.draw(session) as i8);
            devices.push(self.devices.draw(session >> 10) as i8);
        }
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64 + 1))),
            Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")),
            nullable_ids(users),
            Arc::new(Int64Array::from(sessions)),
            Arc::new(Int32Array::from(items)),
            coded(Int8Array::from(actions), &self.action_names)?,
            coded(Int8Array::from(platforms), &self.platform_names)?,
            coded(Int8Array::from(devices), &self.device_names)?,
        ])
    }
}
