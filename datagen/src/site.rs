//! The ticket shop's web site: its pages, and how it answers.

use crate::Config;
use crate::draw::Pick;
use crate::random::{below, mix};

/// How a family of pages behaves.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Page,
    Search,
    Ranking,
    Api,
    Checkout,
    Static,
}

/// The behaviour of a [`Kind`].
struct Manner {
    /// Weights of [`STATUSES`].
    statuses: [u32; STATUSES.len()],
    /// Weights of [`METHODS`].
    methods: [u32; METHODS.len()],
    /// Median latency; the logarithm's logistic scale.
    median_ms: f64,
    spread: f64,
    /// Smallest body and how much larger it may be.
    bytes: (u64, u64),
}

pub(crate) const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "OPTIONS"];
const STATUSES: [i16; 9] = [200, 301, 304, 400, 404, 429, 500, 502, 503];

#[rustfmt::skip]
const MANNERS: [Manner; 6] = [
    Manner { statuses: [920, 20, 30, 0, 25, 0, 3, 1, 1], methods: [985, 0, 15, 0], median_ms: 45.0, spread: 0.35, bytes: (14_000, 60_000) },
    Manner { statuses: [960, 0, 0, 12, 4, 6, 9, 3, 6], methods: [990, 0, 10, 0], median_ms: 130.0, spread: 0.50, bytes: (9_000, 40_000) },
    Manner { statuses: [830, 0, 160, 0, 6, 0, 2, 1, 1], methods: [1000, 0, 0, 0], median_ms: 25.0, spread: 0.30, bytes: (4_000, 20_000) },
    Manner { statuses: [925, 0, 20, 15, 15, 8, 8, 4, 5], methods: [800, 150, 0, 50], median_ms: 60.0, spread: 0.50, bytes: (200, 6_000) },
    Manner { statuses: [890, 30, 0, 30, 5, 10, 18, 7, 10], methods: [250, 720, 0, 30], median_ms: 240.0, spread: 0.60, bytes: (500, 9_000) },
    Manner { statuses: [610, 0, 375, 0, 14, 0, 0, 1, 0], methods: [990, 0, 10, 0], median_ms: 4.0, spread: 0.40, bytes: (1_500, 250_000) },
];

/// The pages that are not about one performance; weights fall roughly as Zipf has it.
const PAGES: [(&str, u32, Kind); 29] = [
    ("/", 110, Kind::Page),
    ("/search", 70, Kind::Search),
    ("/rankings/daily", 45, Kind::Ranking),
    ("/api/session", 38, Kind::Api),
    ("/static/app.js", 34, Kind::Static),
    ("/static/app.css", 30, Kind::Static),
    ("/api/suggest", 26, Kind::Search),
    ("/rankings/age", 22, Kind::Ranking),
    ("/login", 18, Kind::Page),
    ("/api/cart", 16, Kind::Api),
    ("/checkout", 13, Kind::Checkout),
    ("/genres/musical", 12, Kind::Page),
    ("/genres/concert", 12, Kind::Page),
    ("/static/logo.svg", 10, Kind::Static),
    ("/favicon.ico", 9, Kind::Static),
    ("/api/likes", 9, Kind::Api),
    ("/checkout/payment", 8, Kind::Checkout),
    ("/mypage", 7, Kind::Page),
    ("/genres/play", 6, Kind::Page),
    ("/genres/classic", 6, Kind::Page),
    ("/mypage/orders", 5, Kind::Page),
    ("/genres/exhibition", 5, Kind::Page),
    ("/genres/family", 4, Kind::Page),
    ("/genres/sports", 4, Kind::Page),
    ("/events", 4, Kind::Page),
    ("/genres/festival", 3, Kind::Page),
    ("/help", 2, Kind::Page),
    ("/robots.txt", 2, Kind::Static),
    ("/sitemap.xml", 1, Kind::Static),
];
/// Pages about one performance: prefix, suffix, weight.
const FAMILIES: [(&str, &str, u32, Kind); 2] = [
    ("/performances/", "", 400, Kind::Page),
    ("/api/performances/", "/seats", 130, Kind::Api),
];
const LATENCIES: usize = 256;

/// A request's page and answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Number of the path, see [`Site::path`].
    pub(crate) path: u32,
    /// Index into [`METHODS`].
    pub(crate) method: u8,
    pub(crate) status: i16,
    pub(crate) bytes: i64,
    pub(crate) latency_ms: i32,
}

/// The tables to answer requests from.
#[derive(Debug)]
pub(crate) struct Site {
    performances: u32,
    pages: Pick,
    manners: [Tables; MANNERS.len()],
}

#[derive(Debug)]
struct Tables {
    statuses: Pick,
    methods: Pick,
    /// Latency at each 1/256 of the distribution.
    latencies_ms: [i32; LATENCIES + 1],
    bytes: (u64, u64),
}

