//! The performances: their rows, and how popular each is on a date and with an age group.

use chrono::NaiveDate;

use crate::Config;
use crate::clock::Spike;
use crate::draw::{Alias, Pick};
use crate::population::TASTES;
use crate::random::{Chance, Purpose, Stream, below, mix};

pub(crate) const GENRES: usize = 8;

struct Genre {
    name: &'static str,
    /// Share of the catalogue.
    weight: u32,
    price_krw: u64,
    /// How much each taste is drawn to it: under-10 (their parents), 10s … 60s, 70+, not known.
    appeal: [u32; TASTES],
}

#[rustfmt::skip]
const GENRE: [Genre; GENRES] = [
    Genre { name: "musical", weight: 18, price_krw: 90_000, appeal: [60, 120, 220, 190, 120, 70, 40, 25, 110] },
    Genre { name: "concert", weight: 20, price_krw: 110_000, appeal: [10, 420, 300, 130, 70, 60, 50, 30, 130] },
    Genre { name: "play", weight: 16, price_krw: 45_000, appeal: [25, 60, 150, 120, 90, 90, 80, 60, 90] },
    Genre { name: "classic", weight: 14, price_krw: 60_000, appeal: [10, 25, 45, 80, 130, 240, 330, 380, 80] },
    Genre { name: "exhibition", weight: 12, price_krw: 18_000, appeal: [90, 70, 160, 140, 110, 110, 130, 140, 100] },
    Genre { name: "sports", weight: 8, price_krw: 25_000, appeal: [40, 160, 120, 110, 130, 110, 80, 50, 100] },
    Genre { name: "family", weight: 8, price_krw: 35_000, appeal: [700, 30, 25, 260, 230, 50, 90, 60, 70] },
    Genre { name: "festival", weight: 4, price_krw: 70_000, appeal: [15, 180, 310, 130, 60, 40, 20, 10, 90] },
];
pub(crate) const GENRE_NAMES: [&str; GENRES] = {
    let mut names = [""; GENRES];
    let mut genre = 0;
    while genre < GENRES {
        names[genre] = GENRE[genre].name;
        genre += 1;
    }
    names
};
/// Venues and their regions.
pub(crate) const VENUES: [(&str, &str); 14] = [
    ("Blue Square", "Seoul"),
    ("Sejong Center", "Seoul"),
    ("Seoul Arts Center", "Seoul"),
    ("Charlotte Theater", "Seoul"),
    ("KSPO Dome", "Seoul"),
    ("Daehangno Small Hall", "Seoul"),
    ("Gocheok Sky Dome", "Seoul"),
    ("KINTEX", "Goyang"),
    ("Dream Theatre", "Busan"),
    ("BEXCO", "Busan"),
    ("Daegu Opera House", "Daegu"),
    ("Art Center Incheon", "Incheon"),
    ("Asia Culture Center", "Gwangju"),
    ("Daejeon Arts Center", "Daejeon"),
];
const FIRST_WORDS: [&str; 16] = [
    "Midnight", "Last", "Silver", "Dear", "Hidden", "Spring", "Golden", "Lost", "Blue", "Second",
    "Winter", "Our", "Silent", "Summer", "Red", "Little",
];
const LAST_WORDS: [&str; 16] = [
    "Garden",
    "Letter",
    "River",
    "Stage",
    "Moon",
    "Orchestra",
    "Days",
    "Voyage",
    "Palace",
    "Mirror",
    "Train",
    "Island",
    "Song",
    "Season",
    "Playground",
    "Night",
];
/// Someone looking up what is over counts for less: a fall by e^1.5 in rank.
const CLOSED_FALL: f64 = 1.5;
/// What has just been announced is talked about: a rise by e in rank on the first day, less on the next.
const NEW_RISE: f64 = 1.0;
const NEW_DAYS: f64 = 3.0;

/// A row of `dim/performances`, less its id.
#[derive(Debug)]
pub(crate) struct Performance {
    pub(crate) title: String,
    /// Index into [`GENRE_NAMES`].
    pub(crate) genre: u8,
    /// Index into [`VENUES`].
    pub(crate) venue: u8,
    /// Days since 1970.
    pub(crate) opens_day: i32,
    /// Days since 1970.
    pub(crate) closes_day: i32,
    pub(crate) price_krw: i32,
}

/// All performances; items are numbered from 0 here, their ids from 1.
#[derive(Debug)]
pub(crate) struct Catalogue {
    first_day: i32,
    days: u32,
    drift: f64,
    taste: f64,
    new_item: Chance,
    profile: Stream,
    noise: Stream,
    appears: Stream,
    genres: Vec<u8>,
    /// Natural logarithm of each item's long-term rank, which is a random permutation.
    ln_rank: Vec<f32>,
    /// Zipf's weight of each rank.
    weights: Vec<f64>,
}

