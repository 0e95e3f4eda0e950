//! Draws from fixed distributions at a constant cost: one table look-up or two.
//!
//! Floating point is used only while a table is built.

use crate::random::mix;

const PICK_SLOTS: usize = 1024;

/// A choice among at most 256 alternatives, with shares rounded to 1/1024: ten random bits index a table.
#[derive(Debug)]
pub(crate) struct Pick {
    slots: [u8; PICK_SLOTS],
}

impl Pick {
    /// Alternatives with integer weights, not all 0. A weight above 0 gets at least one slot while slots last.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let mut slots = [0; PICK_SLOTS];
        let mut sum = 0;
        let mut filled = 0;
        for (choice, &weight) in (0..=u8::MAX).zip(weights) {
            sum += u64::from(weight);
            let rounded = (sum * PICK_SLOTS as u64 + total / 2) / total.max(1);
            let least = filled + usize::from(weight > 0);
            let end = (rounded as usize).max(least).min(PICK_SLOTS);
            slots[filled..end].fill(choice);
            filled = end;
        }
        Self { slots }
    }

    /// The choice for the lowest ten bits of `bits`.
    #[inline]
    pub(crate) fn draw(&self, bits: u64) -> u8 {
        self.slots[bits as usize % PICK_SLOTS]
    }
}

/// One column of an alias table: the column's own index below `keep`, else `other`.
#[derive(Clone, Copy, Debug)]
struct Column {
    keep: u32,
    other: u32,
}

/// A draw from many weighted indexes in constant time (Vose's alias method, 1991).
#[derive(Debug, Default)]
pub(crate) struct Alias {
    columns: Vec<Column>,
}

impl Alias {
    /// Indexes with weights ≥ 0, not all 0; there are at most 2^32 of them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "probabilities scaled to 32 bits"
    )]
    pub(crate) fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let scale = weights.len() as f64 / total;
        let mut scaled: Vec<f64> = weights.iter().map(|w| w * scale).collect();
        let mut columns: Vec<Column> = (0..weights.len() as u32)
            .map(|i| Column {
                keep: u32::MAX,
                other: i,
            })
            .collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| scaled[i as usize] < 1.0);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            let share = scaled[poor as usize];
            columns[poor as usize] = Column {
                keep: (share * 4_294_967_296.0) as u32,
                other: rich,
            };
            scaled[rich as usize] -= 1.0 - share;
            if scaled[rich as usize] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        // Rounding may leave columns over; they are all but full, save those of no weight.
        for &poor in small.iter().filter(|&&i| weights[i as usize] == 0.0) {
            let other = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
            columns[poor as usize] = Column {
                keep: 0,
                other: other.unwrap_or_default() as u32,
            };
        }
        Self { columns }
    }

    /// The index for a word: its upper half chooses the column, its lower half the side.
    #[inline]
    pub(crate) fn draw(&self, word: u64) -> u32 {
        let index = ((word >> 32) * self.columns.len() as u64) >> 32;
        let column = self.columns[index as usize];
        if (word as u32) < column.keep {
            index as u32
        } else {
            column.other
        }
    }
}

/// A Zipf draw over any number of ranks from a table that stays in the first-level cache: low ranks have a bucket
/// each, higher ones share buckets of width rank/64 within which all ranks are alike.
#[derive(Debug)]
pub(crate) struct Zipf {
    buckets: Alias,
    /// First rank of each bucket, from 0, and the number of ranks at the end.
    starts: Vec<u32>,
}

impl Zipf {
    pub(crate) fn new(ranks: u32, exponent: f64) -> Self {
        let mut starts = vec![0];
        let mut weights = Vec::new();
        let mut start = 0;
        while start < ranks {
            let end = (start + (start / 64).max(1)).min(ranks);
            weights.push(mass(start, end, exponent));
            starts.push(end);
            start = end;
        }
        let buckets = Alias::new(&weights);
        Self { buckets, starts }
    }

    /// The rank, from 0, for a word.
    #[inline]
    pub(crate) fn draw(&self, word: u64) -> u32 {
        let bucket = self.buckets.draw(word) as usize;
        let start = self.starts[bucket];
        let width = u64::from(self.starts[bucket + 1] - start);
        // The word's bits have chosen the bucket: the place in it needs others.
        start + (((mix(word) & 0xFFFF_FFFF) * width) >> 32) as u32
    }
}

/// Σ (rank+1)^-s over a bucket: exact for one rank, else the midpoint integral.
fn mass(start: u32, end: u32, exponent: f64) -> f64 {
    let (a, b) = (f64::from(start) + 0.5, f64::from(end) + 0.5);
    if end - start == 1 {
        f64::from(end).powf(-exponent)
    } else if (exponent - 1.0).abs() < 1e-9 {
        (b / a).ln()
    } else {
        (b.powf(1.0 - exponent) - a.powf(1.0 - exponent)) / (1.0 - exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn counts(draws: u64, size: usize, draw: impl Fn(u64) -> usize) -> Vec<u64> {
        let stream = Stream::new(9, Purpose::SessionUser);
        let mut counts = vec![0; size];
        for i in 0..draws {
            counts[draw(stream.at(i))] += 1;
        }
        counts
    }

    #[test]
    fn picks_keep_their_shares() {
        let pick = Pick::new(&[70, 0, 30]);
        let slots = |choice| pick.slots.iter().filter(|&&c| c == choice).count();
        assert_eq!((slots(0), slots(1), slots(2)), (717, 0, 307));
        let rare = Pick::new(&[100_000, 1]);
        assert_eq!(rare.slots.iter().filter(|&&c| c == 1).count(), 0);
        let rare = Pick::new(&[1, 100_000]);
        assert_eq!(rare.slots.iter().filter(|&&c| c == 0).count(), 1);
    }

    #[test]
    fn aliases_keep_their_weights_and_never_draw_a_zero() {
        let weights = [0.0, 5.0, 0.0, 1.0, 3.0, 1.0];
        let alias = Alias::new(&weights);
        let counts = counts(100_000, weights.len(), |word| alias.draw(word) as usize);
        for (count, weight) in counts.iter().zip(weights) {
            let expected = weight * 10_000.0;
            assert!((*count as f64 - expected).abs() < 500.0, "{counts:?}");
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
    }

    #[test]
    fn zipf_has_its_exponent() {
        for exponent in [0.0, 0.6, 1.0, 1.1] {
            let zipf = Zipf::new(10_000, exponent);
            let counts = counts(400_000, 10_000, |word| zipf.draw(word) as usize);
            let sum = |from: usize, to: usize| counts[from - 1..to - 1].iter().sum::<u64>() as f64;
            // P(10..100) against P(1000..10000), both exact sums.
            let expected = (10..100).map(|r| f64::from(r).powf(-exponent)).sum::<f64>()
                / (1000..10_000)
                    .map(|r| f64::from(r).powf(-exponent))
                    .sum::<f64>();
            let measured = sum(10, 100) / sum(1000, 10_000);
            let error = (measured / expected - 1.0).abs();
            assert!(error < 0.05, "{exponent}: {measured} for {expected}");
        }
    }
}
