//! A histogram of `f64` values whose buckets grow with the value, for percentiles.
//!
//! The idea of DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile
//! sketch with relative-error guarantees", 2019), with bucket limits read from the bits of the
//! number instead of a logarithm: an octave is cut into 64 equal buckets. So it depends on no
//! math library, never merges buckets, and gives the same counts however the rows were split.

/// The part of the bits below the bucket: 52 mantissa bits less the 6 that number 64 buckets.
const SHIFT: u32 = 46;
/// Values wait here before they are sorted into the buckets.
const MIN_PENDING: usize = 64;
/// There is room for so many at first: it grows often otherwise, in groups of few values.
const FIRST_PENDING: usize = 16;
/// A window has at most so many buckets for each that is in use, and so takes at most four times
/// the memory of a list of these.
const BUCKETS_PER_USED: usize = 16;
/// Buckets of a window at most: 64 octaves.
const MAX_WINDOW: usize = 64 * 64;

/// Exact counts in buckets of 1/64 of an octave, mergeable. A quantile's relative error is at
/// most 1/129 (0.78 %).
// What is needed for a value never lies in two cache lines.
#[repr(align(64))]
#[derive(Debug, Default, Clone)]
pub struct LogHistogram {
    /// The bucket that the window begins with.
    first: i32,
    /// Counts of neighbouring buckets, where many values lie in few octaves: counting is then one
    /// addition, where sorting takes some thirty times as long. Empty at first.
    window: Box<[u32]>,
    /// What the window doesn't hold. Elsewhere, so that what each value needs is in one cache line.
    beside: Option<Box<Beside>>,
    /// Smallest and largest value seen, exact: quantiles are clamped to them.
    range: Option<(f64, f64)>,
}

#[derive(Debug, Default, Clone)]
struct Beside {
    /// (bucket, count), sorted by bucket.
    buckets: Vec<(i32, u64)>,
    pending: Vec<i32>,
}

impl LogHistogram {
    /// Largest relative error of a quantile, for values that aren't subnormal (below 2.2e-308).
    pub const RELATIVE_ERROR: f64 = 1.0 / 129.0;