impl Catalogue {
    pub(crate) fn new(config: &Config) -> Self {
        let items = config.performances as u32;
        let stream = |purpose| Stream::new(config.seed, purpose);
        let (genre, rank) = (stream(Purpose::ItemGenre), stream(Purpose::ItemRank));
        let pick = Pick::new(&GENRE.map(|genre| genre.weight));
        let mut order: Vec<u32> = (0..items).collect();
        order.sort_by_key(|&item| (rank.at(item.into()), item));
        let mut ln_rank = vec![0.0; order.len()];
        for (item, rank) in order.into_iter().zip(1_u32..) {
            ln_rank[item as usize] = f64::from(rank).ln() as f32;
        }
        Self {
            first_day: config.from.to_epoch_days(),
            days: config.days,
            drift: config.drift,
            taste: config.taste,
            new_item: Chance::new(config.new_item_share),
            appears: stream(Purpose::ItemAppears),
            profile: stream(Purpose::ItemProfile),
            noise: stream(Purpose::ItemDrift),
            genres: (0..items)
                .map(|item| pick.draw(genre.at(item.into())))
                .collect(),
            ln_rank,
            weights: (1..=items)
                .map(|rank| f64::from(rank).powf(-config.zipf_items))
                .collect(),
        }
    }

    pub(crate) fn performance(&self, item: u32) -> Performance {
        let word = mix(self.profile.at(item.into()));
        let genre = self.genres[item as usize];
        let first = FIRST_WORDS[(word >> 16) as usize % FIRST_WORDS.len()];
        let last = LAST_WORDS[(word >> 20) as usize % LAST_WORDS.len()];
        let (opens_day, closes_day) = self.run(item);
        // 60 % to 160 % of the genre's price, in thousands.
        let price = GENRE[usize::from(genre)].price_krw * (60 + below(word, 101)) / 100_000 * 1000;
        Performance {
            title: format!("{first} {last} {}", item % 97 + 1),
            genre,
            venue: ((word & 0xFFFF) as usize % VENUES.len()) as u8,
            opens_day,
            closes_day,
            price_krw: price as i32,
        }
    }

    /// The days on which an item opens and closes.
    fn run(&self, item: u32) -> (i32, i32) {
        let word = self.profile.at(item.into());
        let opens = self.first_day - 90 + below(word, u64::from(self.days) + 150) as i32;
        (opens, opens + 2 + below(word << 32, 120) as i32)
    }

    /// The first day, days since 1970, on which an item is known of; before the lake's for most.
    pub(crate) fn appears_day(&self, item: u32) -> i32 {
        let word = self.appears.at(item.into());
        if self.new_item.hit(word) {
            self.first_day + below(word, u64::from(self.days)) as i32
        } else {
            i32::MIN
        }
    }

