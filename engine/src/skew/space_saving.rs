//! The most frequent keys of a stream in little memory.

use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashMap;

/// Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements
/// in Data Streams", ICDT 2005): so many counters; a key without one takes over the smallest, count
/// and all. A count is never too small, and too large by [`threshold`](Self::threshold) at most, which
/// is at most the stream's weight by the number of counters.
#[derive(Debug)]
pub(super) struct SpaceSaving<K> {
    capacity: usize,
    /// For each key its counter.
    places: HashMap<K, usize>,
    counters: Vec<Counter<K>>,
    /// Counters as a heap with the smallest on top: they stay where they are, so that moving them in
    /// it needs no look into `places`.
    heap: Vec<usize>,
}

#[derive(Debug)]
struct Counter<K> {
    key: K,
    count: u64,
    /// Where it is in the heap.
    at: usize,
}

impl<K: Hash + Eq + Clone> SpaceSaving<K> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            places: HashMap::new(),
            counters: Vec::new(),
            heap: Vec::new(),
        }
    }

    /// Counts a key `weight` times.
    pub(super) fn add<Q>(&mut self, key: &Q, weight: u64)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(place) = self.places.get(key) {
            let counter = &mut self.counters[*place];
            counter.count += weight;
            let at = counter.at;
            self.sink(at);
            return;
        }
        let new = key.to_owned();
        if self.counters.len() < self.capacity {
            let at = self.counters.len();
            self.places.insert(new.clone(), at);
            self.counters.push(Counter {
                key: new,
                count: weight,
                at,
            });
            self.heap.push(at);
            self.rise(at);
        } else {
            let place = self.heap[0];
            let counter = &mut self.counters[place];
            let smallest = std::mem::replace(&mut counter.key, new.clone());
            counter.count += weight;
            self.places.remove(&smallest);
            self.places.insert(new, place);
            self.sink(0);
        }
    }

    /// The keys that were counted most, in that order, with their counts.
    pub(super) fn top(&self, keys: usize) -> Vec<(K, u64)> {
        let all = self.counters.iter();
        let mut all: Vec<(K, u64)> = all.map(|c| (c.key.clone(), c.count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.truncate(keys);
        all
    }

    /// By how much a count may be too large; what a key without a counter may come to.
    pub(super) fn threshold(&self) -> u64 {
        match self.counters.len() < self.capacity {
            true => 0,
            false => self.count(0),
        }
    }

    /// The count at a place of the heap.
    fn count(&self, at: usize) -> u64 {
        self.counters[self.heap[at]].count
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let below = [2 * at + 1, 2 * at + 2];
            let below = below.into_iter().filter(|at| *at < self.heap.len());
            match below.min_by_key(|at| self.count(*at)) {
                Some(least) if self.count(least) < self.count(at) => {
                    self.swap(at, least);
                    at = least;
                }
                _ => return,
            }
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let above = (at - 1) / 2;
            if self.count(above) <= self.count(at) {
                return;
            }
            self.swap(at, above);
            at = above;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for at in [a, b] {
            self.counters[self.heap[at]].at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_within_their_bounds(
            stream in prop::collection::vec((0u16..60, 1u64..5), 0..600), capacity in 1usize..40,
        ) {
            let mut sketch: SpaceSaving<u16> = SpaceSaving::new(capacity);
            let mut truth: BTreeMap<u16, u64> = BTreeMap::new();
            for (key, weight) in &stream {
                sketch.add(key, *weight);
                *truth.entry(*key).or_default() += weight;
            }
            let all: u64 = truth.values().sum();
            prop_assert!(sketch.threshold() <= all / capacity as u64);
            let kept: BTreeMap<u16, u64> =
                sketch.top(capacity).into_iter().collect();
            prop_assert_eq!(kept.values().sum::<u64>(), all);
            for (key, truth) in truth {
                match kept.get(&key) {
                    Some(count) => {
                        prop_assert!(*count >= truth && *count <= truth + sketch.threshold());
                    }
                    None => prop_assert!(truth <= sketch.threshold()),
                }
            }
        }
    }
}
