//! Counts the rows of each group.

/// Rows of each group; in half the memory of what they may come to.
#[derive(Default)]
pub(super) struct RowCounts {
    low: Vec<u32>,
    high: Vec<i64>,
    /// Rows counted in `low` at most.
    pending: u64,
}

impl RowCounts {
    pub(super) fn add(&mut self, groups: &[u32], len: usize) {
        self.low.resize(len.max(self.low.len()), 0);
        if self.pending + groups.len() as u64 > u64::from(u32::MAX) {
            self.settle();
        }
        self.pending += groups.len() as u64;
        for group in groups {
            self.low[*group as usize] += 1;
        }
    }

    fn settle(&mut self) {
        self.high.resize(self.low.len().max(self.high.len()), 0);
        for (high, low) in self.high.iter_mut().zip(&mut self.low) {
            *high += i64::from(std::mem::take(low));
        }
        self.pending = 0;
    }

    pub(super) fn add_at(&mut self, group: usize, rows: i64) {
        self.high.resize(self.high.len().max(group + 1), 0);
        self.high[group] += rows;
    }

    pub(super) fn get(&self, group: usize) -> i64 {
        let low = self.low.get(group).map_or(0, |rows| i64::from(*rows));
        low + self.high.get(group).copied().unwrap_or(0)
    }

    pub(super) fn clear(&mut self) {
        self.low.fill(0);
        self.high.clear();
        self.pending = 0;
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.low.capacity() * size_of::<u32>() + self.high.capacity() * size_of::<i64>()
    }
}
