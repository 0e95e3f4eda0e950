//! Shares the files of a scan out to its tasks, from what their footers say.
//!
//! Work is measured in compressed bytes of the columns that are read. Files go to tasks longest first;
//! where that leaves a task with much more than its share, large files are cut between row groups.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::NaiveDate;
use datafusion::arrow::datatypes::Schema;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::listing::SourceFile;

/// A task may have so much of its share.
const MAX_IMBALANCE: f64 = 1.2;
/// Parts that a text is cut into.
const TEXT_PART_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 8 << 20 };
/// A file of less than this part of a task's share isn't cut.
const LEAST_CUT: f64 = 0.25;

/// What packing knows of a file.
pub(super) trait Packed {
    fn file(&self) -> &SourceFile;
    /// In the order in which they lie in the file; empty where it can't be cut.
    fn row_groups(&self) -> &[RowGroup];
}

/// A row group of a Parquet file, or a part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowGroup {
    /// Where its first page lies, by which a reader of a part of the file knows it.
    start: u64,
    /// Compressed bytes of each column of the table.
    column_bytes: Vec<u64>,
    /// Bytes that are read whatever the columns.
    text_bytes: u64,
}

/// Parts of a text whose rows are lines, such as JSON: its reader looks for the ends of lines. One if
/// it is small.
pub(super) fn text_parts(bytes: u64) -> Vec<RowGroup> {
    let starts = (0..bytes).step_by(TEXT_PART_BYTES as usize);
    let parts = starts.map(|start| RowGroup {
        start,
        column_bytes: Vec::new(),
        text_bytes: TEXT_PART_BYTES.min(bytes - start),
    });
    parts.collect()
}

/// A file, or neighbouring row groups of one.
pub(super) struct Piece<'a, F> {
    pub(super) file: &'a F,
    /// Bytes of the file in which the row groups begin; none if it is whole.
    pub(super) range: Option<Range<u64>>,
    bytes: u64,
}

/// The row groups of a file, for the columns of `schema`; none if they don't lie one behind the
/// other.
pub(super) fn row_groups(metadata: &ParquetMetaData, schema: &Schema) -> Vec<RowGroup> {
    let groups = metadata.row_groups().iter();
    let groups: Option<Vec<RowGroup>> = groups.map(|group| row_group(group, schema)).collect();
    let groups = groups.unwrap_or_default();
    match groups.is_sorted_by(|a, b| a.start < b.start) {
        true => groups,
        false => Vec::new(),
    }
}

fn row_group(group: &RowGroupMetaData, schema: &Schema) -> Option<RowGroup> {
    // By the same page as DataFusion's reader: `RowGroupAccessPlanFilter::prune_by_range`.
    let first = group.columns().first()?;
    let start = first.dictionary_page_offset();
    let start = u64::try_from(start.unwrap_or(first.data_page_offset())).ok()?;
    let mut column_bytes = vec![0; schema.fields().len()];
    for leaf in group.columns() {
        if let Some(at) = column_of(leaf, schema) {
            column_bytes[at] += u64::try_from(leaf.compressed_size()).ok()?;
        }
    }
    Some(RowGroup {
        start,
        column_bytes,
        text_bytes: 0,
    })
}

/// The place in a schema of the column that a leaf belongs to: leaves of nested columns to theirs.
pub(super) fn column_of(leaf: &ColumnChunkMetaData, schema: &Schema) -> Option<usize> {
    let name = leaf.column_path().parts().first()?;
    schema.column_with_name(name).map(|(at, _)| at)
}

impl RowGroup {
    /// Bytes of the columns that are read.
    fn bytes(&self, columns: &[usize]) -> u64 {
        let bytes = columns.iter().filter_map(|at| self.column_bytes.get(*at));
        // Even of none its rows are counted.
        (self.text_bytes + bytes.sum::<u64>()).max(1)
    }
}

/// Packs files into at most `groups` groups of about the same bytes of `columns`, which are places
/// in the table's schema. What belongs to a date follows on each other.
pub(super) fn pack<'a, F: Packed>(
    files: &'a [F],
    columns: &[usize],
    groups: usize,
) -> Vec<Vec<Piece<'a, F>>> {
    let whole: Vec<Piece<F>> = files.iter().map(|file| whole(file, columns)).collect();
    let share = whole.iter().map(|piece| piece.bytes).sum::<u64>() as f64 / groups as f64;
    let mut packed = longest_first(whole, |piece| piece.bytes, groups);
    if !is_even(&packed, share, groups) {
        let pieces = packed.into_iter().flat_map(|(_, pieces)| pieces);
        let cut = pieces.flat_map(|piece| match piece.bytes as f64 > share * LEAST_CUT {
            true => cut(piece, columns),
            false => vec![piece],
        });
        packed = longest_first(cut.collect(), |piece| piece.bytes, groups);
    }
    let packed = packed.into_iter().map(|(_, pieces)| joined(pieces));
    packed.collect()
}