impl Site {
    pub(crate) fn new(config: &Config) -> Self {
        let families = FAMILIES.iter().map(|family| family.2);
        let weights: Vec<u32> = PAGES.iter().map(|page| page.1).chain(families).collect();
        Self {
            performances: config.performances as u32,
            pages: Pick::new(&weights),
            manners: MANNERS.map(|manner| Tables {
                statuses: Pick::new(&manner.statuses),
                methods: Pick::new(&manner.methods),
                latencies_ms: std::array::from_fn(|i| latency_ms(&manner, i)),
                bytes: manner.bytes,
            }),
        }
    }

    /// How many paths there are; they are numbered from 0.
    pub(crate) fn paths(&self) -> u64 {
        PAGES.len() as u64 + u64::from(self.performances) * FAMILIES.len() as u64
    }

    /// The text of a path.
    pub(crate) fn path(&self, number: u32) -> String {
        let Some(beyond) = (number as usize).checked_sub(PAGES.len()) else {
            return PAGES[number as usize].0.to_owned();
        };
        let family = beyond / self.performances as usize;
        let id = beyond % self.performances as usize + 1;
        let (prefix, suffix, ..) = FAMILIES[family];
        format!("{prefix}{id}{suffix}")
    }

    /// Answers a request of someone interested in `item`, by the chance of `word`.
    #[inline]
    pub(crate) fn answer(&self, item: u32, word: u64) -> Answer {
        let page = usize::from(self.pages.draw(word));
        let (path, kind) = match page.checked_sub(PAGES.len()) {
            None => (page as u32, PAGES[page].2),
            Some(family) => {
                let before = PAGES.len() as u32 + family as u32 * self.performances;
                (before + item, FAMILIES[family].3)
            }
        };
        let tables = &self.manners[kind as usize];
        let status = STATUSES[usize::from(tables.statuses.draw(word >> 10))];
        let more = mix(word);
        let (least, spread) = tables.bytes;
        Answer {
            path,
            method: tables.methods.draw(word >> 20),
            status,
            bytes: match status {
                200 => (least + below(more, spread)) as i64,
                304 => 0,
                _ => (180 + below(more, 400)) as i64,
            },
            latency_ms: tables.latency_ms(more, status),
        }
    }
}

impl Tables {
    /// Interpolates the latency's distribution at 24 random bits; failures of the server take longer.
    #[inline]
    fn latency_ms(&self, word: u64, status: i16) -> i32 {
        let place = (word as usize >> 16) % LATENCIES;
        let (low, high) = (self.latencies_ms[place], self.latencies_ms[place + 1]);
        let between = (i64::from(high - low) * (word & 0xFFFF) as i64) >> 16;
        let latency = low + between as i32;
        if status >= 500 { latency * 5 } else { latency }
    }
}

/// A log-logistic quantile: near enough to log-normal, with a heavier tail, and without special functions.
fn latency_ms(manner: &Manner, quantile: usize) -> i32 {
    let share = (quantile as f64 + 0.25) / (LATENCIES as f64 + 0.5);
    let odds = share / (1.0 - share);
    (manner.median_ms * odds.powf(manner.spread))
        .round()
        .max(1.0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn every_path_is_named_once() {
        let site = Site::new(&Config {
            performances: 3,
            ..Config::default()
        });
        let paths: Vec<String> = (0..site.paths() as u32).map(|n| site.path(n)).collect();
        assert_eq!(paths[PAGES.len()], "/performances/1");
        assert_eq!(paths[paths.len() - 1], "/api/performances/3/seats");
        let distinct: std::collections::HashSet<&String> = paths.iter().collect();
        assert_eq!(distinct.len(), paths.len());
    }

    #[test]
    fn answers_are_plausible() {
        let site = Site::new(&Config::default());
        let stream = Stream::new(1, Purpose::WebResponse);
        let answers: Vec<Answer> = (0..50_000).map(|i| site.answer(7, stream.at(i))).collect();
        let share = |of: &dyn Fn(&Answer) -> bool| {
            answers.iter().filter(|a| of(a)).count() as f64 / answers.len() as f64
        };
        assert!((0.85..0.95).contains(&share(&|a| a.status == 200)));
        assert!((0.002..0.03).contains(&share(&|a| a.status >= 500)));
        assert!(share(&|a| u64::from(a.path) >= site.paths()) == 0.0);
        assert!(share(&|a| a.latency_ms < 1 || a.bytes < 0) == 0.0);
        assert!((0.001..0.05).contains(&share(&|a| a.latency_ms > 1000)));
        // The checkout fails more often than the rankings.
        let failures =
            |page: u32| share(&|a| a.path == page && a.status >= 500) / share(&|a| a.path == page);
        assert!(failures(10) > failures(2));
    }
}
