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
    places: HashMap<K, usize>,
    /// A heap with the smallest count on top.
    counters: Vec<(K, u64)>,
}

impl<K: Hash + Eq + Clone> SpaceSaving<K> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            places: HashMap::new(),
            counters: Vec::new(),
        }
    }

    /// Counts a key `weight` times.
    pub(super) fn add<Q>(&mut self, key: &Q, weight: u64)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(place) = self.places.get(key) {
            let place = *place;
            self.counters[place].1 += weight;
            self.sink(place);
            return;
        }
        let new = key.to_owned();
        if self.counters.len() < self.capacity {
            let place = self.counters.len();
            self.places.insert(new.clone(), place);
            self.counters.push((new, weight));
            self.rise(place);
        } else {
            let smallest = std::mem::replace(&mut self.counters[0].0, new.clone());
            self.places.remove(&smallest);
            self.places.insert(new, 0);
            self.counters[0].1 += weight;
            self.sink(0);
        }
    }

    /// The keys that were counted most, in that order, with their counts.
    pub(super) fn top(&self, keys: usize) -> Vec<(K, u64)> {
        let mut all = self.counters.clone();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all.truncate(keys);
        all
    }

    /// By how much a count may be too large; what a key without a counter may come to.
    pub(super) fn threshold(&self) -> u64 {
        match self.counters.len() < self.capacity {
            true => 0,
            false => self.counters[0].1,
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2];
            let below = below.into_iter().filter(|at| *at < self.counters.len());
            match below.min_by_key(|at| self.counters[*at].1) {
                Some(least) if self.counters[least].1 < self.counters[place].1 => {
                    self.swap(place, least);
                    place = least;
                }
                _ => return,
            }
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.counters[above].1 <= self.counters[place].1 {
                return;
            }
            self.swap(place, above);
            place = above;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.counters.swap(a, b);
        for place in [a, b] {
            if let Some(known) = self.places.get_mut(&self.counters[place].0) {
                *known = place;
            }
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
