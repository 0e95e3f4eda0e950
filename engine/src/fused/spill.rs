//! Groups on disk, for when they don't fit the memory.
//!
//! A group goes to one of some files by the hash of its keys, and its distinct values to one beside
//! it. So all that is known of a group lies in one place, and a place at a time is brought together
//! in memory. A place whose groups don't fit is cut anew by further bits of their hashes. Where the
//! distinct values of a place don't fit, those of a hot group, they go to further files by their own
//! hash: all repetitions of a pair lie in one, and a file at a time is counted. (Partitioning until a
//! part fits: Bratbergsengen, "Hashing Methods and Relational Algebra Operations", VLDB 1984.)

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;

use super::aggregator::{Aggregator, Measure, state_type};
use super::definition::Definition;
use crate::operator::ran_out_of_memory;

/// Files that groups, and that the values of one measure, are cut into.
const FILES: usize = 1 << FILE_BITS;
const FILE_BITS: u32 = 5;
/// How often what doesn't fit is cut anew: a million parts at most.
const MOST_CUTS: u32 = 3;
/// Pairs that are written at once.
pub(super) const CHUNK: usize = 1 << 16;

/// Batches in a file of its own, which is there when the first is written: descriptors are few.
struct BatchFile {
    schema: SchemaRef,
    context: Arc<TaskContext>,
    open: Option<Open>,
}

struct Open {
    file: Arc<dyn SpillFile>,
    writer: StreamWriter<BufWriter<Box<dyn SpillWriter>>>,
}

impl BatchFile {
    fn new(schema: &SchemaRef, context: &Arc<TaskContext>) -> Self {
        Self {
            schema: Arc::clone(schema),
            context: Arc::clone(context),
            open: None,
        }
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.write_batch(&batch).map_err(not_written)
    }

    fn write_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let disk = &self.context.runtime_env().disk_manager;
                let file = disk.create_tmp_file("aggregation")? as Arc<dyn SpillFile>;
                let writer = BufWriter::new(file.open_writer()?);
                let writer = StreamWriter::try_new(writer, &self.schema)?;
                Open { file, writer }
            }
        };
        Ok(self.open.insert(open).writer.write(batch)?)
    }

    /// Ends writing.
    fn written(self) -> Result<WrittenFile> {
        self.end().map_err(not_written)
    }

    fn end(self) -> Result<WrittenFile> {
        let Some(Open { file, mut writer }) = self.open else {
            return Ok(WrittenFile(None));
        };
        writer.finish()?;
        let mut writer = writer
            .into_inner()?
            .into_inner()
            .map_err(|e| DataFusionError::IoError(e.into_error()))?;
        writer.finish()?;
        Ok(WrittenFile(Some(file)))
    }
}

/// Says where it was that writing failed: mostly the disk is full.
fn not_written(error: DataFusionError) -> DataFusionError {
    let error = match error {
        // Not one of decoding, for which others would take it.
        DataFusionError::ArrowError(arrow, trace) => match *arrow {
            ArrowError::IoError(_, error) => DataFusionError::IoError(error),
            other => DataFusionError::ArrowError(Box::new(other), trace),
        },
        other => other,
    };
    error.context("memory is short, and groups can't be written to the folder for temporary files")
}

/// A [`BatchFile`] that is whole. Without a batch there is no file.
pub(super) struct WrittenFile(Option<Arc<dyn SpillFile>>);

impl WrittenFile {
    /// Calls `each` with the batches, in the order in which they were written.
    pub(super) fn read(&self, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        let Some(path) = file.path() else {
            return Err(exec_datafusion_err!("an aggregation spills to files only"));
        };
        for batch in StreamReader::try_new(BufReader::new(File::open(path)?), None)? {
            each(&batch?)?;
        }
        Ok(())
    }
}

