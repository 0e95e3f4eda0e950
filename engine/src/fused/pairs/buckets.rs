//! Lists of the places of pairs, cut so that each fits the processor's caches.

use super::{Layout, SPREAD};

/// What a bucket keeps of a place.
pub(super) trait Entry: Copy + Eq + Ord + Default + Send + Sync {
    fn of(place: u64) -> Self;
    fn bits(self) -> u64;
}

impl Entry for u32 {
    fn of(place: u64) -> Self {
        place as Self
    }
    fn bits(self) -> u64 {
        u64::from(self)
    }
}

impl Entry for u64 {
    fn of(place: u64) -> Self {
        place
    }
    fn bits(self) -> u64 {
        self
    }
}

/// Lists of entries, with repetitions until they are deduplicated.
#[derive(Debug)]
pub(super) struct Buckets<E> {
    /// Bits of a place that an entry keeps.
    pub(super) entry_bits: u32,
    pub(super) lists: Vec<Vec<E>>,
    scratch: Table<E>,
}

impl<E: Entry> Buckets<E> {
    pub(super) fn new(layout: Layout, bucket_bits: u32) -> Self {
        let mut lists = Vec::new();
        lists.resize_with(1 << bucket_bits, Vec::new);
        Self {
            entry_bits: layout.bits() - bucket_bits,
            lists,
            scratch: Table::default(),
        }
    }

    pub(super) fn entry_mask(&self) -> u64 {
        match self.entry_bits {
            0 => 0,
            bits => u64::MAX >> (64 - bits),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, place: u64, mask: u64) {
        // Shifting by all 64 bits is the one case that can't happen: there are buckets.
        let list = &mut self.lists[(place >> self.entry_bits) as usize];
        if list.len() == list.capacity() {
            grow(list);
        }
        list.push(E::of(place & mask));
    }

    pub(super) fn entries(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// Drops repetitions, unless they may stay. How many entries there are then.
    pub(super) fn compact_unless(&mut self, may_stay: bool) -> usize {
        if !may_stay {
            self.compact();
        }
        self.entries()
    }

    fn compact(&mut self) {
        for list in &mut self.lists {
            let mut kept = 0;
            self.scratch.reset(list.len());
            for i in 0..list.len() {
                let entry = list[i];
                if self.scratch.insert(entry) {
                    list[kept] = entry;
                    kept += 1;
                }
            }
            list.truncate(kept);
        }
    }

    pub(super) fn for_each(&mut self, mut found: impl FnMut(u64)) {
        for (bucket, list) in self.lists.iter().enumerate() {
            let high = (bucket as u64) << self.entry_bits;
            self.scratch.reset(list.len());
            for entry in list {
                if self.scratch.insert(*entry) {
                    found(high | entry.bits());
                }
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        let lists: usize = self.lists.iter().map(Vec::capacity).sum();
        lists * size_of::<E>() + self.scratch.slots.len() * size_of::<E>()
    }
}

/// By a quarter rather than double: pairs are most of the memory that a task holds.
#[cold]
fn grow<E>(list: &mut Vec<E>) {
    list.reserve_exact((list.len() / 4).max(1 << 10));
}

/// A hash table of entries, used again and again.
#[derive(Debug, Default)]
pub(super) struct Table<E> {
    slots: Vec<E>,
    shift: u32,
    mask: usize,
    /// The empty slot looks like this entry, which is remembered apart.
    has_default: bool,
}

impl<E: Entry> Table<E> {
    /// Makes room for `entries`, at most half of the slots.
    pub(super) fn reset(&mut self, entries: usize) {
        let slots = (2 * entries).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, E::default());
        self.shift = 64 - slots.trailing_zeros();
        self.mask = slots - 1;
        self.has_default = false;
    }

    /// Whether the entry is new.
    #[inline]
    pub(super) fn insert(&mut self, entry: E) -> bool {
        if entry == E::default() {
            return !std::mem::replace(&mut self.has_default, true);
        }
        let mut at = (entry.bits().wrapping_mul(SPREAD) >> self.shift) as usize;
        loop {
            let slot = self.slots[at & self.mask];
            if slot == entry {
                return false;
            }
            if slot == E::default() {
                self.slots[at & self.mask] = entry;
                return true;
            }
            at += 1;
        }
    }
}