    /// Items in the order of a date's popularity: long-term ranks, moved by a week's and a day's chance. What nobody
    /// knows of yet is left out, unless that is everything.
    fn order(&self, day: i32) -> Vec<u32> {
        let week = day.div_euclid(7);
        let key = |item: u32| {
            let noise = self.noise(item, 0, day) + self.noise(item, 1, week);
            let (_, closes) = self.run(item);
            let fall = if day > closes { CLOSED_FALL } else { 0.0 };
            let age = f64::from(day) - f64::from(self.appears_day(item));
            let rise = NEW_RISE * (1.0 - age / NEW_DAYS).max(0.0);
            f64::from(self.ln_rank[item as usize]) + self.drift * noise + fall - rise
        };
        let all = 0..self.genres.len() as u32;
        let known = all.clone().filter(|&item| self.appears_day(item) <= day);
        let mut order: Vec<(f64, u32)> = known.map(|item| (key(item), item)).collect();
        if order.is_empty() {
            order = all.map(|item| (key(item), item)).collect();
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.into_iter().map(|(_, item)| item).collect()
    }

    /// The charts of a date, on which there are such ticket openings.
    pub(crate) fn charts(&self, date: NaiveDate, openings: Vec<Spike>) -> Charts {
        let day = date.to_epoch_days();
        let order = self.order(day);
        let at_item = |opening: Spike| Spike {
            item: order[opening.item as usize % order.len()],
            ..opening
        };
        let spikes = openings.into_iter().map(at_item).collect();
        let mut shelves: [(Vec<u32>, Vec<f64>); GENRES] = Default::default();
        for (item, &weight) in order.into_iter().zip(&self.weights) {
            let (items, weights) = &mut shelves[usize::from(self.genres[item as usize])];
            items.push(item);
            weights.push(weight);
        }
        let popularity = shelves
            .each_ref()
            .map(|(_, weights)| weights.iter().sum::<f64>());
        let genres = std::array::from_fn(|taste| {
            let appeal = |genre: usize| f64::from(GENRE[genre].appeal[taste]).powf(self.taste);
            let weight = |genre: usize| popularity[genre] * appeal(genre);
            Alias::new(&std::array::from_fn::<_, GENRES, _>(weight))
        });
        let shelves = shelves.map(|(items, weights)| {
            let ranks = Alias::new(&weights);
            Shelf { items, ranks }
        });
        Charts {
            genres,
            shelves,
            spikes,
        }
    }

    /// Chance in −1..1, triangular.
    fn noise(&self, item: u32, scale: u64, period: i32) -> f64 {
        let word = self
            .noise
            .at(u64::from(item) << 33 | scale << 32 | u64::from(period as u32));
        let sum = (word >> 32) as f64 + (word & 0xFFFF_FFFF) as f64;
        sum / 4_294_967_296.0 - 1.0
    }
}

/// The items of a genre, the most popular first.
#[derive(Debug)]
struct Shelf {
    items: Vec<u32>,
    ranks: Alias,
}

/// A date's distribution of items: by genre, as the taste has it, then by popularity within the genre. That is
/// Zipf's weight times the genre's appeal, with tables as large as the catalogue once, not once per taste.
#[derive(Debug)]
pub(crate) struct Charts {
    genres: [Alias; TASTES],
    shelves: [Shelf; GENRES],
    /// The date's ticket openings.
    pub(crate) spikes: Vec<Spike>,
}

impl Charts {
    /// An item, from 0.
    #[inline]
    pub(crate) fn draw(&self, taste: u8, word: u64) -> u32 {
        let genre = self.genres[usize::from(taste)].draw(word);
        let shelf = &self.shelves[genre as usize];
        shelf.items[shelf.ranks.draw(mix(word)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::NO_TASTE;

    fn top(charts: &Charts, taste: u8, items: usize) -> Vec<usize> {
        let stream = Stream::new(5, Purpose::SessionInterest);
        let mut counts = vec![0; items];
        for i in 0..200_000 {
            counts[charts.draw(taste, stream.at(i)) as usize] += 1;
        }
        let mut order: Vec<usize> = (0..items).collect();
        order.sort_by_key(|&item| std::cmp::Reverse(counts[item]));
        order
    }

    #[test]
    fn charts_move_with_days_and_differ_by_taste() {
        let config = Config {
            performances: 2_000,
            ..Config::default()
        };
        let catalogue = Catalogue::new(&config);
        let first = top(&catalogue.charts(config.from, Vec::new()), NO_TASTE, 2_000);
        let later = config.from + chrono::Days::new(10);
        let then = top(&catalogue.charts(later, Vec::new()), NO_TASTE, 2_000);
        assert_ne!(first[..10], then[..10]);
        let stayed = first[..20].iter().filter(|&item| then[..60].contains(item));
        assert!(stayed.count() >= 10, "{first:?} {then:?}");
        let charts = catalogue.charts(config.from, Vec::new());
        let (teens, seventies) = (top(&charts, 1, 2_000), top(&charts, 7, 2_000));
        let common = teens[..10]
            .iter()
            .filter(|item| seventies[..10].contains(item));
        assert!(common.count() <= 5);
    }

    #[test]
    fn nothing_is_drawn_before_it_is_known_of() {
        let config = Config {
            performances: 500,
            days: 10,
            new_item_share: 0.5,
            ..Config::default()
        };
        let catalogue = Catalogue::new(&config);
        let new = (0..500).filter(|&item| catalogue.appears_day(item) > i32::MIN);
        assert!((200..300).contains(&new.count()));
        let stream = Stream::new(6, Purpose::SessionInterest);
        let mut drawn = std::collections::BTreeSet::new();
        for day in 0..10 {
            let date = config.from + chrono::Days::new(day);
            let charts = catalogue.charts(date, Vec::new());
            for i in 0..5_000 {
                let item = charts.draw(NO_TASTE, stream.at(i));
                assert!(catalogue.appears_day(item) <= date.to_epoch_days());
                drawn.insert(item);
            }
        }
        let came = drawn
            .iter()
            .filter(|&&item| catalogue.appears_day(item) > i32::MIN);
        assert!(came.count() > 100);
    }

    #[test]
    fn a_single_item_is_always_drawn() {
        let config = Config {
            performances: 1,
            ..Config::default()
        };
        let charts = Catalogue::new(&config).charts(config.from, Vec::new());
        for i in 0..1000 {
            let word = mix(i);
            assert_eq!(charts.draw((i % TASTES as u64) as u8, word), 0);
        }
    }

    #[test]
    fn runs_end_after_they_begin() {
        let catalogue = Catalogue::new(&Config::default());
        for item in 0..1000 {
            let performance = catalogue.performance(item);
            assert!(performance.opens_day < performance.closes_day);
            assert!(performance.price_krw > 0 && performance.price_krw % 1000 == 0);
        }
    }
}
