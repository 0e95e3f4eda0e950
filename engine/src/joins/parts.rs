//! Rows on disk, in parts by the hash of their keys.
//!
//! One file holds all parts of a side, in chunks: as many files as parts would need more descriptors
//! than a process may have. A chunk is an Arrow IPC stream of its own, so that chunks can be read in
//! any order, dictionaries too.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::compute::{cast, interleave_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;

use crate::operator::rows_bytes;

/// Which bits of a hash choose a part: `bits` below the highest `taken`, which chose before. The low
/// ones have chosen the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) taken: u32,
    pub(super) bits: u32,
}

impl Cut {
    /// The bits that have chosen then.
    pub(super) fn end(self) -> u32 {
        self.taken + self.bits
    }

    fn parts(self) -> usize {
        1 << self.bits
    }

    fn part_of(self, hash: u64) -> usize {
        (hash >> (u64::BITS - self.end())) as usize & (self.parts() - 1)
    }
}

/// Some rows of a part in the file.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    at: u64,
    len: usize,
}

/// What a part has.
#[derive(Debug, Default)]
struct Part {
    chunks: Vec<Chunk>,
    rows: usize,
    /// In memory.
    bytes: usize,
}

/// What rows are hashed by.
pub(super) struct Keys {
    pub(super) exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows with a null among them go anywhere; else a table that is full of them had one huge part.
    pub(super) spread_nulls: bool,
}

impl Keys {
    fn hash(&self, batch: &RecordBatch, hashes: &mut Vec<u64>) -> Result<()> {
        let keys = self.exprs.iter().map(|key| {
            let key = key.evaluate(batch)?;
            key.into_array(batch.num_rows())
        });
        let keys: Vec<ArrayRef> = keys.collect::<Result<_>>()?;
        hashes.clear();
        hashes.resize(batch.num_rows(), 0);
        create_hashes(&keys, REPARTITION_RANDOM_STATE.random_state(), hashes)?;
        if self.spread_nulls {
            for nulls in keys.iter().filter_map(|key| key.logical_nulls()) {
                let is_null = !nulls.inner();
                // Numbers far apart in all of their high bits (Knuth's multiplicative hashing).
                let spread = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                is_null
                    .set_indices()
                    .for_each(|row| hashes[row] = spread(row));
            }
        }
        Ok(())
    }
}

/// A side of a join, being written.
pub(super) struct PartWriter {
    schema: SchemaRef,
    keys: Keys,
    cut: Cut,
    parts: Vec<Part>,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    /// Bytes that are held before they are written.
    most_bytes: usize,
    file: Arc<dyn SpillFile>,
    writer: BufWriter<Box<dyn SpillWriter>>,
    end: u64,
}

impl PartWriter {
    pub(super) fn new(
        schema: &SchemaRef,
        keys: Keys,
        cut: Cut,
        most_bytes: usize,
        disk: &Arc<DiskManager>,
    ) -> Result<Self> {
        let file = disk.create_tmp_file("join")? as Arc<dyn SpillFile>;
        let writer = BufWriter::new(file.open_writer()?);
        Ok(Self {
            schema: Arc::clone(schema),
            keys,
            cut,
            parts: (0..cut.parts()).map(|_| Part::default()).collect(),
            held: Vec::new(),
            held_bytes: 0,
            most_bytes,
            file,
            writer,
            end: 0,
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = compact(batch)?;
        self.held_bytes += rows_bytes(&batch);
        self.held.push(batch);
        match self.held_bytes < self.most_bytes {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Writes a chunk for each part of which rows are held.
    fn flush(&mut self) -> Result<()> {
        let mut of_parts: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.cut.parts()];
        let mut hashes = Vec::new();
        for (at, batch) in self.held.iter().enumerate() {
            self.keys.hash(batch, &mut hashes)?;
            for (row, hash) in hashes.iter().enumerate() {
                of_parts[self.cut.part_of(*hash)].push((at, row));
            }
        }
        let held: Vec<&RecordBatch> = self.held.iter().collect();
        let mut encoded = Vec::new();
        for (part, rows) in self.parts.iter_mut().zip(&of_parts) {
            if rows.is_empty() {
                continue;
            }
            let batch = compact(&interleave_record_batch(&held, rows)?)?;
            encoded.clear();
            let mut writer = StreamWriter::try_new(&mut encoded, &self.schema)?;
            writer.write(&batch)?;
            writer.finish()?;
            self.writer.write_all(&encoded).map_err(not_written)?;
            part.chunks.push(Chunk {
                at: self.end,
                len: encoded.len(),
            });
            part.rows += rows.len();
            part.bytes += rows_bytes(&batch);
            self.end += encoded.len() as u64;
        }
        self.held.clear();
        self.held_bytes = 0;
        Ok(())
    }

    /// Ends writing.
    pub(super) fn finish(mut self) -> Result<Vec<WrittenPart>> {
        self.flush()?;
        let mut writer = self
            .writer
            .into_inner()
            .map_err(|e| not_written(e.into_error()))?;
        writer.finish()?;
        let parts = self.parts.into_iter().map(|part| WrittenPart {
            schema: Arc::clone(&self.schema),
            file: Arc::clone(&self.file),
            part,
        });
        Ok(parts.collect())
    }
}

/// A part that is whole. The file goes with the last of its parts.
pub(super) struct WrittenPart {
    schema: SchemaRef,
    file: Arc<dyn SpillFile>,
    part: Part,
}

impl WrittenPart {
    pub(super) fn rows(&self) -> usize {
        self.part.rows
    }

    /// Bytes of its rows in memory.
    pub(super) fn bytes(&self) -> usize {
        self.part.bytes
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Its rows, a chunk a batch.
    pub(super) fn read(&self) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let Some(path) = self.file.path() else {
            return Err(exec_datafusion_err!("a join spills to files only"));
        };
        let mut opened = File::open(path)?;
        let (schema, file) = (Arc::clone(&self.schema), Arc::clone(&self.file));
        let chunks = self.part.chunks.clone().into_iter();
        Ok(chunks.map(move |chunk| {
            // It is there as long as it is read.
            let _file = &file;
            opened.seek(SeekFrom::Start(chunk.at))?;
            let mut bytes = vec![0; chunk.len];
            opened.read_exact(&mut bytes)?;
            let batch = StreamDecoder::new().decode(&mut Buffer::from_vec(bytes))?;
            let batch = batch.ok_or_else(|| exec_datafusion_err!("a chunk without rows"))?;
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        }))
    }
}

/// The same rows, without what they share with others: the buffers of texts, and dictionaries.
pub(super) fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(compact_column);
    let columns = columns.collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn compact_column(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        DataType::Dictionary(_, values) if has_more_values(column) => {
            cast(&cast(column, values)?, column.data_type())?
        }
        _ => Arc::clone(column),
    })
}

/// Whether a dictionary has more values than rows.
fn has_more_values(column: &ArrayRef) -> bool {
    let dictionary = column.as_any_dictionary_opt();
    dictionary.is_some_and(|dictionary| dictionary.values().len() > column.len())
}

/// Says where it was that writing failed: mostly the disk is full.
fn not_written(error: std::io::Error) -> DataFusionError {
    DataFusionError::IoError(error).context(
        "memory is short, and rows to be joined can't be written to the folder for temporary files",
    )
}