/// The same with whole dates, one after the other; none if a group would have much more than its
/// share.
pub(super) fn pack_dates<'a, F: Packed>(
    files: &'a [F],
    columns: &[usize],
    groups: usize,
) -> Option<Vec<Vec<Piece<'a, F>>>> {
    let mut dates: BTreeMap<Option<NaiveDate>, (u64, Vec<Piece<F>>)> = BTreeMap::new();
    for file in files {
        let piece = whole(file, columns);
        let (bytes, of_date) = dates.entry(file.file().date).or_default();
        *bytes += piece.bytes;
        of_date.push(piece);
    }
    if dates.len() < groups {
        return None;
    }
    let total: u64 = dates.values().map(|(bytes, _)| bytes).sum();
    let packed = longest_first(dates.into_values().collect(), |(bytes, _)| *bytes, groups);
    is_even(&packed, total as f64 / groups as f64, groups).then(|| {
        let packed = packed.into_iter();
        packed
            .map(|(_, dates)| joined(dates.into_iter().flat_map(|(_, files)| files).collect()))
            .collect()
    })
}

fn whole<'a, F: Packed>(file: &'a F, columns: &[usize]) -> Piece<'a, F> {
    let bytes = match file.row_groups() {
        [] => file.file().meta.size,
        groups => groups.iter().map(|group| group.bytes(columns)).sum(),
    };
    Piece {
        file,
        range: None,
        bytes,
    }
}

/// A whole file as its row groups.
fn cut<'a, F: Packed>(piece: Piece<'a, F>, columns: &[usize]) -> Vec<Piece<'a, F>> {
    let groups = piece.file.row_groups();
    if groups.len() < 2 {
        return vec![piece];
    }
    let ends = groups[1..].iter().map(|group| group.start);
    let ends = ends.chain([piece
        .file
        .file()
        .meta
        .size
        .max(groups[groups.len() - 1].start + 1)]);
    let pieces = groups.iter().zip(ends).map(|(group, end)| Piece {
        file: piece.file,
        range: Some(group.start..end),
        bytes: group.bytes(columns),
    });
    pieces.collect()
}

/// In the order of dates and files, neighbours in one piece.
fn joined<F: Packed>(mut pieces: Vec<Piece<F>>) -> Vec<Piece<F>> {
    let place = |piece: &Piece<F>| {
        let file = piece.file.file();
        let start = piece.range.as_ref().map_or(0, |range| range.start);
        (file.date, file.meta.location.clone(), start)
    };
    pieces.sort_by_cached_key(place);
    let mut joined: Vec<Piece<F>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if let (Some(last), Some(range)) = (joined.last_mut(), &piece.range)
            && let Some(before) = &mut last.range
            && std::ptr::eq(last.file, piece.file)
            && before.end == range.start
        {
            before.end = range.end;
            last.bytes += piece.bytes;
        } else {
            joined.push(piece);
        }
    }
    joined
}

fn is_even<T>(packed: &[(u64, Vec<T>)], share: f64, groups: usize) -> bool {
    let most = packed.iter().map(|(bytes, _)| *bytes).max();
    packed.len() == groups && most.is_some_and(|most| most as f64 <= share * MAX_IMBALANCE)
}

