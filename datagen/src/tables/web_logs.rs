//! `stage/web_logs`: the web site's access log.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int8Array, Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::error::ArrowError;

use super::clicks::DEVICES;
use super::{coded, nullable_ids};
use crate::Table;
use crate::address::Addresses;
use crate::draw::Pick;
use crate::random::{Purpose, Stream};
use crate::site::{METHODS, Site};
use crate::traffic::{Day, Events, World};
use crate::truth::web::Tally;

/// No referrer has the first number.
const REFERRERS: [(&str, u32); 9] = [
    ("", 40),
    ("https://rankmill.example/", 22),
    ("https://search.naver.com/search.naver", 14),
    ("https://www.google.com/", 9),
    ("https://m.search.daum.net/", 4),
    ("https://www.instagram.com/", 4),
    ("https://www.youtube.com/", 3),
    ("https://x.com/", 2),
    ("https://cafe.naver.com/", 2),
];
/// Two browsers for each of [`DEVICES`], in its order, then the bots.
const USER_AGENTS: [&str; 11] = [
    "Mozilla/5.0 (Linux; Android 15; SM-S931N) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 14; SM-A546S) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 NAVER(inapp; search; 2000; 12.9.4)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/134.0.0.0 Whale/4.31.304.16 Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; SM-X716N) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/136.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; Yeti/1.1; +https://naver.me/spd)",
    "python-requests/2.32.4",
];
const FIRST_BOT_AGENT: usize = 8;

/// What all rows share.
#[derive(Debug)]
pub(crate) struct WebLogs {
    site: Site,
    addresses: Addresses,
    devices: Pick,
    referrers: Pick,
    session: Stream,
    response: Stream,
    paths: Arc<StringArray>,
    methods: Arc<StringArray>,
    referrer_texts: Arc<StringArray>,
    user_agents: Arc<StringArray>,
}

impl WebLogs {
    pub(crate) fn new(world: &World) -> Self {
        let site = Site::new(&world.config);
        let paths = (0..site.paths()).map(|number| site.path(number as u32));
        Self {
            addresses: Addresses::new(&world.config),
            devices: Pick::new(&DEVICES.map(|device| device.1)),
            referrers: Pick::new(&REFERRERS.map(|referrer| referrer.1)),
            session: Stream::new(world.config.seed, Purpose::SessionDevice),
            response: Stream::new(world.config.seed, Purpose::WebResponse),
            paths: Arc::new(StringArray::from_iter_values(paths)),
            methods: Arc::new(StringArray::from_iter_values(METHODS)),
            referrer_texts: Arc::new(StringArray::from_iter_values(REFERRERS.map(|r| r.0))),
            user_agents: Arc::new(StringArray::from_iter_values(USER_AGENTS)),
            site,
        }
    }

    /// The text of each path's number.
    pub(crate) fn paths(&self) -> &StringArray {
        &self.paths
    }

    /// How many client addresses there are.
    pub(crate) fn addresses(&self) -> u64 {
        self.addresses.count()
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
        let events = Events::new(world, day, Table::WebLogs);
        let mut at = Vec::with_capacity(count);
        let mut clients = self.addresses.column(count);
        let mut users = Vec::with_capacity(count);
        let mut sessions = Vec::with_capacity(count);
        let mut methods = Vec::with_capacity(count);
        let mut paths = Vec::with_capacity(count);
        let mut statuses = Vec::with_capacity(count);
        let mut bytes = Vec::with_capacity(count);
        let mut latencies_ms = Vec::with_capacity(count);
        let mut referrers = Vec::with_capacity(count);
        let mut user_agents = Vec::with_capacity(count);
        for row in rows.clone() {
            let event = events.event(row);
            let session = self.session.at(event.session);
            let answer = self.site.answer(event.item, self.response.at(row));
            let client = self.addresses.of(event.user, session);
            tally.add(answer.path, client, answer.status >= 500);
            at.push(event.at_us);
            clients.push(client);
            users.push(i64::from(event.user));
            sessions.push(event.session as i64 + 1);
            methods.push(answer.method as i8);
            paths.push(answer.path as i32);
            statuses.push(answer.status);
            bytes.push(answer.bytes);
            latencies_ms.push(answer.latency_ms);
            referrers.push(self.referrers.draw(event.word) as i8);
            // The device of the same session's clicks.
            let device = usize::from(self.devices.draw(session >> 10));
            let agent = match event.is_bot {
                true => {
                    FIRST_BOT_AGENT + event.user as usize % (USER_AGENTS.len() - FIRST_BOT_AGENT)
                }
                false => device * 2 + usize::from((session >> 20).is_multiple_of(3)),
            };
            user_agents.push(agent as i8);
        }
        let present = BooleanBuffer::collect_bool(count, |i| referrers[i] != 0);
        let referrers = Int8Array::new(referrers.into(), Some(NullBuffer::new(present)));
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64 + 1))),
            Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")),
            Arc::new(clients.finish()?),
            nullable_ids(users),
            Arc::new(Int64Array::from(sessions)),
            coded(Int8Array::from(methods), &self.methods)?,
            coded(Int32Array::from(paths), &self.paths)?,
            Arc::new(Int16Array::from(statuses)),
            Arc::new(Int64Array::from(bytes)),
            Arc::new(Int32Array::from(latencies_ms)),
            coded(referrers, &self.referrer_texts)?,
            coded(Int8Array::from(user_agents), &self.user_agents)?,
        ])
    }
}
