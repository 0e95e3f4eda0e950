//! An exact set of (group, value) pairs that adapts to how many there are.
//!
//! A pair is packed into the fewest bits: the group's number above, the value's offset from a base
//! below. Multiplying by an odd number modulo 2^bits moves every packed pair to a place of its own
//! and spreads the pairs of a hot group, and of a hot value, evenly over all places. The top bits of
//! the place choose a bucket, so that each bucket fits the processor's caches when it is
//! deduplicated; only the rest is kept, mostly four bytes for a pair. Where the pairs fill a good
//! part of all places, a bitmap takes less, and takes their place.
//!
//! Radix partitioning before hashing: Boncz, Manegold, Kersten, "Database Architecture Optimized
//! for the New Bottleneck" (VLDB 1999). Multiplicative hashing: Knuth, TAOCP 3, 6.4.

mod buckets;
mod windows;

use hashbrown::HashSet;

use self::buckets::{Buckets, Entry, Table};
pub(super) use self::windows::{WindowCounts, count_windows};

/// Odd, so multiplication by it modulo a power of two can be undone: 2^64 / golden ratio.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const SPREAD_INVERSE: u64 = inverse(SPREAD);

/// Buckets are at least 2^this; more of them make each fit a cache.
const MIN_BUCKET_BITS: u32 = 8;
/// But writing to more than 2^this at once misses the caches.
const MAX_BUCKET_BITS: u32 = 11;
/// A bitmap of at most 2^this places is used from the start.
const SMALL_BITMAP_BITS: u32 = 23;
/// One of at most 2^this, 16 MiB, as soon as the lists take as much.
const EAGER_BITMAP_BITS: u32 = 27;
/// A set is deduplicated for the first time at so many entries.
const FIRST_COMPACTION: usize = 32 << 20;
/// Values outside of the window before it is widened.
const MAX_OUTLIERS: usize = 1 << 12;

/// Entries that take what a bitmap takes: eight places in a byte against at least four bytes each.
const fn entries_as_bitmap(bits: u32) -> usize {
    1 << bits.saturating_sub(5)
}

/// Newton's iteration for the inverse modulo 2^64; each step doubles the right bits.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

/// How groups and values share the bits of a packed pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    group_bits: u32,
    value_bits: u32,
    /// The smallest value that is packed.
    base: i64,
}

impl Layout {
    fn bits(self) -> u32 {
        self.group_bits + self.value_bits
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// Entries at which a set is compacted for the first time.
    fn first_compaction(self) -> usize {
        match self.bits() {
            bits @ 0..=EAGER_BITMAP_BITS => entries_as_bitmap(bits),
            _ => FIRST_COMPACTION,
        }
    }

    fn place(self, group: u32, offset: u64) -> u64 {
        let packed = u64::from(group) << self.value_bits | offset;
        packed.wrapping_mul(SPREAD) & self.mask()
    }

    fn packed(self, place: u64) -> u64 {
        place.wrapping_mul(SPREAD_INVERSE) & self.mask()
    }

    fn pair(self, place: u64) -> (u32, i64) {
        let packed = self.packed(place);
        let offset = packed & (u64::MAX >> (64 - self.value_bits));
        let group = (packed >> self.value_bits) as u32;
        (group, self.base.wrapping_add(offset as i64))
    }
}

/// The values that are packed.
struct Window {
    layout: Layout,
    /// The largest offset.
    end: u64,
}

impl Window {
    /// Generic over what takes the places: a call for each row would cost more than the rest.
    #[inline]
    fn each(
        &self,
        groups: &[u32],
        values: &[i64],
        keep: impl Fn(usize) -> bool,
        outliers: &mut HashSet<(u32, i64)>,
        mut set: impl FnMut(u64),
    ) {
        for (row, (group, value)) in groups.iter().zip(values).enumerate() {
            if !keep(row) {
                continue;
            }
            let offset = value.wrapping_sub(self.layout.base) as u64;
            if offset <= self.end {
                set(self.layout.place(*group, offset));
            } else {
                outliers.insert((*group, *value));
            }
        }
    }
}

#[derive(Debug)]
enum Form {
    Bitmap(Vec<u64>),
    Narrow(Buckets<u32>),
    Wide(Buckets<u64>),
}

impl Form {
    fn new(layout: Layout) -> Self {
        let bits = layout.bits();
        if bits <= SMALL_BITMAP_BITS {
            return Self::Bitmap(vec![0; (1usize << bits).div_ceil(64)]);
        }
        let bucket_bits = bits.saturating_sub(u32::BITS).max(MIN_BUCKET_BITS);
        if bucket_bits <= MAX_BUCKET_BITS {
            Self::Narrow(Buckets::new(layout, bucket_bits))
        } else {
            Self::Wide(Buckets::new(layout, MIN_BUCKET_BITS))
        }
    }
}

/// An exact set of (group, value) pairs; groups are numbered from 0.
#[derive(Debug)]
pub(super) struct PairSet {
    layout: Layout,
    form: Form,
    /// Entries at which the set is deduplicated next.
    compact_at: usize,
    pushed: usize,
    /// Pairs whose value lies outside of the window.
    outliers: HashSet<(u32, i64)>,
    widen_at: usize,
}

impl PairSet {
    /// For groups below `groups` and values from `min` to `max`. Others can be added, at the cost
    /// of a rearrangement.
    pub(super) fn new(groups: usize, min: i64, max: i64) -> Self {
        let layout = layout(groups, min, max);
        Self {
            form: Form::new(layout),
            compact_at: layout.first_compaction(),
            layout,
            pushed: 0,
            outliers: HashSet::new(),
            widen_at: MAX_OUTLIERS,
        }
    }

