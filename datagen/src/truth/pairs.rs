//! Exact distinct counting of (item, user) pairs at four bytes a row, in blocks of users that can be counted
//! apart: a hot item's rows are spread over all of them.

use std::ops::Range;

/// Users in a block, at most: what is looked up by user then stays in the cache.
const MAX_USER_BITS: u32 = 16;
const RADIX_BITS: u32 = 11;
/// Below this the passes of a radix sort do not pay.
const RADIX_LEAST: usize = 1 << 12;

/// Which pairs a tally counts: where a date has too many rows to count at once, it is done in passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    number: usize,
    of: usize,
}

impl Pass {
    /// Everything at once.
    pub(crate) const WHOLE: Self = Self { number: 0, of: 1 };
    /// Nothing: rows are made, but not counted.
    pub(crate) const NONE: Self = Self { number: 0, of: 0 };

    /// As many passes as keep the pairs of a date's rows within `most` at a time.
    pub(crate) fn over(rows: u64, most: u64) -> impl Iterator<Item = Self> {
        let of = rows.div_ceil(most).max(1) as usize;
        (0..of).map(move |number| Self { number, of })
    }

    /// Whether the pass is to count what doesn't come in blocks.
    pub(crate) fn is_first(self) -> bool {
        self.of > 0 && self.number == 0
    }

    #[inline]
    fn takes(self, block: usize, item: u32) -> bool {
        match self.of {
            1 => true,
            0 => false,
            // By items too, for all users may be in one block.
            of => (block + item as usize) % of == self.number,
        }
    }
}

/// The pairs of some rows, each with a mark; items and users are numbered from 0.
#[derive(Debug)]
pub(crate) struct Pairs {
    pass: Pass,
    item_bits: u32,
    user_bits: u32,
    users: u64,
    /// For each block, lists of keys: item, user within the block, and the mark's opposite in the lowest bit.
    blocks: Vec<Vec<Vec<u32>>>,
}

/// A distinct pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) item: u32,
    pub(crate) user: u32,
    pub(crate) rows: u32,
    pub(crate) marked_rows: u32,
}

impl Pairs {
    /// For at most 2^30 items, and about `rows` rows to come.
    pub(crate) fn new(items: u64, users: u64, rows: u64, pass: Pass) -> Self {
        let item_bits = u64::BITS - items.saturating_sub(1).leading_zeros();
        let user_bits = (31 - item_bits).min(MAX_USER_BITS);
        let blocks = users.div_ceil(1 << user_bits);
        // Users are dealt evenly, but for a few heavy ones.
        let expected = (rows / blocks) as usize;
        let room = expected + expected / 8;
        let room = room / pass.of.max(1) * usize::from(pass.of > 0);
        Self {
            pass,
            item_bits,
            user_bits,
            users,
            blocks: (0..blocks)
                .map(|_| vec![Vec::with_capacity(room)])
                .collect(),
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, item: u32, user: u32, marked: bool) {
        let block = (user >> self.user_bits) as usize;
        if !self.pass.takes(block, item) {
            return;
        }
        let within = user & ((1 << self.user_bits) - 1);
        let key = (item << self.user_bits | within) << 1 | u32::from(!marked);
        self.blocks[block][0].push(key);
    }

    /// Takes over another one's rows, of the same items and users.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (mine, theirs) in self.blocks.iter_mut().zip(other.blocks) {
            mine.extend(theirs.into_iter().map(|mut keys| {
                keys.shrink_to_fit();
                keys
            }));
        }
    }

    /// The blocks that have any.
    pub(crate) fn blocks(&self) -> Vec<usize> {
        let filled = |&block: &usize| self.blocks[block].iter().any(|keys| !keys.is_empty());
        (0..self.blocks.len()).filter(filled).collect()
    }

    /// The users of a block.
    pub(crate) fn users(&self, block: usize) -> Range<u32> {
        let end = (((block + 1) as u64) << self.user_bits).min(self.users);
        (block << self.user_bits) as u32..end as u32
    }

    /// Hands over each distinct pair of a block once, in the order of items.
    pub(crate) fn count(&self, block: usize, scratch: &mut Scratch, mut each: impl FnMut(Pair)) {
        let Scratch { keys, spare } = scratch;
        keys.clear();
        for list in &self.blocks[block] {
            keys.extend_from_slice(list);
        }
        sort(keys, spare, self.item_bits + self.user_bits + 1);
        let first_user = (block << self.user_bits) as u32;
        let mask = (1 << self.user_bits) - 1;
        for rows in keys.chunk_by(|a, b| a >> 1 == b >> 1) {
            let pair = rows[0] >> 1;
            each(Pair {
                item: pair >> self.user_bits,
                user: first_user + (pair & mask),
                rows: rows.len() as u32,
                marked_rows: rows.iter().take_while(|&&key| key & 1 == 0).count() as u32,
            });
        }
    }
}