    /// Counts one value; NaN is no value and is left out.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.widen(value, value);
        let bucket = bucket_of(value);
        if let Some(count) = self.window.get_mut(place(bucket, self.first))
            && *count < u32::MAX
        {
            *count += 1;
        } else {
            self.put_off(bucket);
        }
    }

    /// Something that [`add`](Self::add) begins to read with.
    #[inline]
    pub(super) fn peek(&self) -> u64 {
        self.first as u64
    }

    #[cold]
    fn put_off(&mut self, bucket: i32) {
        let beside = self.beside.get_or_insert_with(|| {
            Box::new(Beside {
                buckets: Vec::new(),
                pending: Vec::with_capacity(FIRST_PENDING),
            })
        });
        beside.pending.push(bucket);
        if beside.pending.len() >= MIN_PENDING.max(beside.buckets.len()) {
            self.settle();
        }
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        let Some((low, high)) = other.range else {
            return;
        };
        self.widen(low, high);
        let mut others = other.counted();
        others.retain(|(bucket, more)| {
            let count = self.window.get_mut(place(*bucket, self.first));
            let sum = count.as_ref().map(|count| u64::from(**count) + more);
            match (count, sum.map(u32::try_from)) {
                (Some(count), Some(Ok(sum))) => {
                    *count = sum;
                    false
                }
                _ => true,
            }
        });
        if !others.is_empty() {
            let beside = self.beside.get_or_insert_default();
            beside.buckets = merge_sorted(&beside.buckets, &others);
        }
    }

    /// The value at rank ⌈q·n⌉ (nearest rank, at least 1) of the n values; `None` if n is 0.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (low, high) = self.range?;
        let total = self.total();
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
        // The ends are known exactly.
        if rank == 1 {
            return Some(low);
        }
        if rank == total {
            return Some(high);
        }
        let bucket = self.bucket_at(rank)?;
        Some(middle_of(bucket).clamp(low, high))
    }

    /// How many values there are.
    fn total(&self) -> u64 {
        let window = self.window.iter().map(|count| u64::from(*count));
        let beside = self.beside.as_ref().map_or(0, |beside| {
            let buckets = beside.buckets.iter().map(|(_, count)| count);
            buckets.sum::<u64>() + beside.pending.len() as u64
        });
        window.sum::<u64>() + beside
    }

    /// The bucket of the value at a rank, from 1 on. Most histograms have only a window, or only few
    /// values that still wait: of these nothing is allocated.
    fn bucket_at(&self, rank: u64) -> Option<i32> {
        let in_window = (self.first..).zip(self.window.iter().map(|count| u64::from(*count)));
        let Some(beside) = &self.beside else {
            return at_rank(in_window, rank);
        };
        let mut few = [0; MIN_PENDING];
        let only_pending = self.window.is_empty() && beside.buckets.is_empty();
        match few.get_mut(..beside.pending.len()) {
            Some(few) if only_pending => {
                few.copy_from_slice(&beside.pending);
                let nth = usize::try_from(rank - 1).ok().filter(|n| *n < few.len())?;
                Some(*few.select_nth_unstable(nth).1)
            }
            _ => at_rank(self.counted(), rank),
        }
    }

    /// Writes the state: range, then (bucket, count) pairs, little endian. Empty if no values.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some((low, high)) = self.range else {
            return;
        };
        out.extend_from_slice(&low.to_le_bytes());
        out.extend_from_slice(&high.to_le_bytes());
        for (bucket, count) in &self.counted() {
            out.extend_from_slice(&bucket.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it is not of that form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (low, rest) = bytes.split_first_chunk::<8>()?;
        let (high, rest) = rest.split_first_chunk::<8>()?;
        if rest.len() % 12 != 0 {
            return None;
        }
        let mut buckets = Vec::with_capacity(rest.len() / 12);
        for pair in rest.chunks_exact(12) {
            let (bucket, count) = pair.split_first_chunk::<4>()?;
            buckets.push((
                i32::from_le_bytes(*bucket),
                u64::from_le_bytes(count.try_into().ok()?),
            ));
        }
        Some(Self {
            beside: Some(Box::new(Beside {
                buckets,
                pending: Vec::new(),
            })),
            range: Some((f64::from_le_bytes(*low), f64::from_le_bytes(*high))),
            ..Self::default()
        })
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let beside = self.beside.as_ref().map_or(0, |beside| {
            size_of::<Beside>()
                + beside.buckets.capacity() * size_of::<(i32, u64)>()
                + beside.pending.capacity() * size_of::<i32>()
        });
        self.window.len() * size_of::<u32>() + beside
    }

    #[inline]
    fn widen(&mut self, low: f64, high: f64) {
        // total_cmp, so that −0 and +0 are told apart the same way in any order.
        self.range = Some(match self.range {
            None => (low, high),
            Some((l, h)) if l < low && high < h => return,
            Some((l, h)) => (
                if low.total_cmp(&l).is_lt() { low } else { l },
                if high.total_cmp(&h).is_gt() { high } else { h },
            ),
        });
    }

    /// All that has been counted: (bucket, count), sorted by bucket.
    fn counted(&self) -> Vec<(i32, u64)> {
        let (buckets, mut pending) = match &self.beside {
            Some(beside) => (&beside.buckets[..], beside.pending.clone()),
            None => (&[][..], Vec::new()),
        };
        pending.sort_unstable();
        let mut counted: Vec<(i32, u64)> = Vec::new();
        for bucket in pending {
            match counted.last_mut() {
                Some((last, count)) if *last == bucket => *count += 1,
                _ => counted.push((bucket, 1)),
            }
        }
        let used = (self.first..).zip(&self.window);
        let used = used.filter(|(_, count)| **count > 0);
        let window: Vec<_> = used.map(|(at, count)| (at, u64::from(*count))).collect();
        merge_sorted(&merge_sorted(&window, buckets), &counted)
    }

    /// Counts what waits, in a window if that is worth its memory.
    fn settle(&mut self) {
        let mut buckets = self.counted();
        self.window = Box::default();
        let ends = buckets.first().zip(buckets.last());
        let span = ends.map(|((first, _), (last, _))| last.abs_diff(*first) as usize + 1);
        if let Some(span) = span
            && span <= MAX_WINDOW.min(BUCKETS_PER_USED * buckets.len())
        {
            let first = buckets[0].0;
            let mut window = vec![0; span];
            buckets.retain(|(bucket, count)| {
                let fits = u32::try_from(*count);
                fits.map(|count| window[place(*bucket, first)] = count)
                    .is_err()
            });
            (self.first, self.window) = (first, window.into());
        }
        self.beside = (!buckets.is_empty()).then(|| {
            Box::new(Beside {
                buckets,
                pending: Vec::new(),
            })
        });
    }
}

/// The bucket of the value at a rank, from 1 on, among those of sorted buckets and their counts.
fn at_rank(counted: impl IntoIterator<Item = (i32, u64)>, rank: u64) -> Option<i32> {
    let mut seen = 0;
    let mut counted = counted.into_iter();
    let found = counted.find(|(_, count)| {
        seen += count;
        seen >= rank
    });
    found.map(|(bucket, _)| bucket)
}

/// Where a bucket lies in a window, if it lies in it: else it is beyond its end.
#[inline]
fn place(bucket: i32, first: i32) -> usize {
    bucket.wrapping_sub(first) as u32 as usize
}

