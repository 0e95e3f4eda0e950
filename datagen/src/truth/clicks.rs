//! The truth about a date's clicks.

use std::ops::AddAssign;

use chrono::NaiveDate;
use rayon::prelude::*;

use super::pairs::{Pairs, Pass, Scratch};
use super::top::top;
use super::{AgeDateRanking, DailyPopularity, ItemRank};
use crate::AgeBand;
use crate::age::Bands;
use crate::population::Population;
use crate::traffic::{NO_ITEM, World};

const BANDS: usize = AgeBand::ALL.len();

/// Clicks to be counted: of a part, or of a date's parts so far.
#[derive(Debug)]
pub(crate) struct Tally {
    pass: Pass,
    pairs: Pairs,
    /// Views and other clicks by visitors without a user id, for each item.
    anonymous: Vec<[u64; 2]>,
    known_users: u32,
    odd: Odd,
}

/// Rows that are in no ranking, or twice in one.
#[derive(Clone, Copy, Debug, Default)]
struct Odd {
    doubled: u64,
    without_item: u64,
    /// Of those without an item.
    anonymous: u64,
    unknown_users: u64,
}

impl AddAssign for Odd {
    fn add_assign(&mut self, other: Self) {
        self.doubled += other.doubled;
        self.without_item += other.without_item;
        self.anonymous += other.anonymous;
        self.unknown_users += other.unknown_users;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    clicks: u64,
    visitors: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.clicks += other.clicks;
        self.visitors += other.visitors;
    }
}

/// Counts by item.
#[derive(Debug)]
pub(crate) struct Counts {
    all: Vec<Count>,
    views: Vec<[Count; BANDS]>,
    anonymous_clicks: u64,
    unknown_user_clicks: u64,
    odd: Odd,
}

impl Tally {
    /// For about `rows` rows to come.
    pub(crate) fn new(world: &World, rows: u64, pass: Pass) -> Self {
        let items = if pass == Pass::NONE { 0 } else { world.items() };
        Self {
            pass,
            pairs: Pairs::new(world.items(), world.population.ids(), rows, pass),
            anonymous: vec![[0; 2]; items as usize],
            known_users: world.population.known() as u32,
            odd: Odd::default(),
        }
    }

    /// Adds a row: an item from 0 or [`NO_ITEM`], a user's id or 0.
    #[inline]
    pub(crate) fn add(&mut self, item: u32, user: u32, is_view: bool) {
        if item == NO_ITEM {
            return self.add_without_item(user);
        }
        match user.checked_sub(1) {
            Some(user) => self.pairs.add(item, user, is_view),
            None if self.pass.is_first() => {
                self.anonymous[item as usize][usize::from(!is_view)] += 1;
            }
            None => {}
        }
    }

    #[cold]
    fn add_without_item(&mut self, user: u32) {
        self.odd.without_item += 1;
        self.odd.anonymous += u64::from(user == 0);
        self.odd.unknown_users += u64::from(user > self.known_users);
    }

