//! The truth about a date's clicks.

use std::ops::AddAssign;

use chrono::NaiveDate;
use rayon::prelude::*;

use super::pairs::{Pairs, Scratch};
use super::top::top;
use super::{AgeDateRanking, DailyPopularity, ItemRank};
use crate::AgeBand;
use crate::age::Bands;
use crate::population::Population;

const BANDS: usize = AgeBand::ALL.len();

/// Clicks to be counted: of a part, or of a date's parts so far.
#[derive(Debug)]
pub(crate) struct Tally {
    pairs: Pairs,
    /// Views and other clicks by visitors without a user id, for each item.
    anonymous: Vec<[u32; 2]>,
}

/// The truth about a date's clicks.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) popularity: DailyPopularity,
    pub(crate) by_age: Vec<AgeDateRanking>,
    pub(crate) unknown_user_clicks: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    clicks: u32,
    visitors: u32,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.clicks += other.clicks;
        self.visitors += other.visitors;
    }
}

/// Counts by item.
#[derive(Debug)]
struct Counts {
    all: Vec<Count>,
    views: Vec<[Count; BANDS]>,
    unknown_user_clicks: u64,
}

impl Tally {
    /// For about `rows` rows to come.
    pub(crate) fn new(items: u64, population: &Population, rows: u64) -> Self {
        Self {
            pairs: Pairs::new(items, population.ids(), rows),
            anonymous: vec![[0; 2]; items as usize],
        }
    }

    /// Adds a row: an item from 0, a user's id or 0.
    #[inline]
    pub(crate) fn add(&mut self, item: u32, user: u32, is_view: bool) {
        match user.checked_sub(1) {
            Some(user) => self.pairs.add(item, user, is_view),
            None => self.anonymous[item as usize][usize::from(!is_view)] += 1,
        }
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.pairs.absorb(other.pairs);
        for (mine, theirs) in self.anonymous.iter_mut().zip(other.anonymous) {
            mine[0] += theirs[0];
            mine[1] += theirs[1];
        }
    }

    /// Counts; on several threads where the caller's pool has idle ones.
    pub(crate) fn count(&self, population: &Population, date: NaiveDate) -> Counted {
        let blocks: Vec<usize> = (0..self.pairs.blocks()).collect();
        let share = blocks.len().div_ceil(rayon::current_num_threads());
        let bands = Bands::on(date);
        let mut counts = blocks
            .par_chunks(share)
            .map(|blocks| self.count_blocks(blocks, population, &bands))
            .reduce_with(Counts::merge)
            .unwrap_or_else(|| Counts::new(self.anonymous.len()));
        for (item, &[views, others]) in self.anonymous.iter().enumerate() {
            counts.all[item].clicks += views + others;
            counts.views[item][AgeBand::Unknown as usize].clicks += views;
        }
        let popularity = DailyPopularity {
            date,
            items: counts.all.iter().filter(|c| c.clicks > 0).count() as u64,
            top: rank(counts.all.iter().copied()),
        };
        let ranking = |age_band: AgeBand| AgeDateRanking {
            date,
            age_band,
            top: rank(counts.views.iter().map(|views| views[age_band as usize])),
        };
        let by_age = AgeBand::ALL.into_iter().map(ranking);
        Counted {
            popularity,
            by_age: by_age.filter(|ranking| !ranking.top.is_empty()).collect(),
            unknown_user_clicks: counts.unknown_user_clicks,
        }
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
                    clicks: pair.rows,
                    visitors: 1,
                };
                let band = user_bands[(pair.user - users.start) as usize];
                counts.views[item][usize::from(band)] += Count {
                    clicks: pair.marked_rows,
                    visitors: u32::from(pair.marked_rows > 0),
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
            unknown_user_clicks: 0,
        }
    }

    fn merge(mut self, other: Self) -> Self {
        for (mine, theirs) in self.all.iter_mut().zip(other.all) {
            *mine += theirs;
        }
        for (mine, theirs) in self.views.iter_mut().zip(other.views) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self.unknown_user_clicks += other.unknown_user_clicks;
        self
    }
}

/// Ranks items by (visitors desc, clicks desc, item asc); `counts` are in the order of items.
fn rank(counts: impl Iterator<Item = Count>) -> Vec<ItemRank> {
    let rows = (1..).zip(counts).filter(|(_, count)| count.clicks > 0);
    let rows = rows.map(|(item, count)| ItemRank {
        item,
        clicks: count.clicks.into(),
        visitors: count.visitors.into(),
    });
    let order = |row: &ItemRank| (!row.visitors, !row.clicks, row.item);
    top(rows.collect(), |a, b| order(a).cmp(&order(b)))
}