/// The bucket of a value; buckets are ordered like their values, and 0 holds zero.
fn bucket_of(value: f64) -> i32 {
    let magnitude = ((value.abs().to_bits()) >> SHIFT) as i32;
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The value that is least wrong for a bucket: the harmonic mean of its limits, which is off
/// by the same ratio at both ends.
fn middle_of(bucket: i32) -> f64 {
    let magnitude = u64::from(bucket.unsigned_abs());
    let lower = f64::from_bits(magnitude << SHIFT);
    let upper = f64::from_bits((magnitude + 1) << SHIFT);
    let middle = if lower == 0.0 || lower.is_infinite() {
        lower
    } else if upper.is_infinite() {
        lower * (1.0 + LogHistogram::RELATIVE_ERROR)
    } else {
        // 2·l·u / (l + u), written so that nothing overflows.
        2.0 * lower / (lower / upper + 1.0)
    };
    if bucket < 0 { -middle } else { middle }
}

fn merge_sorted(a: &[(i32, u64)], b: &[(i32, u64)]) -> Vec<(i32, u64)> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].0.cmp(&b[j].0) {
            std::cmp::Ordering::Less => (merged.push(a[i]), i += 1).1,
            std::cmp::Ordering::Greater => (merged.push(b[j]), j += 1).1,
            std::cmp::Ordering::Equal => {
                merged.push((a[i].0, a[i].1 + b[j].1));
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(values: &[f64]) -> LogHistogram {
        let mut histogram = LogHistogram::default();
        values.iter().for_each(|v| histogram.add(*v));
        histogram
    }

    fn nearest_rank(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    #[test]
    fn edges() {
        assert_eq!(histogram(&[]).quantile(0.5), None);
        assert_eq!(histogram(&[f64::NAN]).quantile(0.5), None);
        assert_eq!(histogram(&[7.0; 3]).quantile(0.95), Some(7.0));
        assert_eq!(histogram(&[0.0, 0.0, 5.0]).quantile(0.5), Some(0.0));
        assert_eq!(histogram(&[f64::MAX, 1.0]).quantile(1.0), Some(f64::MAX));
        assert_eq!(
            histogram(&[f64::INFINITY]).quantile(0.1),
            Some(f64::INFINITY)
        );
    }

    /// A count that a window can't hold lies beside it.
    #[test]
    fn counts_beyond_32_bits() {
        let mut bytes = Vec::new();
        let mut many = histogram(&[5.0; 64]);
        many.encode(&mut bytes);
        let count = bytes.len() - 8;
        bytes[count..].copy_from_slice(&u64::from(u32::MAX - 1).to_le_bytes());
        many.merge(&LogHistogram::decode(&bytes).unwrap());
        many.merge(&histogram(&[9.0]));
        let expected = u64::from(u32::MAX) + 63;
        for _ in 0..200 {
            many.add(5.0);
            many.add(6.0);
        }
        assert_eq!(many.counted()[0].1, expected + 200);
        assert_eq!(many.counted().len(), 3);
        assert_eq!(many.counted()[1].1, 200);
        let mut full = histogram(&[5.0; 64]);
        full.window[0] = u32::MAX;
        (0..100).for_each(|_| full.add(5.0));
        assert_eq!(
            full.counted(),
            [(bucket_of(5.0), u64::from(u32::MAX) + 100)]
        );
    }

    proptest! {
        /// In a window or beside it, far away or signed: each value is counted once.
        #[test]
        fn every_value_is_counted(
            values in prop::collection::vec(
                prop_oneof![8 => 1.0f64..1e3, 1 => -1e3f64..1e3, 1 => -1e300f64..1e300],
                0..1500,
            ),
        ) {
            let mut expected = std::collections::BTreeMap::new();
            for value in &values {
                *expected.entry(bucket_of(*value)).or_insert(0u64) += 1;
            }
            let expected: Vec<(i32, u64)> = expected.into_iter().collect();
            prop_assert_eq!(histogram(&values).counted(), expected);
        }

        #[test]
        fn within_the_stated_error(
            values in prop::collection::vec(prop_oneof![-1e9f64..1e9, 0.0f64..100.0, -1e-9f64..1e-9], 1..400),
            q in 0.0f64..=1.0,
        ) {
            let exact = nearest_rank(&values, q);
            let got = histogram(&values).quantile(q).unwrap();
            let bound = LogHistogram::RELATIVE_ERROR * exact.abs() * (1.0 + 1e-12);
            prop_assert!((got - exact).abs() <= bound, "{got} for {exact}");
        }

        #[test]
        fn any_split_gives_the_same_state(
            values in prop::collection::vec(-1e6f64..1e6, 0..400),
            cut in 0usize..400,
        ) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = LogHistogram::default();
            for part in [histogram(right), histogram(left)] {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                merged.merge(&LogHistogram::decode(&bytes).unwrap());
            }
            let (mut a, mut b) = (Vec::new(), Vec::new());
            merged.encode(&mut a);
            histogram(&values).encode(&mut b);
            prop_assert_eq!(a, b);
        }
    }
}