/// Pairs of a number and a value of a measure.
fn pair_schema(measure: &Measure) -> Result<SchemaRef> {
    let Measure::Distinct { value_type, .. } = measure else {
        return Err(internal_datafusion_err!(
            "{measure:?} has no distinct values"
        ));
    };
    Ok(Arc::new(Schema::new(vec![
        Field::new("group", DataType::UInt32, false),
        Field::new("value", state_type(value_type), false),
    ])))
}

/// Where a group lies: its file, and its row there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    file: u32,
    row: u32,
}

/// Groups with their aggregates and distinct values, being written.
pub(super) struct GroupFiles {
    definition: Arc<Definition>,
    context: Arc<TaskContext>,
    files: Vec<GroupFile>,
    /// How often the groups have been cut before.
    cuts: u32,
}

/// The groups of [`GroupFiles`], to be brought together.
pub(super) struct GroupParts {
    definition: Arc<Definition>,
    context: Arc<TaskContext>,
    files: std::vec::IntoIter<WrittenGroups>,
    cuts: u32,
    /// Those of a file that didn't fit, cut anew.
    within: Option<Box<GroupParts>>,
    were_cut_anew: bool,
}

struct GroupFile {
    /// Keys and states without distinct values. A group may occur more than once.
    groups: BatchFile,
    rows: u32,
    /// For each distinct measure pairs of a row of `groups` and a value.
    pairs: Vec<Option<BatchFile>>,
}

impl GroupFiles {
    pub(super) fn new(definition: &Arc<Definition>, context: &Arc<TaskContext>) -> Result<Self> {
        Self::cut(definition, context, 0)
    }

    fn cut(definition: &Arc<Definition>, context: &Arc<TaskContext>, cuts: u32) -> Result<Self> {
        let states = definition.state_schema(true)?;
        let files = (0..FILES).map(|_| {
            let pairs = definition.measures.iter().map(|measure| {
                let measure = &measure.measure;
                Ok(match measure {
                    Measure::Distinct { .. } => {
                        Some(BatchFile::new(&pair_schema(measure)?, context))
                    }
                    _ => None,
                })
            });
            Ok(GroupFile {
                groups: BatchFile::new(&states, context),
                rows: 0,
                pairs: pairs.collect::<Result<_>>()?,
            })
        });
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            definition: Arc::clone(definition),
            context: Arc::clone(context),
            cuts,
        })
    }

    /// Adds groups, and says where each lies.
    pub(super) fn add_groups(
        &mut self,
        keys: Vec<ArrayRef>,
        states: Vec<Vec<ArrayRef>>,
    ) -> Result<Vec<Place>> {
        let rows = keys.first().map_or(1, |key| key.len());
        let hashes = hashes_of(&keys, rows)?;
        let columns: Vec<ArrayRef> = keys
            .into_iter()
            .chain(states.into_iter().flatten())
            .collect();
        let mut places = Vec::with_capacity(rows);
        let files = &mut self.files;
        let mut ends: Vec<u32> = files.iter().map(|file| file.rows).collect();
        for hash in &hashes {
            let file = file_of(*hash, self.cuts);
            places.push(Place {
                file: file as u32,
                row: ends[file],
            });
            ends[file] = ends[file]
                .checked_add(1)
                .ok_or_else(|| exec_datafusion_err!("more than 2^32 groups in a file"))?;
        }
        scatter(
            &columns,
            |row| places[row].file as usize,
            rows,
            |file, columns| {
                files[file].rows = ends[file];
                files[file].groups.write(columns)
            },
        )?;
        Ok(places)
    }

    /// Adds pairs of a distinct measure's.
    pub(super) fn add_pairs(
        &mut self,
        measure: usize,
        groups: &[Place],
        values: &ArrayRef,
    ) -> Result<()> {
        let rows = UInt32Array::from_iter_values(groups.iter().map(|place| place.row));
        let columns: [ArrayRef; 2] = [Arc::new(rows), Arc::clone(values)];
        let files = &mut self.files;
        let file = |row: usize| groups[row].file as usize;
        scatter(
            &columns,
            file,
            groups.len(),
            |file, columns| match &mut files[file].pairs[measure] {
                Some(pairs) => pairs.write(columns),
                None => Err(internal_datafusion_err!(
                    "pairs of a measure without values"
                )),
            },
        )
    }

    /// Ends writing, all files at once: one that is written takes two descriptors and a buffer.
    pub(super) fn into_parts(self) -> Result<GroupParts> {
        let files = self.files.into_iter().map(GroupFile::written);
        Ok(GroupParts {
            files: files.collect::<Result<Vec<_>>>()?.into_iter(),
            definition: self.definition,
            context: self.context,
            cuts: self.cuts,
            within: None,
            were_cut_anew: false,
        })
    }
}

