//! Counts the distinct values of groups in windows of days, from one set of pairs a day.
//!
//! A pair's days are the bits of a word: it is in a window if it has a bit in common with it. So each
//! pair is met once, however many windows there are.

use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;

use super::buckets::Entry;
use super::{Form, Layout, MIN_BUCKET_BITS, PairSet, SPREAD};

/// Bytes of counts that lie together, so that they stay in a cache while values are counted.
const REGION_BYTES: usize = 1 << 19;

/// For each window by how much the number of values of each group is larger than in the window
/// before.
pub(in crate::fused) struct WindowCounts {
    windows: usize,
    next: usize,
    /// Of so many groups each, in their order.
    regions: Vec<Counts>,
}

/// Counts of some groups, one window after the other.
struct Counts {
    groups: usize,
    more: Vec<i32>,
}

impl Counts {
    fn new(groups: usize, windows: usize) -> Self {
        Self {
            groups,
            more: vec![0; groups * windows],
        }
    }

    /// Counts a value that a group has on some days.
    #[inline]
    fn add(&mut self, group: usize, days: u64, windows: &[u64]) {
        let mut was_in = false;
        for (at, window) in windows.iter().enumerate() {
            let is_in = days & window != 0;
            if is_in != was_in {
                self.more[at * self.groups + group] += i32::from(is_in) - i32::from(was_in);
                was_in = is_in;
            }
        }
    }
}

impl WindowCounts {
    /// Goes on from the counts of a window to those of the next.
    pub(in crate::fused) fn add_next(&mut self, counts: &mut [i64]) {
        if self.next == self.windows {
            return;
        }
        let mut rest = counts;
        for region in &self.regions {
            let (counts, others) = rest.split_at_mut(region.groups.min(rest.len()));
            let of_window = &region.more[self.next * region.groups..];
            for (count, more) in counts.iter_mut().zip(of_window) {
                *count += i64::from(*more);
            }
            rest = others;
        }
        self.next += 1;
    }
}

/// Counts the values of each group, which are below `groups`, in some windows, by so many threads.
/// Each set has the bit of its day; a window is the bits of its days. The sets have one layout.
pub(in crate::fused) fn count_windows(
    sets: Vec<(u64, PairSet)>,
    windows: &[u64],
    groups: usize,
    threads: usize,
) -> WindowCounts {
    let mut regions = Vec::new();
    if let Some(layout) = sets.first().map(|(_, set)| set.layout) {
        let days = sets.iter().fold(0, |days, (bit, _)| days | bit);
        let few_days = u32::try_from(days).is_ok();
        let count = match (few_days, entry_bits(&sets, layout) <= u32::BITS) {
            (true, true) => count_buckets::<u32, u32>,
            (false, true) => count_buckets::<u32, u64>,
            (_, false) => count_buckets::<u64, u64>,
        };
        regions = count(sets, layout, windows, groups, threads.max(1));
    }
    WindowCounts {
        windows: windows.len(),
        next: 0,
        regions,
    }
}

/// Bits of a place below the bucket's number. Lists have that number fixed, a bitmap can be cut
/// anywhere.
fn entry_bits(sets: &[(u64, PairSet)], layout: Layout) -> u32 {
    let of_lists = sets.iter().find_map(|(_, set)| match &set.form {
        Form::Bitmap(_) => None,
        Form::Narrow(buckets) => Some(buckets.entry_bits),
        Form::Wide(buckets) => Some(buckets.entry_bits),
    });
    // A bucket of a bitmap is whole words.
    let of_bitmaps = (layout.bits().saturating_sub(MIN_BUCKET_BITS)).max(u64::BITS.ilog2());
    of_lists.unwrap_or(of_bitmaps.min(layout.bits()))
}

/// What is found in a bucket of values goes to its group's region first, as a group and its days, and
/// is counted region by region: counted at once, each would wait for the memory of its group.
fn count_buckets<E: Entry, M: Entry>(
    mut sets: Vec<(u64, PairSet)>,
    layout: Layout,
    windows: &[u64],
    groups: usize,
    threads: usize,
) -> Vec<Counts> {
    let region_bytes = windows.len().max(1) * size_of::<i32>();
    let region_groups = (REGION_BYTES / region_bytes).max(1).next_power_of_two();
    let region_bits = region_groups.ilog2();
    let regions = groups.div_ceil(region_groups);

    let mut outliers: HashMap<(u32, i64), u64> = HashMap::new();
    for (bit, set) in &mut sets {
        for pair in set.outliers.drain() {
            *outliers.entry(pair).or_default() |= *bit;
        }
    }
    let mut of_outliers = vec![Vec::new(); regions];
    for ((group, _), days) in outliers {
        of_outliers[group as usize >> region_bits].push((group, M::of(days)));
    }

    let entry_bits = entry_bits(&sets, layout);
    let buckets = 1usize << (layout.bits() - entry_bits);
    let next = AtomicUsize::new(0);
    let find = || {
        let mut found = vec![Vec::new(); regions];
        let mut table = DayTable::<E, M>::default();
        loop {
            let bucket = next.fetch_add(1, Ordering::Relaxed);
            if bucket >= buckets {
                return found;
            }
            let lens = sets.iter().map(|(_, set)| set.len_of(bucket, entry_bits));
            table.reset(lens.sum());
            for (bit, set) in &sets {
                let days = M::of(*bit);
                set.for_each_in(bucket, entry_bits, |bits| table.add(E::of(bits), days));
            }
            let high = (bucket as u64) << entry_bits;
            for (entry, days) in table.slots.iter().filter(|slot| slot.1 != M::default()) {
                let packed = layout.packed(high | entry.bits());
                let group = (packed >> layout.value_bits) as u32;
                found[group as usize >> region_bits].push((group, *days));
            }
        }
    };
    let mut found: Vec<Vec<Vec<(u32, M)>>> = in_threads(threads, find);
    drop(sets);
    found.push(of_outliers);

    let next = AtomicUsize::new(0);
    let count = || {
        let mut counted = Vec::new();
        loop {
            let region = next.fetch_add(1, Ordering::Relaxed);
            if region >= regions {
                return counted;
            }
            let first = region << region_bits;
            let mut counts = Counts::new(region_groups.min(groups - first), windows.len());
            for (group, days) in found.iter().flat_map(|regions| &regions[region]) {
                counts.add(*group as usize - first, days.bits(), windows);
            }
            counted.push((region, counts));
        }
    };
    let mut counted: Vec<(usize, Counts)> =
        in_threads(threads, count).into_iter().flatten().collect();
    counted.sort_unstable_by_key(|(region, _)| *region);
    counted.into_iter().map(|(_, counts)| counts).collect()
}