/// Longest processing time first: each piece of work goes to the group that has least (Graham,
/// "Bounds on Multiprocessing Timing Anomalies", 1969). Each group comes with its size.
fn longest_first<T>(
    mut work: Vec<T>,
    size: impl Fn(&T) -> u64,
    groups: usize,
) -> Vec<(u64, Vec<T>)> {
    work.sort_by_key(|piece| std::cmp::Reverse(size(piece)));
    let mut packed: Vec<(u64, Vec<T>)> = Vec::new();
    packed.resize_with(groups.clamp(1, work.len().max(1)), || (0, Vec::new()));
    for piece in work {
        if let Some((sum, group)) = packed.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += size(&piece);
            group.push(piece);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use chrono::Days;
    use datafusion::object_store::ObjectMeta;
    use proptest::prelude::*;

    use super::*;

    struct File {
        file: SourceFile,
        row_groups: Vec<RowGroup>,
    }

    impl Packed for File {
        fn file(&self) -> &SourceFile {
            &self.file
        }

        fn row_groups(&self) -> &[RowGroup] {
            &self.row_groups
        }
    }

    /// A file of a day, whose second column has so many bytes in each row group.
    fn file(number: usize, day: u64, row_groups: &[u64]) -> File {
        let mut end = 4;
        let groups = row_groups.iter().map(|bytes| {
            let start = end;
            end += bytes + 7;
            RowGroup {
                start,
                column_bytes: vec![7, *bytes],
                text_bytes: 0,
            }
        });
        let row_groups = groups.collect();
        File {
            file: SourceFile {
                meta: ObjectMeta {
                    location: format!("date={day}/part-{number}.parquet").into(),
                    last_modified: Default::default(),
                    size: end + 100,
                    e_tag: None,
                    version: None,
                },
                date: NaiveDate::default().checked_add_days(Days::new(day)),
            },
            row_groups,
        }
    }

    fn files(row_groups: &[(u64, Vec<u64>)]) -> Vec<File> {
        let files = row_groups.iter().enumerate();
        files
            .map(|(at, (day, groups))| file(at, *day, groups))
            .collect()
    }

    fn bytes(packed: &[Vec<Piece<File>>]) -> Vec<u64> {
        let of = |group: &Vec<Piece<File>>| group.iter().map(|piece| piece.bytes).sum();
        packed.iter().map(of).collect()
    }

    /// The row groups that a reader of the pieces reads, as (file, row group).
    fn read(packed: &[Vec<Piece<File>>]) -> Vec<(String, u64)> {
        let mut read = Vec::new();
        for piece in packed.iter().flatten() {
            for group in piece.file.row_groups() {
                let within = piece
                    .range
                    .as_ref()
                    .is_none_or(|r| r.contains(&group.start));
                if within {
                    read.push((piece.file.file.meta.location.to_string(), group.start));
                }
            }
        }
        read.sort_unstable();
        read
    }

    #[test]
    fn a_single_file_is_cut() {
        let one = files(&[(0, vec![100; 6])]);
        let packed = pack(&one, &[1], 3);
        assert_eq!(bytes(&packed), [200; 3]);
        // A task that has all of a file reads it whole.
        assert!(pack(&one, &[1], 1)[0][0].range.is_none());
    }

    #[test]
    fn files_that_share_out_evenly_stay_whole() {
        let even = files(&[(0, vec![50; 4]), (0, vec![70; 3]), (1, vec![90; 2])]);
        let packed = pack(&even, &[1], 3);
        assert!(packed.iter().flatten().all(|piece| piece.range.is_none()));
    }

    #[test]
    fn texts_are_cut_from_end_to_end() {
        assert!(text_parts(0).is_empty());
        let mut one = files(&[(0, vec![1])]);
        one[0].file.meta.size = 5 * TEXT_PART_BYTES / 2;
        one[0].row_groups = text_parts(one[0].file.meta.size);
        let packed = pack(&one, &[0], 2);
        let mut ranges: Vec<_> = packed.iter().flatten().map(|p| p.range.clone()).collect();
        ranges.sort_by_key(|range| range.as_ref().map(|range| range.start));
        let ends = [0, 1, 2].map(|part| part * TEXT_PART_BYTES);
        let expected = [
            ends[0]..ends[1],
            ends[1]..ends[2],
            ends[2]..one[0].file.meta.size,
        ];
        assert_eq!(ranges, expected.map(Some));
        assert!(pack(&one, &[0], 1)[0][0].range.is_none());
    }

    #[test]
    fn columns_that_are_not_read_do_not_count() {
        let mut two = files(&[(0, vec![90]), (0, vec![10])]);
        two[1].row_groups[0].column_bytes[0] = 1_000;
        let dates = |columns: &[usize]| bytes(&pack(&two, columns, 2));
        assert_eq!(dates(&[1]), [90, 10]);
        assert_eq!(dates(&[0, 1]), [1_010, 97]);
    }

    #[test]
    fn dates_stay_whole_or_are_refused() {
        let even = files(&[(0, vec![50]), (1, vec![25; 2]), (0, vec![1])]);
        let packed = pack_dates(&even, &[1], 2).unwrap();
        assert_eq!(bytes(&packed), [51, 50]);
        let uneven = files(&[(0, vec![80]), (1, vec![20])]);
        assert!(pack_dates(&uneven, &[1], 2).is_none());
        assert!(pack_dates(&uneven, &[1], 3).is_none());
    }

    proptest! {
        #[test]
        fn every_row_group_is_read_once(
            row_groups in prop::collection::vec(
                (0..3u64, prop::collection::vec(1..500u64, 1..9)), 1..9,
            ),
            groups in 1..7usize,
        ) {
            let files = files(&row_groups);
            let mut expected: Vec<(String, u64)> = files
                .iter()
                .flat_map(|file| {
                    let name = file.file.meta.location.to_string();
                    file.row_groups.iter().map(move |group| (name.clone(), group.start))
                })
                .collect();
            expected.sort_unstable();
            let packed = pack(&files, &[1], groups);
            prop_assert_eq!(read(&packed), expected.clone());
            // Graham's bound for what can't be cut any further.
            let total: u64 = row_groups.iter().flat_map(|(_, groups)| groups).sum();
            let share = total as f64 / groups as f64;
            let largest = row_groups.iter().flat_map(|(_, groups)| groups).max().copied();
            let largest = (largest.unwrap_or(0) as f64).max(share * LEAST_CUT);
            let most = bytes(&packed).into_iter().max().unwrap_or(0) as f64;
            prop_assert!(most <= (share * MAX_IMBALANCE).max(share + largest));
            if let Some(by_date) = pack_dates(&files, &[1], groups) {
                prop_assert_eq!(read(&by_date), expected);
            }
        }
    }
}
