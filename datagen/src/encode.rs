//! A part as a Parquet file, in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::{Config, Error, Part, Table};

/// Rows made at a time: their columns stay in the second-level cache.
const BATCH_ROWS: u64 = 1 << 13;
/// The default, 20,000, makes pages of a few kB for columns of two or three bits.
const PAGE_ROWS: usize = 1 << 17;

/// Encodes a part; `columns` makes the columns of any of its rows, in the order of the table's schema.
pub(crate) fn encode(
    part: &Part,
    config: &Config,
    mut columns: impl FnMut(Range<u64>) -> Result<Vec<ArrayRef>, ArrowError>,
) -> Result<Vec<u8>, Error> {
    let mut run = || -> Result<Vec<u8>, ParquetError> {
        let end = |start: u64| (start + BATCH_ROWS).min(part.rows.end);
        // At least one batch, so that an empty part has a schema.
        let mut rows = part.rows.start..end(part.rows.start);
        let first = columns(rows.clone())?;
        let schema = Arc::new(written_schema(part.table, &first));
        let options = ArrowWriterOptions::new()
            .with_properties(properties(config, &schema)?)
            // Readers see texts: that some are dictionaries here is nobody's concern.
            .with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), first)?)?;
        while rows.end < part.rows.end {
            rows = rows.end..end(rows.end);
            let batch = columns(rows.clone())?;
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), batch)?)?;
        }
        writer.into_inner()
    };
    run().map_err(|source| Error::Encode {
        path: part.path.clone(),
        source,
    })
}

/// The table's columns with the types that are handed to the writer, dictionaries among them.
fn written_schema(table: Table, columns: &[ArrayRef]) -> Schema {
    let schema = table.schema();
    let fields = schema.fields().iter().zip(columns);
    let field = |(field, column): (&Arc<Field>, &ArrayRef)| {
        Field::clone(field).with_data_type(column.data_type().clone())
    };
    Schema::new(fields.map(field).collect::<Vec<_>>())
}

fn properties(config: &Config, schema: &Schema) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(config.rows_per_row_group as usize))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(BATCH_ROWS as usize)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for field in schema.fields() {
        let encoding = match field.data_type() {
            // Numbers of many values: packed differences beat a dictionary that overflows.
            DataType::Int64 | DataType::Int32 | DataType::Timestamp(..) => {
                Encoding::DELTA_BINARY_PACKED
            }
            _ if field.name() == "client_ip" => Encoding::PLAIN,
            _ => continue,
        };
        let column = ColumnPath::from(field.name().as_str());
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, encoding);
    }
    Ok(properties.build())
}