    /// As [`PairSet::new`], but its layout never changes: other values stay apart.
    pub(super) fn fixed(groups: usize, min: i64, max: i64) -> Self {
        Self {
            widen_at: usize::MAX,
            ..Self::new(groups, min, max)
        }
    }

    /// Makes room for groups below `groups`.
    pub(super) fn reserve_groups(&mut self, groups: usize) {
        if self.layout.group_bits < u32::BITS && groups > 1 << self.layout.group_bits {
            // One bit more than needed: groups come one by one.
            self.rearrange(Layout {
                group_bits: bits_of(groups as u64).min(u32::BITS - 1) + 1,
                ..self.layout
            });
        }
    }

    /// Adds the pairs of `groups` and `values` for which `keep` says so; all groups are below what
    /// room was made for.
    #[inline]
    pub(super) fn insert_all(
        &mut self,
        groups: &[u32],
        values: &[i64],
        keep: impl Fn(usize) -> bool,
    ) {
        let window = Window {
            layout: self.layout,
            end: match self.layout.value_bits {
                64 => u64::MAX,
                bits => (1u64 << bits) - 1,
            },
        };
        let outliers = &mut self.outliers;
        match &mut self.form {
            Form::Bitmap(words) => window.each(groups, values, keep, outliers, |place| {
                words[(place >> 6) as usize] |= 1 << (place & 63);
            }),
            Form::Narrow(buckets) => {
                let mask = buckets.entry_mask();
                let push = |place| buckets.push(place, mask);
                window.each(groups, values, keep, outliers, push);
                self.pushed += values.len();
            }
            Form::Wide(buckets) => {
                let mask = buckets.entry_mask();
                let push = |place| buckets.push(place, mask);
                window.each(groups, values, keep, outliers, push);
                self.pushed += values.len();
            }
        }
        if self.pushed > self.compact_at {
            self.compact();
        }
        if self.outliers.len() > self.widen_at {
            self.widen();
        }
    }

    /// Drops repetitions, or turns to a bitmap where that takes less. Without any repetition, that
    /// costs about as much as adding: so it happens each time that the set has doubled.
    pub(super) fn compact(&mut self) {
        let bits = self.layout.bits();
        // A small bitmap is cheaper than looking for repetitions first.
        let few = bits <= EAGER_BITMAP_BITS;
        let entries = match &mut self.form {
            Form::Bitmap(_) => return,
            Form::Narrow(buckets) => buckets.compact_unless(few),
            Form::Wide(buckets) => buckets.compact_unless(few),
        };
        // Not what was offered: rows may have been left out.
        self.pushed = entries;
        self.compact_at = match few {
            true => entries_as_bitmap(bits),
            false => (2 * entries).max(FIRST_COMPACTION),
        };
        if bits < 40 && entries >= entries_as_bitmap(bits) {
            self.become_bitmap();
        }
    }