    /// The row added last repeats another one.
    pub(crate) fn add_double(&mut self) {
        self.odd.doubled += 1;
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.pairs.absorb(other.pairs);
        for (mine, theirs) in self.anonymous.iter_mut().zip(other.anonymous) {
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
        self.odd += other.odd;
        self
    }

    /// Counts; on several threads where the caller's pool has idle ones.
    pub(crate) fn count(&self, population: &Population, date: NaiveDate) -> Counts {
        let blocks = self.pairs.blocks();
        let share = blocks.len().div_ceil(rayon::current_num_threads()).max(1);
        let bands = Bands::on(date);
        let mut counts = blocks
            .par_chunks(share)
            .map(|blocks| self.count_blocks(blocks, population, &bands))
            .reduce_with(Counts::merge)
            .unwrap_or_else(|| Counts::new(self.anonymous.len()));
        for (item, &[views, others]) in self.anonymous.iter().enumerate() {
            counts.all[item].clicks += views + others;
            counts.views[item][AgeBand::Unknown as usize].clicks += views;
            counts.anonymous_clicks += views + others;
        }
        if self.pass.is_first() {
            counts.odd = self.odd;
        }
        counts
    }

    fn count_blocks(&self, blocks: &[usize], population: &Population, bands: &Bands) -> Counts {
        let mut counts = Counts::new(self.anonymous.len());
        let mut scratch = Scratch::default();
        let mut user_bands = Vec::new();
        for &block in blocks {
            let users = self.pairs.users(block);
            user_bands.clear();
            user_bands.extend(users.clone().map(|user| {
                let id = user + 1;
                let is_known = u64::from(id) <= population.known();
                bands.index(is_known.then(|| population.birth_day(id)).flatten())
            }));
            self.pairs.count(block, &mut scratch, |pair| {
                let item = pair.item as usize;
                counts.all[item] += Count {
                    clicks: pair.rows.into(),
                    visitors: 1,
                };
                let band = user_bands[(pair.user - users.start) as usize];
                counts.views[item][usize::from(band)] += Count {
                    clicks: pair.marked_rows.into(),
                    visitors: u64::from(pair.marked_rows > 0),
                };
                if u64::from(pair.user) >= population.known() {
                    counts.unknown_user_clicks += u64::from(pair.rows);
                }
            });
        }
        counts
    }
}

impl Counts {
    fn new(items: usize) -> Self {
        Self {
            all: vec![Count::default(); items],
            views: vec![[Count::default(); BANDS]; items],
            anonymous_clicks: 0,
            unknown_user_clicks: 0,
            odd: Odd::default(),
        }
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (mine, theirs) in self.all.iter_mut().zip(other.all) {
            *mine += theirs;
        }
        for (mine, theirs) in self.views.iter_mut().zip(other.views) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self.anonymous_clicks += other.anonymous_clicks;
        self.unknown_user_clicks += other.unknown_user_clicks;
        self.odd += other.odd;
        self
    }

    pub(crate) fn popularity(&self, date: NaiveDate) -> DailyPopularity {
        DailyPopularity {
            date,
            items: self.all.iter().filter(|c| c.clicks > 0).count() as u64,
            top: rank(self.all.iter().copied()),
        }
    }

    /// Of the bands that have any views.
    pub(crate) fn by_age(&self, date: NaiveDate) -> Vec<AgeDateRanking> {
        let ranking = |age_band: AgeBand| AgeDateRanking {
            date,
            age_band,
            top: rank(self.views.iter().map(|views| views[age_band as usize])),
        };
        let by_age = AgeBand::ALL.into_iter().map(ranking);
        by_age.filter(|ranking| !ranking.top.is_empty()).collect()
    }

    /// Of the clicks' defects, all but the late ones.
    pub(crate) fn defects(&self, performances: u64) -> super::Defects {
        let unknown = self.all.iter().skip(performances as usize);
        super::Defects {
            doubled_clicks: self.odd.doubled,
            clicks_without_item: self.odd.without_item,
            clicks_on_unknown_items: unknown.map(|count| count.clicks).sum(),
            anonymous_clicks: self.anonymous_clicks + self.odd.anonymous,
            unknown_user_clicks: self.unknown_user_clicks + self.odd.unknown_users,
            ..super::Defects::default()
        }
    }
}

/// Ranks items by (visitors desc, clicks desc, item asc); `counts` are in the order of items.
fn rank(counts: impl Iterator<Item = Count>) -> Vec<ItemRank> {
    let rows = (1..).zip(counts).filter(|(_, count)| count.clicks > 0);
    let rows = rows.map(|(item, count)| ItemRank {
        item,
        clicks: count.clicks,
        visitors: count.visitors,
    });
    let order = |row: &ItemRank| (!row.visitors, !row.clicks, row.item);
    top(rows.collect(), |a, b| order(a).cmp(&order(b)))
}
