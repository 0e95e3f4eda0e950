//! Distinct values on disk, for when they don't fit the memory.
//!
//! Pairs of a group's number and a value go to one of some files by the value's hash. So all
//! repetitions of a pair lie in one file, and a file at a time is deduplicated in memory.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;

/// Files of one measure.
const FILES: usize = 32;
/// Pairs that are written at once.
pub(super) const CHUNK: usize = 1 << 16;

/// Pairs of one measure, on disk.
pub(super) struct PairFiles {
    schema: SchemaRef,
    files: Vec<PairFile>,
}

struct PairFile {
    file: Arc<dyn SpillFile>,
    writer: StreamWriter<Box<dyn SpillWriter>>,
}

impl PairFiles {
    /// For values of a type.
    pub(super) fn new(value_type: &DataType, context: &TaskContext) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("group", DataType::UInt32, false),
            Field::new("value", value_type.clone(), false),
        ]));
        let disk = &context.runtime_env().disk_manager;
        let files = (0..FILES).map(|_| {
            let file = disk.create_tmp_file("distinct values")? as Arc<dyn SpillFile>;
            let writer = StreamWriter::try_new(file.open_writer()?, &schema)?;
            Ok(PairFile { file, writer })
        });
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            schema,
        })
    }

    /// Adds pairs.
    pub(super) fn write(&mut self, groups: &[u32], values: &ArrayRef) -> Result<()> {
        let hashes = exchange_hashes(values)?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); FILES];
        for (row, hash) in hashes.iter().enumerate() {
            // Bits that have not chosen the task already.
            rows[(hash >> 48) as usize % FILES].push(row as u32);
        }
        for (file, rows) in self.files.iter_mut().zip(rows) {
            if rows.is_empty() {
                continue;
            }
            let of_file = UInt32Array::from_iter_values(rows.iter().map(|r| groups[*r as usize]));
            let values = take(values, &UInt32Array::from(rows), None)?;
            let columns: Vec<ArrayRef> = vec![Arc::new(of_file), values];
            file.writer
                .write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        }
        Ok(())
    }

    /// Reads the files one after the other: `pairs` is called with each batch of a file, `done`
    /// after each file.
    pub(super) fn read<S>(
        self,
        state: &mut S,
        mut pairs: impl FnMut(&mut S, &RecordBatch) -> Result<()>,
        mut done: impl FnMut(&mut S),
    ) -> Result<()> {
        for PairFile { file, mut writer } in self.files {
            writer.finish()?;
            writer.into_inner()?.finish()?;
            let Some(path) = file.path() else {
                return Err(exec_datafusion_err!("distinct values spill to files only"));
            };
            let reader = StreamReader::try_new(BufReader::new(File::open(path)?), None)?;
            for batch in reader {
                pairs(state, &batch?)?;
            }
            done(state);
        }
        Ok(())
    }
}

/// The hashes by which rows are exchanged between tasks: the same in every process.
pub(super) fn exchange_hashes(values: &ArrayRef) -> Result<Vec<u64>> {
    let mut hashes = vec![0u64; values.len()];
    create_hashes(
        [values],
        REPARTITION_RANDOM_STATE.random_state(),
        &mut hashes,
    )?;
    Ok(hashes)
}