    fn become_bitmap(&mut self) {
        let mut words = vec![0u64; (1usize << self.layout.bits()).div_ceil(64)];
        self.for_each_place(|place| words[(place >> 6) as usize] |= 1 << (place & 63));
        self.form = Form::Bitmap(words);
        self.pushed = 0;
    }

    fn for_each_place(&mut self, mut found: impl FnMut(u64)) {
        match &mut self.form {
            Form::Bitmap(words) => {
                for (i, word) in words.iter().enumerate() {
                    let mut rest = *word;
                    while rest != 0 {
                        found(i as u64 * 64 + u64::from(rest.trailing_zeros()));
                        rest &= rest - 1;
                    }
                }
            }
            Form::Narrow(buckets) => buckets.for_each(found),
            Form::Wide(buckets) => buckets.for_each(found),
        }
    }

    /// Every pair once, in no order.
    pub(super) fn for_each(&mut self, mut found: impl FnMut(u32, i64)) {
        let layout = self.layout;
        self.for_each_place(|place| {
            let (group, value) = layout.pair(place);
            found(group, value);
        });
        for (group, value) in &self.outliers {
            found(*group, *value);
        }
    }

    /// Adds the number of values of each group to `counts`, which has a place for every group.
    pub(super) fn add_counts(&mut self, counts: &mut [u64]) {
        let layout = self.layout;
        self.for_each_place(|place| {
            counts[(layout.packed(place) >> layout.value_bits) as usize] += 1;
        });
        for (group, _) in &self.outliers {
            counts[*group as usize] += 1;
        }
    }

    /// The smallest and the largest value that is packed.
    pub(super) fn window(&self) -> (i64, i64) {
        let top = self.layout.base as i128 + ((1i128 << self.layout.value_bits) - 1);
        (self.layout.base, i64::try_from(top).unwrap_or(i64::MAX))
    }

    /// Whether a pair has the same place in both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.layout == other.layout
    }

    fn narrow(&self) -> Option<&Buckets<u32>> {
        match &self.form {
            Form::Narrow(buckets) => Some(buckets),
            _ => None,
        }
    }

    fn wide(&self) -> Option<&Buckets<u64>> {
        match &self.form {
            Form::Wide(buckets) => Some(buckets),
            _ => None,
        }
    }

    /// Adds all pairs of another set, whose groups are below what room was made for.
    fn absorb(&mut self, mut other: Self) {
        match (&mut self.form, &other.form) {
            (Form::Bitmap(words), Form::Bitmap(others)) if self.layout == other.layout => {
                words
                    .iter_mut()
                    .zip(others)
                    .for_each(|(word, other)| *word |= other);
                self.outliers.extend(other.outliers.drain());
            }
            _ => other.for_each(|group, value| self.insert_all(&[group], &[value], |_| true)),
        }
    }

    /// Forgets all pairs, but keeps its room.
    pub(super) fn clear(&mut self) {
        match &mut self.form {
            Form::Bitmap(words) => words.fill(0),
            Form::Narrow(buckets) => buckets.lists.iter_mut().for_each(Vec::clear),
            Form::Wide(buckets) => buckets.lists.iter_mut().for_each(Vec::clear),
        }
        self.outliers.clear();
        self.pushed = 0;
        self.compact_at = self.layout.first_compaction();
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let form = match &self.form {
            Form::Bitmap(words) => words.len() * size_of::<u64>(),
            Form::Narrow(buckets) => buckets.size(),
            Form::Wide(buckets) => buckets.size(),
        };
        form + self.outliers.capacity() * (size_of::<(u32, i64)>() + 1)
    }

    /// Widens the window so that it holds the outliers, if that leaves the pairs in 64 bits.
    fn widen(&mut self) {
        let values = || self.outliers.iter().map(|(_, value)| *value);
        let (Some(least), Some(most)) = (values().min(), values().max()) else {
            return;
        };
        let top = self.layout.base as i128 + ((1i128 << self.layout.value_bits) - 1);
        let min = least.min(self.layout.base);
        let max = most.max(i64::try_from(top).unwrap_or(i64::MAX));
        let widened = layout(1usize << self.layout.group_bits.min(u32::BITS), min, max);
        if widened.value_bits > self.layout.value_bits
            && widened.bits() <= u64::BITS
            && widened.group_bits >= self.layout.group_bits
        {
            self.rearrange(widened);
        }
        self.widen_at = 2 * self.outliers.len() + MAX_OUTLIERS;
    }

