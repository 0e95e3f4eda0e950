//! What happens where memory is short: groups go to files, and come back from them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;

use super::rows::RowCounts;
use super::states::{empty_set, insert_values, write_pairs};
use super::{Aggregator, Measure, State, positions};
use crate::fused::groups::Groups;
use crate::fused::spill::{CHUNK, GroupFiles, PairFiles, WrittenFile};

/// Groups stay array indices when memory is short if one of so many places has a group.
const FILLED: usize = 4;

/// Fewer pairs aren't cut: what a set takes at least doesn't become less by that.
const LEAST_CUT: usize = if cfg!(test) { 1 << 8 } else { CHUNK };
/// Unless their texts take more.
const LEAST_TEXT_BYTES: usize = LEAST_CUT << 4;

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
    /// groups. Where they outgrow the memory they are written once more, by their own hash; whether
    /// parts of those had to be written again.
    pub(in crate::fused) fn count_pairs(
        &mut self,
        at: usize,
        pairs: &WrittenFile,
        numbers: &[u32],
        reservation: &MemoryReservation,
        context: &Arc<TaskContext>,
    ) -> Result<bool> {
        let groups = self.groups.as_ref().map_or(0, Groups::len);
        let mut counting = Counting {
            measure: &self.measures[at],
            held: self.size() + size_of_val(numbers),
            reservation,
            context,
            found: vec![0; groups],
            were_cut_anew: false,
        };
        counting.add(pairs, Some(numbers), 0)?;
        let Counting {
            found,
            were_cut_anew,
            ..
        } = counting;
        if let State::Distinct { counts, .. } = &mut self.states[at] {
            counts.resize(groups.max(counts.len()), 0);
            for (count, found) in counts.iter_mut().zip(found) {
                *count += found as i64;
            }
        }
        Ok(were_cut_anew)
    }
}

/// Distinct values of a measure, counted from files.
struct Counting<'a> {
    measure: &'a Measure,
    /// Bytes of all else that is reserved for.
    held: usize,
    reservation: &'a MemoryReservation,
    context: &'a Arc<TaskContext>,
    /// For each group.
    found: Vec<u64>,
    /// Whether what had been cut once was cut again.
    were_cut_anew: bool,
}

impl Counting<'_> {
    /// Counts the pairs of a file, which have been cut so often: of groups, or of rows that have the
    /// groups `numbers`. Few pairs, and those that were cut as often as may be, are held even if they
    /// don't fit.
    fn add(&mut self, pairs: &WrittenFile, numbers: Option<&[u32]>, cuts: u32) -> Result<()> {
        let (mut set, mut texts) = empty_set(self.measure, self.found.len());
        let mut files: Option<PairFiles> = None;
        let mut held_rows = 0;
        pairs.read(|batch| {
            let rows = batch.column(0).as_primitive::<UInt32Type>().values();
            let of_rows: Vec<u32>;
            let of: &[u32] = match numbers {
                Some(numbers) => {
                    of_rows = rows.iter().map(|row| numbers[*row as usize]).collect();
                    &of_rows
                }
                None => rows,
            };
            let values = batch.column(1);
            if let Some(files) = &mut files {
                return files.write(of, values);
            }
            insert_values(&mut set, texts.as_deref_mut(), of, values, |_| true)?;
            held_rows += of.len();
            let text_bytes = texts.as_ref().map_or(0, |texts| texts.size());
            let bytes = self.held + set.size() + text_bytes;
            if self.reservation.try_resize(bytes).is_err()
                && (held_rows > LEAST_CUT || text_bytes > LEAST_TEXT_BYTES)
                && let Some(mut new) = PairFiles::new(self.measure, self.context, cuts)?
            {
                write_pairs(&mut set, &mut texts, |of, values| new.write(of, values))?;
                (set, texts) = empty_set(self.measure, self.found.len());
                files = Some(new);
                self.were_cut_anew |= cuts > 0;
                self.reservation.try_resize(self.held)?;
            }
            Ok(())
        })?;
        set.add_counts(&mut self.found);
        drop((set, texts));
        for file in files.map_or(Ok(Vec::new()), PairFiles::written)? {
            self.add(&file, None, cuts + 1)?;
        }
        Ok(())
    }
}
