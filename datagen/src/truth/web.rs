//! The truth about a date's requests.

use std::ops::AddAssign;

use chrono::NaiveDate;
use rayon::prelude::*;

use super::pairs::{Pairs, Pass, Scratch};
use super::top::top;
use super::{DailyWebPages, PageRank};

/// Requests to be counted: of a part, or of a date's parts so far.
#[derive(Debug)]
pub(crate) struct Tally {
    pass: Pass,
    /// Paths and client addresses.
    pairs: Pairs,
    /// Failures of the server, for each path.
    errors: Vec<u64>,
    doubled: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    hits: u64,
    visitors: u64,
    errors: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.visitors += other.visitors;
        self.errors += other.errors;
    }
}

/// Counts by path.
#[derive(Debug)]
pub(crate) struct Counts {
    paths: Vec<Count>,
    pub(crate) doubled: u64,
}

impl Tally {
    /// For about `rows` rows to come.
    pub(crate) fn new(paths: u64, addresses: u64, rows: u64, pass: Pass) -> Self {
        let counted = if pass == Pass::NONE { 0 } else { paths };
        Self {
            pass,
            pairs: Pairs::new(paths, addresses, rows, pass),
            errors: vec![0; counted as usize],
            doubled: 0,
        }
    }

    /// Adds a row: numbers from 0.
    #[inline]
    pub(crate) fn add(&mut self, path: u32, address: u32, is_5xx: bool) {
        self.pairs.add(path, address, is_5xx);
        if is_5xx && self.pass.is_first() {
            self.errors[path as usize] += 1;
        }
    }

    /// The row added last repeats another one.
    pub(crate) fn add_double(&mut self) {
        self.doubled += 1;
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.pairs.absorb(other.pairs);
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
        self.doubled += other.doubled;
        self
    }

    /// Counts; on several threads where the caller's pool has idle ones.
    pub(crate) fn count(&self) -> Counts {
        let blocks = self.pairs.blocks();
        let share = blocks.len().div_ceil(rayon::current_num_threads()).max(1);
        let new = || Counts {
            paths: vec![Count::default(); self.errors.len()],
            doubled: 0,
        };
        let mut counts = blocks
            .par_chunks(share)
            .map(|blocks| self.count_blocks(blocks, new()))
            .reduce_with(Counts::merge)
            .unwrap_or_else(new);
        for (count, &errors) in counts.paths.iter_mut().zip(&self.errors) {
            count.errors += errors;
        }
        if self.pass.is_first() {
            counts.doubled = self.doubled;
        }
        counts
    }

    fn count_blocks(&self, blocks: &[usize], mut counts: Counts) -> Counts {
        let mut scratch = Scratch::default();
        for &block in blocks {
            self.pairs.count(block, &mut scratch, |pair| {
                counts.paths[pair.item as usize] += Count {
                    hits: pair.rows.into(),
                    visitors: 1,
                    errors: 0,
                };
            });
        }
        counts
    }
}

impl Counts {
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for (mine, theirs) in self.paths.iter_mut().zip(other.paths) {
            *mine += theirs;
        }
        self.doubled += other.doubled;
        self
    }

    /// The ranking, given the text of each path.
    pub(crate) fn pages(self, texts: &[String], date: NaiveDate) -> DailyWebPages {
        let rows = self.paths.into_iter().zip(texts);
        let rows: Vec<(Count, &String)> = rows.filter(|(count, _)| count.hits > 0).collect();
        let distinct = rows.len() as u64;
        let order = |row: &(Count, &String)| (!row.0.hits, !row.0.visitors);
        let page = |(count, path): (Count, &String)| PageRank {
            path: path.clone(),
            hits: count.hits,
            visitors: count.visitors,
            errors_5xx: count.errors,
        };
        let rows = top(rows, |a, b| {
            order(a).cmp(&order(b)).then_with(|| a.1.cmp(b.1))
        });
        DailyWebPages {
            date,
            paths: distinct,
            top: rows.into_iter().map(page).collect(),
        }
    }
}
