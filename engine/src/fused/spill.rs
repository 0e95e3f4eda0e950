//! Groups on disk, for when they don't fit the memory.
//!
//! A group goes to one of some files by the hash of its keys, and its distinct values to one beside
//! it. So all that is known of a group lies in one place, and a place at a time is brought together
//! in memory. Where the distinct values of a place don't fit, those of a hot group, they go to
//! further files by their own hash: all repetitions of a pair lie in one, and a file at a time is
//! counted. (Partitioning until a part fits: Bratbergsengen, "Hashing Methods and Relational Algebra
//! Operations", VLDB 1984.)

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
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

/// Files that groups, and that the values of one measure, are cut into.
const FILES: usize = 32;
/// Pairs that are written at once.
pub(super) const CHUNK: usize = 1 << 16;

/// Batches in a file of its own, which is there when the first is written: descriptors are few.
pub(super) struct BatchFile {
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
        Ok(self.open.insert(open).writer.write(&batch)?)
    }

    /// Calls `each` with the batches, in the order in which they were written.
    pub(super) fn read(self, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let Some(Open { file, mut writer }) = self.open else {
            return Ok(());
        };
        writer.finish()?;
        let mut writer = writer
            .into_inner()?
            .into_inner()
            .map_err(|e| DataFusionError::IoError(e.into_error()))?;
        writer.finish()?;
        drop(writer);
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

/// Groups with their aggregates and distinct values.
pub(super) struct GroupFiles {
    definition: Arc<Definition>,
    context: Arc<TaskContext>,
    files: std::vec::IntoIter<GroupFile>,
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
            files: files.collect::<Result<Vec<_>>>()?.into_iter(),
            definition: Arc::clone(definition),
            context: Arc::clone(context),
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
        let files = self.files.as_mut_slice();
        let mut ends: Vec<u32> = files.iter().map(|file| file.rows).collect();
        for hash in &hashes {
            let file = file_of(*hash);
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
        let files = self.files.as_mut_slice();
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

    /// The groups of the next file, brought together and counted; none after the last.
    ///
    /// # Errors
    /// If a file can't be read, or if its groups don't fit the memory.
    pub(super) fn next(&mut self, reservation: &MemoryReservation) -> Result<Option<Aggregator>> {
        let Some(file) = self.files.next() else {
            return Ok(None);
        };
        let definition = &self.definition;
        let mut merged = Aggregator::hashed(definition.key_sources(), definition.measures())?;
        let mut numbers: Vec<u32> = Vec::new();
        file.groups.read(|batch| {
            let (keys, states) = definition.states(batch.columns(), true)?;
            merged.merge(&keys, &states, batch.num_rows())?;
            numbers.extend(merged.last_numbers());
            reservation.try_resize(merged.size() + numbers.capacity() * size_of::<u32>())
        })?;
        for (at, pairs) in file.pairs.into_iter().enumerate() {
            if let Some(pairs) = pairs {
                merged.count_pairs(at, pairs, &numbers, reservation, &self.context)?;
            }
        }
        Ok(Some(merged))
    }
}

/// Pairs of a group's number and a value, by the value's hash.
pub(super) struct PairFiles(Vec<BatchFile>);

impl PairFiles {
    /// For the values of a measure.
    pub(super) fn new(measure: &Measure, context: &Arc<TaskContext>) -> Result<Self> {
        let schema = pair_schema(measure)?;
        let files = (0..FILES).map(|_| BatchFile::new(&schema, context));
        Ok(Self(files.collect()))
    }

    /// Adds pairs.
    pub(super) fn write(&mut self, groups: &[u32], values: &ArrayRef) -> Result<()> {
        let hashes = exchange_hashes(values)?;
        let groups: ArrayRef = Arc::new(UInt32Array::from_iter_values(groups.iter().copied()));
        let columns = [groups, Arc::clone(values)];
        let file = |row: usize| file_of(hashes[row]);
        scatter(&columns, file, hashes.len(), |file, columns| {
            self.0[file].write(columns)
        })
    }

    /// The files: all repetitions of a pair lie in one.
    pub(super) fn into_files(self) -> Vec<BatchFile> {
        self.0
    }
}

/// By bits that have not chosen the task already.
fn file_of(hash: u64) -> usize {
    (hash >> 48) as usize % FILES
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