/// Buffers to count in.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Vec<u32>,
    spare: Vec<u32>,
}

/// Sorts keys of so many bits.
fn sort(keys: &mut Vec<u32>, spare: &mut Vec<u32>, bits: u32) {
    if keys.len() < RADIX_LEAST {
        keys.sort_unstable();
        return;
    }
    spare.resize(keys.len(), 0);
    for shift in (0..bits).step_by(RADIX_BITS as usize) {
        let digit = |key: u32| (key >> shift) as usize % (1 << RADIX_BITS);
        let mut places = [0_usize; 1 << RADIX_BITS];
        for &key in keys.iter() {
            places[digit(key)] += 1;
        }
        let mut sum = 0;
        for place in &mut places {
            sum += std::mem::replace(place, sum);
        }
        for &key in keys.iter() {
            let place = &mut places[digit(key)];
            spare[*place] = key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream, below};
    use std::collections::BTreeMap;

    fn check(items: u64, users: u64, rows: u64) {
        check_in(items, users, rows, Pass::over(rows, u64::MAX));
        check_in(items, users, rows, Pass::over(rows, 1 + rows / 3));
    }

    fn check_in(items: u64, users: u64, rows: u64, passes: impl Iterator<Item = Pass>) {
        let stream = Stream::new(1, Purpose::ClickWho);
        let mut naive = BTreeMap::new();
        let new = |pass| Pairs::new(items, users, rows, pass);
        // The passes before the last are counted one after the other; the last in two halves, put together.
        let mut passes: Vec<Pairs> = passes.map(new).collect();
        let mut other = passes.last().map(|pairs| new(pairs.pass)).unwrap();
        for row in 0..rows {
            let word = stream.at(row);
            let (item, user) = (below(word, items), below(word << 20, users));
            let marked = word.is_multiple_of(3);
            let count: &mut (u32, u32) = naive.entry((item as u32, user as u32)).or_default();
            count.0 += 1;
            count.1 += u32::from(marked);
            let last = passes.len() - 1;
            for (pass, pairs) in passes.iter_mut().enumerate() {
                let side = match pass == last && row.is_multiple_of(2) {
                    true => &mut other,
                    false => pairs,
                };
                side.add(item as u32, user as u32, marked);
            }
        }
        passes.last_mut().unwrap().absorb(other);
        let mut counted = BTreeMap::new();
        let mut scratch = Scratch::default();
        for pairs in &passes {
            for block in pairs.blocks() {
                let mut last_item = 0;
                pairs.count(block, &mut scratch, |pair| {
                    assert!(pair.item >= last_item);
                    last_item = pair.item;
                    assert!(pairs.users(block).contains(&pair.user));
                    let rows = (pair.rows, pair.marked_rows);
                    let twice = counted.insert((pair.item, pair.user), rows);
                    assert_eq!(twice, None);
                });
            }
        }
        assert_eq!(counted, naive);
    }

    #[test]
    fn agrees_with_a_map() {
        check(1, 1, 10);
        check(5, 70_000, 20_000);
        check(3_000, 100, 20_000);
        check(1 << 24, 1_000_000, 3_000);
        check(1, 1, 0);
    }
}