    fn rearrange(&mut self, mut layout: Layout) {
        // What doesn't fit 64 bits lies outside of a smaller window.
        layout.value_bits = layout.value_bits.min(u64::BITS - layout.group_bits);
        let mut old = std::mem::replace(
            self,
            Self {
                form: Form::new(layout),
                layout,
                compact_at: layout.first_compaction(),
                pushed: 0,
                outliers: HashSet::new(),
                widen_at: usize::MAX,
            },
        );
        old.for_each(|group, value| self.insert_all(&[group], &[value], |_| true));
        self.widen_at = 2 * self.outliers.len() + MAX_OUTLIERS;
    }
}

/// The number of values of each group in the union of some sets, counted by so many threads. A
/// thread takes the same buckets of all sets: nothing is moved.
pub(super) fn count_union(mut sets: Vec<PairSet>, groups: usize, threads: usize) -> Vec<u64> {
    let mut counts = vec![0u64; groups];
    let alike = sets.windows(2).all(|pair| pair[0].is_like(&pair[1]));
    let narrow: Option<Vec<&Buckets<u32>>> = sets.iter().map(PairSet::narrow).collect();
    let wide: Option<Vec<&Buckets<u64>>> = sets.iter().map(PairSet::wide).collect();
    match (alike, sets.first().map(|set| set.layout), narrow, wide) {
        (true, Some(layout), Some(all), _) => count_buckets(&all, layout, &mut counts, threads),
        (true, Some(layout), _, Some(all)) => count_buckets(&all, layout, &mut counts, threads),
        _ => {
            let mut rest = sets.into_iter();
            let Some(mut union) = rest.next() else {
                return counts;
            };
            union.reserve_groups(groups);
            rest.for_each(|set| union.absorb(set));
            union.add_counts(&mut counts);
            return counts;
        }
    }
    let mut outliers = HashSet::new();
    for set in &mut sets {
        outliers.extend(set.outliers.drain());
    }
    for (group, _) in outliers {
        counts[group as usize] += 1;
    }
    counts
}

fn count_buckets<E: Entry>(
    all: &[&Buckets<E>],
    layout: Layout,
    counts: &mut [u64],
    threads: usize,
) {
    let buckets = all[0].lists.len();
    let share = buckets.div_ceil(threads.max(1));
    let groups = counts.len();
    let count = |from: usize| {
        let mut counts = vec![0u64; groups];
        let mut table = Table::default();
        for bucket in from..(from + share).min(buckets) {
            let high = (bucket as u64) << all[0].entry_bits;
            table.reset(all.iter().map(|set| set.lists[bucket].len()).sum());
            for entry in all.iter().flat_map(|set| &set.lists[bucket]) {
                if table.insert(*entry) {
                    let place = high | entry.bits();
                    counts[(layout.packed(place) >> layout.value_bits) as usize] += 1;
                }
            }
        }
        counts
    };
    std::thread::scope(|scope| {
        let count = &count;
        let work = (0..buckets)
            .step_by(share)
            .map(|from| scope.spawn(move || count(from)));
        // All are begun before the first is waited for.
        let work: Vec<_> = work.collect();
        for work in work {
            let found = work.join();
            let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            counts
                .iter_mut()
                .zip(found)
                .for_each(|(all, found)| *all += found);
        }
    });
}

/// Bits that numbers below `count` take.
fn bits_of(count: u64) -> u32 {
    u64::BITS - count.saturating_sub(1).leading_zeros()
}

