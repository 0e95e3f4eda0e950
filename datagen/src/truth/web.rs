//! The truth about a date's requests.

use std::ops::AddAssign;

use arrow::array::StringArray;
use chrono::NaiveDate;
use rayon::prelude::*;

use super::pairs::{Pairs, Scratch};
use super::top::top;
use super::{DailyWebPages, PageRank};

/// Requests to be counted: of a part, or of a date's parts so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Paths and client addresses.
    pairs: Pairs,
    /// Failures of the server, for each path.
    errors: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    hits: u32,
    visitors: u32,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.visitors += other.visitors;
    }
}

impl Tally {
    /// For about `rows` rows to come.
    pub(crate) fn new(paths: u64, addresses: u64, rows: u64) -> Self {
        Self {
            pairs: Pairs::new(paths, addresses, rows),
            errors: vec![0; paths as usize],
        }
    }

    /// Adds a row: numbers from 0.
    #[inline]
    pub(crate) fn add(&mut self, path: u32, address: u32, is_5xx: bool) {
        self.pairs.add(path, address, is_5xx);
        self.errors[path as usize] += u32::from(is_5xx);
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.pairs.absorb(other.pairs);
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
    }

    /// Counts; on several threads where the caller's pool has idle ones.
    pub(crate) fn count(&self, paths: &StringArray, date: NaiveDate) -> DailyWebPages {
        let blocks: Vec<usize> = (0..self.pairs.blocks()).collect();
        let share = blocks.len().div_ceil(rayon::current_num_threads());
        let counts = blocks
            .par_chunks(share)
            .map(|blocks| self.count_blocks(blocks))
            .reduce_with(|mut mine, theirs| {
                for (mine, theirs) in mine.iter_mut().zip(theirs) {
                    *mine += theirs;
                }
                mine
            })
            .unwrap_or_default();
        let rows: Vec<(usize, Count)> = counts
            .into_iter()
            .enumerate()
            .filter(|(_, count)| count.hits > 0)
            .collect();
        let distinct = rows.len() as u64;
        let order =
            |(path, count): &(usize, Count)| (!count.hits, !count.visitors, paths.value(*path));
        let page = |(path, count): (usize, Count)| PageRank {
            path: paths.value(path).to_owned(),
            hits: count.hits.into(),
            visitors: count.visitors.into(),
            errors_5xx: self.errors[path].into(),
        };
        let rows = top(rows, |a, b| order(a).cmp(&order(b)));
        DailyWebPages {
            date,
            paths: distinct,
            top: rows.into_iter().map(page).collect(),
        }
    }

    fn count_blocks(&self, blocks: &[usize]) -> Vec<Count> {
        let mut counts = vec![Count::default(); self.errors.len()];
        let mut scratch = Scratch::default();
        for &block in blocks {
            self.pairs.count(block, &mut scratch, |pair| {
                counts[pair.item as usize] += Count {
                    hits: pair.rows,
                    visitors: 1,
                };
            });
        }
        counts
    }
}