impl GroupParts {
    /// The groups of the next file, or of a part of it, brought together and counted; none after the
    /// last.
    ///
    /// # Errors
    /// If a file can't be read, or if what can't be cut doesn't fit the memory.
    pub(super) fn next(&mut self, reservation: &MemoryReservation) -> Result<Option<Aggregator>> {
        loop {
            if let Some(within) = &mut self.within {
                if let Some(merged) = within.next(reservation)? {
                    return Ok(Some(merged));
                }
                self.were_cut_anew |= within.were_cut_anew;
                self.within = None;
            }
            let Some(file) = self.files.next() else {
                return Ok(None);
            };
            match self.merge(&file, reservation)? {
                Some(merged) => return Ok(Some(merged)),
                None => {
                    self.were_cut_anew = true;
                    self.within = Some(Box::new(self.cut_anew(file, reservation)?));
                }
            }
        }
    }

    /// Whether a file's groups, or a part of their distinct values, didn't fit the memory.
    pub(super) fn were_cut_anew(&self) -> bool {
        self.were_cut_anew
    }

    /// Brings the groups of a file together and counts them; none if they don't fit the memory but
    /// may do so in parts.
    fn merge(
        &mut self,
        file: &WrittenGroups,
        reservation: &MemoryReservation,
    ) -> Result<Option<Aggregator>> {
        let definition = &self.definition;
        let mut merged = Aggregator::hashed(definition.key_sources(), definition.measures())?;
        let has_pairs = file.has_pairs();
        let mut is_one = true;
        let mut numbers: Vec<u32> = Vec::new();
        let read = file.groups.read(|batch| {
            let (keys, states) = definition.states(batch.columns(), true)?;
            merged.merge(&keys, &states, batch.num_rows())?;
            is_one &= merged.last_numbers().iter().all(|number| *number == 0);
            if has_pairs {
                numbers.extend(merged.last_numbers());
            }
            reservation.try_resize(merged.size() + numbers.capacity() * size_of::<u32>())
        });
        match read {
            Err(full) if ran_out_of_memory(&full) && !is_one && self.cuts < MOST_CUTS => {
                reservation.free();
                return Ok(None);
            }
            read => read?,
        }
        for (at, pairs) in file.pairs.iter().enumerate() {
            if let Some(pairs) = pairs {
                self.were_cut_anew |=
                    merged.count_pairs(at, pairs, &numbers, reservation, &self.context)?;
            }
        }
        Ok(Some(merged))
    }

    /// The same groups by further bits of their hashes.
    fn cut_anew(&self, file: WrittenGroups, reservation: &MemoryReservation) -> Result<Self> {
        let mut parts = GroupFiles::cut(&self.definition, &self.context, self.cuts + 1)?;
        let has_pairs = file.has_pairs();
        let mut places: Vec<Place> = Vec::new();
        file.groups.read(|batch| {
            let (keys, states) = self.definition.states(batch.columns(), true)?;
            let added = parts.add_groups(keys, states)?;
            if has_pairs {
                places.extend(added);
            }
            reservation.try_resize(places.capacity() * size_of::<Place>())
        })?;
        for (at, pairs) in file.pairs.iter().enumerate() {
            let Some(pairs) = pairs else { continue };
            pairs.read(|batch| {
                let rows = batch.column(0).as_primitive::<UInt32Type>().values();
                let of: Vec<Place> = rows.iter().map(|row| places[*row as usize]).collect();
                parts.add_pairs(at, &of, batch.column(1))
            })?;
        }
        reservation.free();
        parts.into_parts()
    }
}