fn layout(groups: usize, min: i64, max: i64) -> Layout {
    let group_bits = bits_of(groups as u64).clamp(1, u32::BITS);
    let span = max.wrapping_sub(min) as u64;
    let value_bits = bits_of(span.saturating_add(1)).clamp(1, u64::BITS - group_bits);
    Layout {
        group_bits,
        value_bits,
        base: min,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// Numbers from a small range, a large one, and the ends of all.
    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -20i64..200,
            2 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
            1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1, 1 << 32, u32::MAX.into()]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn equals_a_set(
            pairs in prop::collection::vec((0u32..3_000, value()), 0..400),
            groups in prop::sample::select(vec![1usize, 100, 3_000, 1 << 20]),
            window in prop::sample::select(vec![
                (0i64, 0i64), (0, 100), (-20, 199), (0, 1 << 31), (-5, 1 << 40), (i64::MIN, i64::MAX),
            ]),
            compact_every in 1usize..200,
        ) {
            let mut set = PairSet::new(groups, window.0, window.1);
            set.widen_at = 20;
            let mut expected = BTreeSet::new();
            for (i, (group, value)) in pairs.iter().enumerate() {
                set.reserve_groups(*group as usize + 1);
                set.insert_all(&[*group, *group], &[*value, i64::MIN], |row| row == 0);
                expected.insert((*group, *value));
                if i % compact_every == 0 {
                    set.compact();
                }
            }
            let mut found = Vec::new();
            set.for_each(|group, value| found.push((group, value)));
            found.sort_unstable();
            prop_assert_eq!(&found, &expected.iter().copied().collect::<Vec<_>>());

            let mut counts = vec![0; 3_000];
            set.add_counts(&mut counts);
            for (group, count) in counts.iter().enumerate() {
                let of_group = expected.iter().filter(|(g, _)| *g as usize == group).count();
                prop_assert_eq!(*count as usize, of_group);
            }
            set.clear();
            set.for_each(|_, _| panic!("a pair is left"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(8),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_union_is_counted_as_one_set(
            tasks in prop::collection::vec(prop::collection::vec((0u32..300, value()), 0..200), 0..4),
            // The same window in all, or another one in each.
            windows in prop::sample::select(vec![
                vec![(0i64, 100i64)], vec![(0, 1 << 31)], vec![(0, 1 << 50)],
                vec![(-20, 199), (0, 1 << 31)], vec![(0, 1 << 40), (0, 1 << 41), (0, 5)],
            ]),
            groups in prop::sample::select(vec![300usize, 1 << 17]),
            threads in 1usize..5,
        ) {
            let mut expected = BTreeSet::new();
            let sets = tasks.iter().enumerate().map(|(at, pairs)| {
                let (min, max) = windows[at % windows.len()];
                let mut set = PairSet::new(groups, min, max);
                set.widen_at = 20;
                for (group, value) in pairs {
                    set.insert_all(&[*group], &[*value], |_| true);
                    expected.insert((*group, *value));
                }
                set
            });
            let counts = count_union(sets.collect(), groups, threads);
            prop_assert_eq!(counts.len(), groups);
            for (group, count) in counts.iter().enumerate().take(300) {
                let of_group = expected.iter().filter(|(g, _)| *g as usize == group).count();
                prop_assert_eq!(*count as usize, of_group);
            }
        }
    }

    #[test]
    fn becomes_a_bitmap_where_that_is_smaller() {
        let mut set = PairSet::new(1 << 10, 0, (1 << 16) - 1);
        assert!(matches!(set.form, Form::Narrow(_)));
        let values: Vec<i64> = (0..1 << 16).collect();
        for group in 0..64 {
            set.insert_all(&vec![group; values.len()], &values, |_| true);
        }
        set.compact();
        assert!(matches!(set.form, Form::Bitmap(_)));
        let mut counts = vec![0; 1 << 10];
        set.add_counts(&mut counts);
        assert_eq!(counts[..65], [&[1 << 16; 64][..], &[0]].concat());
    }

    #[test]
    fn a_hot_group_and_a_hot_value_fill_all_buckets_alike() {
        let hot_group = (vec![7; 1 << 20], (0..1 << 20).collect::<Vec<i64>>());
        let hot_value = ((0..1 << 20).collect::<Vec<u32>>(), vec![7; 1 << 20]);
        for (groups, values) in [hot_group, hot_value] {
            let mut set = PairSet::new(1 << 20, 0, (1 << 20) - 1);
            set.insert_all(&groups, &values, |_| true);
            let Form::Narrow(buckets) = &set.form else {
                panic!("not narrow")
            };
            let sizes: Vec<usize> = buckets.lists.iter().map(Vec::len).collect();
            let mean = (1 << 20) / sizes.len();
            assert!(
                sizes.iter().all(|size| (mean / 2..2 * mean).contains(size)),
                "{sizes:?}"
            );
        }
    }
}
