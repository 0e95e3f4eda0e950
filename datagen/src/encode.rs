//! A part as a Parquet file, in memory.
//!
//! Pages are built here and laid into the file by the `parquet` crate. Its own column writers look every value of a
//! dictionary up and pack value by value, which takes most of the time of a generation; here codes are known, and
//! numbers are packed 32 at a time.

use std::ops::Range;
use std::sync::Arc;

use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::{Config, Error, Part};
use chunk::Compressor;
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
pub(crate) trait Batch {
    /// Makes some rows, in place of those before.
    fn make(&mut self, rows: Range<u64>);

    /// The rows made last, in the order of the table's schema.
    fn columns(&self) -> Vec<Values<'_>>;
}

/// Encodes a part.
pub(crate) fn encode(
    part: &Part,
    config: &Config,
    batch: &mut dyn Batch,
) -> std::result::Result<Vec<u8>, Error> {
    write(part, config, batch).map_err(|source| Error::Encode {
        path: part.path.clone(),
        source,
    })
}

fn write(part: &Part, config: &Config, batch: &mut dyn Batch) -> Result<Vec<u8>> {
    let schema = ArrowSchemaConverter::new().convert(&part.table.schema())?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let root = schema.root_schema_ptr();
    let mut file = SerializedFileWriter::new(Vec::new(), root, Arc::new(properties))?;
    let columns = file.schema_descr().columns().iter();
    let mut columns: Vec<Column> = columns.map(|descr| Column::new(descr.clone())).collect();
    let mut compressor = Compressor::new()?;
    for group in part.row_groups(config) {
        for rows in batches(group) {
            batch.make(rows);
            for (column, values) in columns.iter_mut().zip(batch.columns()) {
                column.push(values, &mut compressor)?;
            }
        }
        let mut writer = file.next_row_group()?;
        for column in &mut columns {
            let (bytes, close) = column.finish(&mut compressor)?;
            writer.append_column(&bytes, close)?;
        }
        writer.close()?;
    }
    file.into_inner()
}

/// Rows cut into batches.
pub(crate) fn batches(rows: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = rows;
    let starts = (start..end).step_by(BATCH_ROWS as usize);
    starts.map(move |start| start..(start + BATCH_ROWS).min(end))
}
