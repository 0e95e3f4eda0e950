//! A part as a Parquet file, in memory.
//!
//! Pages are built here and laid into the file by the `parquet` crate. Its own column writers look every value of a
//! dictionary up and pack value by value, which takes most of the time of a generation; here codes are known, and
//! numbers are packed 32 at a time.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use rayon::prelude::*;

use crate::{Config, Error, Part};
use chunk::{Compressor, ZSTD_LEVEL};
use column::Column;

mod chunk;
mod column;
mod delta;
mod hybrid;
mod pack;

pub(crate) use column::{NO_CODE, NULL, Texts, Values};

/// Rows made at a time: their columns stay in the second-level cache.
pub(crate) const BATCH_ROWS: u64 = 1 << 13;

/// Rows of a table, made batch by batch.
pub(crate) trait Batch: Send {
    /// Makes some rows, in place of those before.
    fn make(&mut self, rows: Range<u64>);

    /// The rows made last, in the order of the table's schema.
    fn columns(&self) -> Vec<Values<'_>>;
}

/// Encodes a part, its row groups on several threads where the caller's pool has idle ones: each thread's share by a
/// batch of its own, which are handed back for what they have counted.
pub(crate) fn encode<B: Batch>(
    part: &Part,
    config: &Config,
    new_batch: impl Fn() -> B + Sync,
) -> std::result::Result<(Vec<u8>, Vec<B>), Error> {
    write(part, config, new_batch).map_err(|source| Error::Encode {
        path: part.path.clone(),
        source,
    })
}

fn write<B: Batch>(
    part: &Part,
    config: &Config,
    new_batch: impl Fn() -> B + Sync,
) -> Result<(Vec<u8>, Vec<B>)> {
    let schema = ArrowSchemaConverter::new().convert(&part.table.schema())?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .build();
    let groups = part.row_groups(config);
    let share = groups.len().div_ceil(rayon::current_num_threads()).max(1);
    let shares = groups.par_chunks(share).map(|groups| {
        let mut batch = new_batch();
        let groups = groups.iter();
        let groups = groups.map(|rows| row_group(&schema, rows.clone(), &mut batch));
        Ok((groups.collect::<Result<Vec<_>>>()?, batch))
    });
    let shares = shares.collect::<Result<Vec<_>>>()?;
    let root = schema.root_schema_ptr();
    let groups = shares.iter().flat_map(|(groups, _)| groups);
    let bytes: usize = groups.flatten().map(|column| column.0.len()).sum();
    let buffer = Vec::with_capacity(bytes + FOOTER_BYTES);
    let mut file = SerializedFileWriter::new(buffer, root, Arc::new(properties))?;
    let mut batches = Vec::with_capacity(shares.len());
    for (groups, batch) in shares {
        for group in groups {
            let mut writer = file.next_row_group()?;
            for (bytes, close) in group {
                writer.append_column(&bytes, close)?;
            }
            writer.close()?;
        }
        batches.push(batch);
    }
    Ok((file.into_inner()?, batches))
}

/// Room for the descriptions of a file's columns.
const FOOTER_BYTES: usize = 16 << 10;

/// The columns of a row group.
fn row_group(
    schema: &SchemaDescriptor,
    rows: Range<u64>,
    batch: &mut dyn Batch,
) -> Result<Vec<(Bytes, ColumnCloseResult)>> {
    let columns = schema.columns().iter();
    let mut columns: Vec<Column> = columns.map(|descr| Column::new(descr.clone())).collect();
    let mut compressor = Compressor::new()?;
    for rows in batches(rows) {
        batch.make(rows);
        for (column, values) in columns.iter_mut().zip(batch.columns()) {
            column.push(values, &mut compressor)?;
        }
    }
    let columns = columns.into_iter();
    columns
        .map(|column| column.finish(&mut compressor))
        .collect()
}

/// Rows cut into batches.
fn batches(rows: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = rows;
    let starts = (start..end).step_by(BATCH_ROWS as usize);
    starts.map(move |start| start..(start + BATCH_ROWS).min(end))
}