/// What each of some threads gives.
fn in_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let done = work.into_iter().map(|work| work.join());
        done.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl PairSet {
    /// Entries of a bucket, with repetitions.
    fn len_of(&self, bucket: usize, entry_bits: u32) -> usize {
        match &self.form {
            Form::Bitmap(words) => {
                let words = &words[words_of(bucket, entry_bits)];
                words.iter().map(|word| word.count_ones() as usize).sum()
            }
            Form::Narrow(buckets) => buckets.lists[bucket].len(),
            Form::Wide(buckets) => buckets.lists[bucket].len(),
        }
    }

    /// The places in a bucket, without the bucket's number, with repetitions.
    #[inline]
    fn for_each_in(&self, bucket: usize, entry_bits: u32, mut found: impl FnMut(u64)) {
        match &self.form {
            Form::Bitmap(words) => {
                for (i, word) in words[words_of(bucket, entry_bits)].iter().enumerate() {
                    let mut rest = *word;
                    while rest != 0 {
                        found(i as u64 * 64 + u64::from(rest.trailing_zeros()));
                        rest &= rest - 1;
                    }
                }
            }
            Form::Narrow(buckets) => buckets.lists[bucket].iter().for_each(|e| found(e.bits())),
            Form::Wide(buckets) => buckets.lists[bucket].iter().for_each(|e| found(e.bits())),
        }
    }
}

fn words_of(bucket: usize, entry_bits: u32) -> std::ops::Range<usize> {
    let words = (1usize << entry_bits).div_ceil(64);
    bucket * words..(bucket + 1) * words
}

/// A hash table from entries to their days, used again and again. Without a day a slot is empty.
struct DayTable<E, M> {
    slots: Vec<(E, M)>,
    shift: u32,
}

impl<E, M> Default for DayTable<E, M> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            shift: 0,
        }
    }
}

impl<E: Entry, M: Entry> DayTable<E, M> {
    /// Makes room for `entries`, at most four fifths of the slots.
    fn reset(&mut self, entries: usize) {
        let slots = (entries + entries / 4).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, (E::default(), M::default()));
        self.shift = 64 - slots.trailing_zeros();
    }

    #[inline]
    fn add(&mut self, entry: E, day: M) {
        let mask = self.slots.len() - 1;
        let mut at = (entry.bits().wrapping_mul(SPREAD) >> self.shift) as usize;
        loop {
            let (other, days) = &mut self.slots[at & mask];
            if *days == M::default() {
                *other = entry;
            }
            if *other == entry {
                *days = M::of(days.bits() | day.bits());
                return;
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(21),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_value_is_in_a_window_if_one_of_its_days_is(
            days in prop::collection::vec(
                prop::collection::vec((0u32..200, prop_oneof![0i64..40, any::<i64>()]), 0..150),
                1..6,
            ),
            // A bitmap, lists of four bytes an entry, and of eight.
            (groups, largest) in prop::sample::select(vec![
                (200usize, 40i64), (1 << 10, 1 << 15), (1 << 17, 1 << 20), (1 << 17, 1 << 50),
            ]),
            first_bit in prop::sample::select(vec![0usize, 40]),
            windows in prop::collection::vec(any::<u8>(), 1..5),
            dense_day in any::<bool>(),
            threads in 1usize..4,
        ) {
            let mut expected: BTreeMap<(u32, i64), u64> = BTreeMap::new();
            let mut sets = Vec::new();
            for (day, pairs) in days.iter().enumerate() {
                let bit = 1u64 << (first_bit + day);
                let mut set = PairSet::fixed(groups, 0, largest);
                for (group, value) in pairs {
                    set.insert_all(&[*group], &[*value], |_| true);
                    *expected.entry((*group, *value)).or_default() |= bit;
                }
                if dense_day && day == 0 && set.layout.bits() < 28 {
                    set.become_bitmap();
                }
                sets.push((bit, set));
            }
            let windows: Vec<u64> = windows.iter().map(|w| u64::from(*w) << first_bit).collect();
            let mut counted = count_windows(sets, &windows, groups, threads);
            let mut counts = vec![0i64; groups];
            for window in &windows {
                counted.add_next(&mut counts);
                let mut of_window = vec![0i64; groups];
                for ((group, _), days) in &expected {
                    of_window[*group as usize] += i64::from(days & window != 0);
                }
                prop_assert_eq!(&counts, &of_window);
            }
        }
    }
}