impl GroupFile {
    fn written(self) -> Result<WrittenGroups> {
        let pairs = self.pairs.into_iter();
        let pairs = pairs.map(|pairs| pairs.map(BatchFile::written).transpose());
        Ok(WrittenGroups {
            groups: self.groups.written()?,
            pairs: pairs.collect::<Result<_>>()?,
        })
    }
}

/// A [`GroupFile`] that is whole.
struct WrittenGroups {
    groups: WrittenFile,
    pairs: Vec<Option<WrittenFile>>,
}

impl WrittenGroups {
    /// Whether there are distinct values that aren't counted yet.
    fn has_pairs(&self) -> bool {
        let mut pairs = self.pairs.iter().flatten();
        pairs.any(|pairs| pairs.0.is_some())
    }
}

/// Pairs of a group's number and a value, by the value's hash.
pub(super) struct PairFiles {
    files: Vec<BatchFile>,
    cuts: u32,
}

impl PairFiles {
    /// For the values of a measure, which have been cut so often before; none if that is as often as
    /// it may be.
    pub(super) fn new(
        measure: &Measure,
        context: &Arc<TaskContext>,
        cuts: u32,
    ) -> Result<Option<Self>> {
        if cuts > MOST_CUTS {
            return Ok(None);
        }
        let schema = pair_schema(measure)?;
        let files = (0..FILES).map(|_| BatchFile::new(&schema, context));
        let files = files.collect();
        Ok(Some(Self { files, cuts }))
    }

    /// Adds pairs.
    pub(super) fn write(&mut self, groups: &[u32], values: &ArrayRef) -> Result<()> {
        let hashes = exchange_hashes(values)?;
        let groups: ArrayRef = Arc::new(UInt32Array::from_iter_values(groups.iter().copied()));
        let columns = [groups, Arc::clone(values)];
        let file = |row: usize| file_of(hashes[row], self.cuts);
        scatter(&columns, file, hashes.len(), |file, columns| {
            self.files[file].write(columns)
        })
    }

    /// Ends writing. All repetitions of a pair lie in one of the files.
    pub(super) fn written(self) -> Result<Vec<WrittenFile>> {
        self.files.into_iter().map(BatchFile::written).collect()
    }
}

/// By bits that have not chosen the file of a cut before already, nor the task: the low ones choose
/// that, or those from the 32nd on (`aggregator::states`).
fn file_of(hash: u64, cuts: u32) -> usize {
    (hash >> (u64::BITS - (cuts + 1) * FILE_BITS)) as usize % FILES
}

/// Gives `write` for each file the rows that go there.
fn scatter(
    columns: &[ArrayRef],
    file: impl Fn(usize) -> usize,
    rows: usize,
    mut write: impl FnMut(usize, Vec<ArrayRef>) -> Result<()>,
) -> Result<()> {
    let mut of_file: Vec<Vec<u32>> = vec![Vec::new(); FILES];
    for row in 0..rows {
        of_file[file(row)].push(row as u32);
    }
    for (file, rows) in of_file
        .into_iter()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty())
    {
        let rows = UInt32Array::from(rows);
        let taken = columns.iter().map(|column| {
            let taken = take(column, &rows, None)?;
            // Views keep the texts of all rows.
            Ok(match taken.data_type() {
                DataType::Utf8View => Arc::new(taken.as_string_view().gc()) as ArrayRef,
                _ => taken,
            })
        });
        write(file, taken.collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// The hashes by which rows are exchanged between tasks: the same in every process.
pub(super) fn exchange_hashes(values: &ArrayRef) -> Result<Vec<u64>> {
    hashes_of(std::slice::from_ref(values), values.len())
}

fn hashes_of(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0u64; rows];
    create_hashes(
        columns,
        REPARTITION_RANDOM_STATE.random_state(),
        &mut hashes,
    )?;
    Ok(hashes)
}
