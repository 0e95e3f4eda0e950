//! What happens where memory is short: groups go to files, and come back from them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;

use super::rows::RowCounts;
use super::states::{empty_set, insert_values, write_pairs};
use super::{Aggregator, State, positions};
use crate::fused::groups::Groups;
use crate::fused::spill::{BatchFile, GroupFiles, PairFiles};

/// Groups stay array indices when memory is short if one of so many places has a group.
const FILLED: usize = 4;

impl Aggregator {
    /// Whether arrays that don't fit would be as empty when they are full again, with so many groups.
    fn is_sparse(&self, groups: usize) -> bool {
        let places = self.groups.as_ref().map_or(0, Groups::expected);
        groups < places / FILLED
    }

    /// An aggregator for what comes after these groups, of which there is not room for all.
    pub(in crate::fused) fn next(&self) -> Self {
        let mut next = Self::new(self.measures.clone());
        next.sparse = self.sparse || self.is_sparse(self.present().len());
        next
    }

    /// Moves all groups to files; `keys` makes the columns of results of this one's. Gives the memory
    /// back.
    pub(in crate::fused) fn spill(
        &mut self,
        files: &mut GroupFiles,
        keys: impl FnOnce(&[ArrayRef], usize) -> Result<Vec<ArrayRef>>,
    ) -> Result<()> {
        if !self.is_empty() {
            let present = self.present();
            self.sparse |= self.is_sparse(present.len());
            let (keys, states) = self.plain_states(&present, keys)?;
            let places = files.add_groups(keys, states)?;
            let positions = positions(&present);
            for (at, state) in self.states.iter_mut().enumerate() {
                if let State::Distinct { set, texts, .. } = state {
                    write_pairs(set, texts, |groups, values| {
                        let place = |group: &u32| places[positions[*group as usize] as usize];
                        files.add_pairs(at, &groups.iter().map(place).collect::<Vec<_>>(), values)
                    })?;
                }
            }
        }
        self.groups = None;
        self.states.clear();
        self.rows = RowCounts::default();
        Ok(())
    }

    /// The numbers of the groups that were added last.
    pub(in crate::fused) fn last_numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Counts the distinct values of a measure that lie in a file, beside the rows `numbers` of
    /// groups. Where they outgrow the memory they are written once more, by their own hash.
    pub(in crate::fused) fn count_pairs(
        &mut self,
        at: usize,
        pairs: BatchFile,
        numbers: &[u32],
        reservation: &MemoryReservation,
        context: &Arc<TaskContext>,
    ) -> Result<()> {
        let groups = self.groups.as_ref().map_or(0, Groups::len);
        let held = self.size() + size_of_val(numbers);
        let measure = &self.measures[at];
        let (mut set, mut texts) = empty_set(measure, groups);
        let mut files: Option<PairFiles> = None;
        let mut found = vec![0u64; groups];
        pairs.read(|batch| {
            let rows = batch.column(0).as_primitive::<UInt32Type>().values();
            let of: Vec<u32> = rows.iter().map(|row| numbers[*row as usize]).collect();
            if let Some(files) = &mut files {
                return files.write(&of, batch.column(1));
            }
            insert_values(&mut set, texts.as_deref_mut(), &of, batch.column(1), |_| {
                true
            })?;
            let text_bytes = texts.as_ref().map_or(0, |texts| texts.size());
            if reservation
                .try_resize(held + set.size() + text_bytes)
                .is_err()
            {
                let mut new = PairFiles::new(measure, context)?;
                write_pairs(&mut set, &mut texts, |of, values| new.write(of, values))?;
                (set, texts) = empty_set(measure, groups);
                files = Some(new);
                reservation.try_resize(held)?;
            }
            Ok(())
        })?;
        set.add_counts(&mut found);
        for file in files.map_or(Vec::new(), PairFiles::into_files) {
            set.clear();
            texts = texts.map(|_| Box::default());
            file.read(|batch| {
                let of = batch.column(0).as_primitive::<UInt32Type>().values();
                insert_values(&mut set, texts.as_deref_mut(), of, batch.column(1), |_| {
                    true
                })
            })?;
            set.add_counts(&mut found);
        }
        if let State::Distinct { counts, .. } = &mut self.states[at] {
            counts.resize(groups.max(counts.len()), 0);
            for (count, found) in counts.iter_mut().zip(found) {
                *count += found as i64;
            }
        }
        Ok(())
    }
}
