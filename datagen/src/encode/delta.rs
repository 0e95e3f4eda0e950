//! `DELTA_BINARY_PACKED`: whole numbers as packed differences (Apache Parquet, `Encodings.md`, encoding 5).

use super::pack::{PACK, bits, pack, varint, zigzag};

const BLOCK: usize = 128;
const MINIBLOCKS: usize = BLOCK / PACK;

/// The numbers of a page.
#[derive(Debug)]
pub(super) struct Delta {
    count: u64,
    first: i64,
    last: i64,
    /// Differences that don't fill a block yet.
    waiting: [i64; BLOCK],
    waits: usize,
    blocks: Vec<u8>,
}

impl Default for Delta {
    fn default() -> Self {
        Self {
            count: 0,
            first: 0,
            last: 0,
            waiting: [0; BLOCK],
            waits: 0,
            blocks: Vec::new(),
        }
    }
}

impl Delta {
    pub(super) fn push(&mut self, mut values: &[i64]) {
        if self.count == 0
            && let Some((&first, rest)) = values.split_first()
        {
            self.first = first;
            self.last = first;
            self.count = 1;
            values = rest;
        }
        self.count += values.len() as u64;
        while !values.is_empty() {
            let (now, later) = values.split_at(values.len().min(BLOCK - self.waits));
            let room = &mut self.waiting[self.waits..self.waits + now.len()];
            room[0] = now[0].wrapping_sub(self.last);
            // Apart from the first, differences depend on the input alone: this loop becomes vector code.
            for (difference, pair) in room[1..].iter_mut().zip(now.windows(2)) {
                *difference = pair[1].wrapping_sub(pair[0]);
            }
            self.last = now[now.len() - 1];
            self.waits += now.len();
            if self.waits == BLOCK {
                self.write_block();
            }
            values = later;
        }
    }

    fn write_block(&mut self) {
        let used = &self.waiting[..self.waits];
        let least = used.iter().copied().min().unwrap_or_default();
        let mut offsets = [0; BLOCK];
        for (offset, difference) in offsets.iter_mut().zip(used) {
            *offset = difference.wrapping_sub(least) as u64;
        }
        zigzag(least, &mut self.blocks);
        let (packs, _) = offsets.as_chunks::<PACK>();
        let widths: [u32; MINIBLOCKS] =
            std::array::from_fn(|i| bits(packs[i].iter().fold(0, |all, offset| all | offset)));
        self.blocks.extend(widths.map(|width| width as u8));
        // Miniblocks without values are left out.
        let needed = self.waits.div_ceil(PACK);
        for (offsets, width) in packs.iter().zip(widths).take(needed) {
            pack(offsets, width, &mut self.blocks);
        }
        self.waits = 0;
    }

    /// Appends the page's numbers, and begins anew.
    pub(super) fn finish(&mut self, page: &mut Vec<u8>) {
        if self.waits > 0 {
            self.write_block();
        }
        varint(BLOCK as u64, page);
        varint(MINIBLOCKS as u64, page);
        varint(self.count, page);
        zigzag(self.first, page);
        page.extend_from_slice(&self.blocks);
        self.blocks.clear();
        self.count = 0;
        self.first = 0;
    }
}
