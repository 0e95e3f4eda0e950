//! `stage/web_logs`: the web site's access log.

use std::ops::Range;
use std::sync::Arc;

use super::clicks::DEVICES;
use super::names;
use crate::Table;
use crate::address::Addresses;
use crate::draw::Pick;
use crate::encode::{Batch, NO_CODE, NULL, Texts, Values};
use crate::random::{Purpose, Stream};
use crate::site::{METHODS, Site};
use crate::traffic::{Day, Event, Events, World};
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
    paths: Arc<Vec<String>>,
    methods: Arc<Vec<String>>,
    referrer_texts: Arc<Vec<String>>,
    user_agents: Arc<Vec<String>>,
}

impl WebLogs {
    pub(crate) fn new(world: &World) -> Self {
        let site = Site::new(&world.config);
        let paths = (0..site.paths()).map(|number| site.path(number as u32));
        let texts = |texts: &[&str]| Arc::new(texts.iter().map(|&text| text.to_owned()).collect());
        Self {
            addresses: Addresses::new(&world.config),
            devices: Pick::new(&DEVICES.map(|device| device.1)),
            referrers: Pick::new(&REFERRERS.map(|referrer| referrer.1)),
            session: Stream::new(world.config.seed, Purpose::SessionDevice),
            response: Stream::new(world.config.seed, Purpose::WebResponse),
            paths: Arc::new(paths.collect()),
            methods: texts(&METHODS),
            referrer_texts: names(&REFERRERS),
            user_agents: texts(&USER_AGENTS),
            site,
        }
    }

    /// The text of each path's number.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// How many client addresses there are.
    pub(crate) fn addresses(&self) -> u64 {
        self.addresses.count()
    }

    /// Counts rows without making their columns.
    pub(crate) fn count(&self, world: &World, day: &Day, rows: Range<u64>, tally: &mut Tally) {
        let events = Events::new(world, day, Table::WebLogs);
        for row in rows {
            let event = events.event(row);
            let answer = self.site.answer(event.item, self.response.at(event.row));
            let client = self.client(&event, self.session.at(event.session));
            tally.add(answer.path, client, answer.status >= 500);
            if event.row != row {
                tally.add_double();
            }
        }
    }

    #[inline]
    fn client(&self, event: &Event, session: u64) -> u32 {
        self.addresses.of(event.user, session)
    }

    /// The agent's number: of a person, a browser of the device that the session's clicks are from.
    #[inline]
    fn user_agent(&self, event: &Event, session: u64) -> usize {
        if event.is_bot {
            return FIRST_BOT_AGENT + event.user as usize % (USER_AGENTS.len() - FIRST_BOT_AGENT);
        }
        let device = usize::from(self.devices.draw(session >> 10));
        device * 2 + usize::from((session >> 20).is_multiple_of(3))
    }
}

/// Some rows of a date, counted as they are made.
#[derive(Debug)]
pub(crate) struct RequestBatch<'a> {
    logs: &'a WebLogs,
    events: Events<'a>,
    pub(crate) tally: Tally,
    ids: Vec<i64>,
    at_us: Vec<i64>,
    clients: Texts,
    users: Vec<i64>,
    sessions: Vec<i64>,
    methods: Vec<u32>,
    paths: Vec<u32>,
    statuses: Vec<i64>,
    bytes: Vec<i64>,
    latencies_ms: Vec<i64>,
    referrers: Vec<u32>,
    user_agents: Vec<u32>,
}

impl<'a> RequestBatch<'a> {
    pub(crate) fn new(logs: &'a WebLogs, world: &'a World, day: &'a Day, tally: Tally) -> Self {
        Self {
            logs,
            events: Events::new(world, day, Table::WebLogs),
            tally,
            ids: Vec::new(),
            at_us: Vec::new(),
            clients: Texts::default(),
            users: Vec::new(),
            sessions: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            statuses: Vec::new(),
            bytes: Vec::new(),
            latencies_ms: Vec::new(),
            referrers: Vec::new(),
            user_agents: Vec::new(),
        }
    }
}

impl Batch for RequestBatch<'_> {
    fn make(&mut self, rows: Range<u64>) {
        let logs = self.logs;
        for numbers in [
            &mut self.ids,
            &mut self.at_us,
            &mut self.users,
            &mut self.sessions,
            &mut self.statuses,
            &mut self.bytes,
            &mut self.latencies_ms,
        ] {
            numbers.clear();
        }
        for codes in [
            &mut self.methods,
            &mut self.paths,
            &mut self.referrers,
            &mut self.user_agents,
        ] {
            codes.clear();
        }
        self.clients.clear();
        for row in rows {
            let event = self.events.event(row);
            let session = logs.session.at(event.session);
            let answer = logs.site.answer(event.item, logs.response.at(event.row));
            let client = logs.client(&event, session);
            self.tally.add(answer.path, client, answer.status >= 500);
            if event.row != row {
                self.tally.add_double();
            }
            self.ids.push(event.row as i64 + 1);
            self.at_us.push(event.at_us);
            self.clients.push(|text| logs.addresses.write(client, text));
            self.users.push(match event.user {
                0 => NULL,
                user => user.into(),
            });
            self.sessions.push(event.session as i64 + 1);
            self.methods.push(answer.method.into());
            self.paths.push(answer.path);
            self.statuses.push(answer.status.into());
            self.bytes.push(answer.bytes);
            self.latencies_ms.push(answer.latency_ms.into());
            self.referrers.push(match logs.referrers.draw(event.word) {
                0 => NO_CODE,
                referrer => referrer.into(),
            });
            self.user_agents
                .push(logs.user_agent(&event, session) as u32);
        }
    }

    fn columns(&self) -> Vec<Values<'_>> {
        let logs = self.logs;
        vec![
            Values::Ints(&self.ids),
            Values::Ints(&self.at_us),
            Values::Texts(&self.clients),
            Values::Ints(&self.users),
            Values::Ints(&self.sessions),
            Values::Codes(&self.methods, &logs.methods),
            Values::Codes(&self.paths, &logs.paths),
            Values::Ints(&self.statuses),
            Values::Ints(&self.bytes),
            Values::Ints(&self.latencies_ms),
            Values::Codes(&self.referrers, &logs.referrer_texts),
            Values::Codes(&self.user_agents, &logs.user_agents),
        ]
    }
}
