//! An exact sum of `f64` values: the same bits in any order, rounded once at the end.
//!
//! A superaccumulator in the manner of R. M. Neal, "Fast exact summation using small and large
//! superaccumulators" (2015): a fixed-point number wide enough for every `f64`, kept as signed
//! chunks of 32 bits so that additions need no carry. Only the chunks in use are stored: a
//! column of prices or latencies needs four or five of the 67.

/// Bits of a chunk. A chunk is kept in an `i64`, which leaves room for 2³¹ additions.
const CHUNK_BITS: u32 = 32;
const CHUNK_MASK: i64 = (1 << CHUNK_BITS) - 1;
/// Carries are propagated before a chunk could overflow.
const MAX_ADDS: u32 = 1 << 30;

/// Exact, mergeable sum of `f64` values.
#[derive(Debug, Default, Clone)]
pub struct ExactFloatSum {
    /// Index of the first stored chunk; chunk `k` weighs 2^(32·k − 1074).
    base: usize,
    chunks: Vec<i64>,
    adds: u32,
    positive_infinity: bool,
    negative_infinity: bool,
    nan: bool,
}

impl ExactFloatSum {
    /// Adds one value. NaN and infinities follow IEEE 754: NaN, or +∞ with −∞, gives NaN.
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            match (fraction != 0, value.is_sign_negative()) {
                (true, _) => self.nan = true,
                (false, false) => self.positive_infinity = true,
                (false, true) => self.negative_infinity = true,
            }
            return;
        }
        // value = mantissa · 2^(position − 1074); a subnormal has no hidden bit.
        let (mantissa, position) = match exponent {
            0 => (fraction, 0),
            e => (fraction | (1 << 52), e - 1),
        };
        if mantissa == 0 {
            return;
        }
        if self.adds >= MAX_ADDS {
            self.propagate_carries();
        }
        self.adds += 1;
        let first = (position / CHUNK_BITS) as usize;
        let wide = u128::from(mantissa) << (position % CHUNK_BITS);
        let at = self.reserve(first, first + 3);
        let sign = if value.is_sign_negative() { -1 } else { 1 };
        for (i, chunk) in self.chunks[at..at + 3].iter_mut().enumerate() {
            let part = (wide >> (CHUNK_BITS as usize * i)) as i64 & CHUNK_MASK;
            *chunk += sign * part;
        }
    }

    /// Adds all that `other` has summed.
    pub fn merge(&mut self, other: &Self) {
        self.nan |= other.nan;
        self.positive_infinity |= other.positive_infinity;
        self.negative_infinity |= other.negative_infinity;
        if other.chunks.is_empty() {
            return;
        }
        let mut other = other.clone();
        other.propagate_carries();
        if self.adds >= MAX_ADDS {
            self.propagate_carries();
        }
        self.adds += 1;
        let at = self.reserve(other.base, other.base + other.chunks.len());
        for (mine, theirs) in self.chunks[at..].iter_mut().zip(&other.chunks) {
            *mine += theirs;
        }
    }

    /// The sum, rounded to the nearest `f64`, ties to even.
    pub fn value(&self) -> f64 {
        if self.nan || (self.positive_infinity && self.negative_infinity) {
            return f64::NAN;
        }
        if self.positive_infinity {
            return f64::INFINITY;
        }
        if self.negative_infinity {
            return f64::NEG_INFINITY;
        }
        let mut sum = self.clone();
        sum.propagate_carries();
        let negative = sum.chunks.last().is_some_and(|top| *top < 0);
        if negative {
            sum.chunks.iter_mut().for_each(|chunk| *chunk = -*chunk);
            sum.propagate_carries();
        }
        let magnitude = sum.round_magnitude();
        if negative { -magnitude } else { magnitude }
    }

    /// Writes the state: flags, base, and the chunks after carrying, little endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut sum = self.clone();
        sum.propagate_carries();
        let flags = u8::from(sum.nan)
            | u8::from(sum.positive_infinity) << 1
            | u8::from(sum.negative_infinity) << 2;
        out.push(flags);
        out.push(sum.base as u8);
        for chunk in &sum.chunks {
            out.extend_from_slice(&chunk.to_le_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it is not of that form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[flags, base], chunks) = bytes.split_first_chunk::<2>()?;
        if chunks.len() % 8 != 0 {
            return None;
        }
        let chunks = chunks
            .chunks_exact(8)
            .map(|c| c.try_into().map(i64::from_le_bytes))
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        Some(Self {
            base: base as usize,
            adds: 1,
            chunks,
            nan: flags & 1 != 0,
            positive_infinity: flags & 2 != 0,
            negative_infinity: flags & 4 != 0,
        })
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<i64>()
    }

    /// Makes the stored window cover chunks `from..to`; returns where `from` lies in it.
    fn reserve(&mut self, from: usize, to: usize) -> usize {
        if self.chunks.is_empty() {
            self.base = from;
        } else if from < self.base {
            let missing = self.base - from;
            self.chunks.splice(0..0, std::iter::repeat_n(0, missing));
            self.base = from;
        }
        if to > self.base + self.chunks.len() {
            self.chunks.resize(to - self.base, 0);
        }
        from - self.base
    }

    /// Brings every chunk but the last into `0..2^32`; the last keeps the sign.
    fn propagate_carries(&mut self) {
        let mut carry = 0i64;
        for chunk in &mut self.chunks {
            let total = *chunk + carry;
            *chunk = total & CHUNK_MASK;
            carry = total >> CHUNK_BITS;
        }
        // Minus one on top of a full chunk is that chunk's own sign: store it there, or the
        // window would grow by a chunk with every merge of a negative sum.
        if carry == -1 {
            if let Some(top) = self.chunks.last_mut() {
                *top -= 1 << CHUNK_BITS;
            }
        } else if carry != 0 {
            self.chunks.push(carry);
        }
        self.adds = 1;
    }

    /// Rounds a non-negative, carried sum.
    fn round_magnitude(&self) -> f64 {
        let Some(top) = self.chunks.iter().rposition(|chunk| *chunk != 0) else {
            return 0.0;
        };
        let top_bit = 63 - self.chunks[top].leading_zeros() as usize;
        // Position of the highest set bit; bit 0 weighs 2^-1074.
        let highest = (self.base + top) * CHUNK_BITS as usize + top_bit;
        if highest <= 52 {
            // Below 2^53 units of 2^-1074 the integer is its own bit pattern.
            return f64::from_bits(self.bits_from(0) as u64);
        }
        let lowest = highest - 52;
        let mantissa = self.bits_from(lowest) as u64 & ((1 << 53) - 1);
        let half = self.bits_from(lowest - 1) & 1 == 1;
        let below_half = half && self.any_bit_below(lowest - 1);
        let biased_exponent = (highest - 51) as u64;
        if biased_exponent >= 0x7ff {
            return f64::INFINITY;
        }
        let bits = (biased_exponent << 52) | (mantissa & ((1 << 52) - 1));
        // Rounding up may carry into the exponent, and past the largest number into infinity:
        // the bit patterns follow on each other.
        let round_up = half && (below_half || mantissa & 1 == 1);
        f64::from_bits(bits + u64::from(round_up))
    }

    /// At least 64 bits of the sum, from the given position up.
    fn bits_from(&self, position: usize) -> u128 {
        let first = position / CHUNK_BITS as usize;
        let mut bits = 0u128;
        for i in 0..4 {
            let chunk = (first + i)
                .checked_sub(self.base)
                .and_then(|at| self.chunks.get(at))
                .copied()
                .unwrap_or(0);
            bits |= (chunk as u128 & CHUNK_MASK as u128) << (CHUNK_BITS as usize * i);
        }
        bits >> (position % CHUNK_BITS as usize)
    }

    fn any_bit_below(&self, position: usize) -> bool {
        let whole = position / CHUNK_BITS as usize;
        let rest = position % CHUNK_BITS as usize;
        self.chunks.iter().enumerate().any(|(i, chunk)| {
            let index = self.base + i;
            index < whole && *chunk != 0 || index == whole && chunk & ((1 << rest) - 1) != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactFloatSum::default();
        values.iter().for_each(|v| sum.add(*v));
        sum.value()
    }

    #[test]
    fn known_sums() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(
            sum(&[f64::from_bits(1), f64::from_bits(1)]),
            f64::from_bits(2)
        );
        assert_eq!(sum(&[-0.5, -0.25]), -0.75);
        // A tie goes to the even mantissa, and a bit far below breaks the tie.
        let half = 2f64.powi(-53);
        assert_eq!(sum(&[1.0, half]), 1.0);
        assert_eq!(sum(&[1.0, half, 1e-300]), 1.0 + 2.0 * half);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(sum(&[f64::NEG_INFINITY, 5.0]), f64::NEG_INFINITY);
    }

    /// Finite doubles of all sizes, from their bits.
    fn any_finite() -> impl Strategy<Value = f64> {
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |v| v.is_finite())
    }

    proptest! {
        #[test]
        fn two_values_round_like_the_processor(a in any_finite(), b in any_finite()) {
            prop_assert_eq!(sum(&[a, b]), a + b);
        }

        #[test]
        fn values_of_one_size_sum_like_integers(values in prop::collection::vec(-1_000_000i64..1_000_000, 0..300)) {
            let floats: Vec<f64> = values.iter().map(|v| *v as f64 / 1024.0).collect();
            prop_assert_eq!(sum(&floats), values.iter().sum::<i64>() as f64 / 1024.0);
        }

        #[test]
        fn any_order_and_any_split_give_the_same_bits(
            values in prop::collection::vec(any_finite(), 0..60),
            cut in 0usize..60,
        ) {
            let forward = sum(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(forward.to_bits(), sum(&reversed).to_bits());
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut parts = [ExactFloatSum::default(), ExactFloatSum::default()];
            left.iter().for_each(|v| parts[0].add(*v));
            right.iter().for_each(|v| parts[1].add(*v));
            let mut merged = ExactFloatSum::default();
            for part in &parts {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                merged.merge(&ExactFloatSum::decode(&bytes).unwrap());
            }
            prop_assert_eq!(forward.to_bits(), merged.value().to_bits());
        }
    }
}
