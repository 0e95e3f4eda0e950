//! Parquet's hybrid of run lengths and bit packing (`Encodings.md`, encoding 3): definition levels and dictionary codes.

use super::pack::{PACK, bits, pack, varint};

/// Values in one bit-packed run. Some readers unpack a run at once, so it isn't a page's length.
const RUN: usize = 1 << 12;

/// Appends numbers of `width` bits each as bit-packed runs.
pub(super) fn packed(values: &[u32], width: u32, out: &mut Vec<u8>) {
    for run in values.chunks(RUN) {
        let groups = run.len().div_ceil(8);
        varint((groups as u64) << 1 | 1, out);
        let end = out.len() + groups * width as usize;
        for values in run.chunks(PACK) {
            let mut block = [0; PACK];
            for (to, &from) in block.iter_mut().zip(values) {
                *to = u64::from(from);
            }
            pack(&block, width, out);
        }
        out.truncate(end);
    }
}

/// Appends one value, repeated.
pub(super) fn repeated(value: u32, count: usize, width: u32, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Bits a code needs; at least one, for not every reader takes codes of none.
pub(super) fn code_width(codes: usize) -> u32 {
    bits(codes.saturating_sub(1) as u64).max(1)
}

/// Appends numbers of one bit each, eight to a byte.
pub(super) fn packed_bits(bits: &[u8], out: &mut Vec<u8>) {
    for run in bits.chunks(RUN / 8) {
        varint((run.len() as u64) << 1 | 1, out);
        out.extend_from_slice(run);
    }
}
