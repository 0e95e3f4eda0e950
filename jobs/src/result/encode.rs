//! The files of a published result.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::json::writer::{JsonArray, WriterBuilder};
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

type Result<T> = std::result::Result<T, DataFusionError>;

/// A result as one Parquet file.
pub(crate) fn encode_parquet(rows: &RecordBatch) -> Result<Bytes> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_created_by(format!("rankmill {}", crate::ENGINE_VERSION))
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    Ok(file.into())
}

/// All rows of a Parquet file.
pub(crate) fn read_parquet(file: Bytes) -> Result<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let schema = Arc::clone(reader.schema());
    let batches = reader
        .build()?
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// A result as `{"job": …, "date": …, "rows": [{…}, …]}`, nulls written out.
pub(crate) fn encode_json(job: &str, date: &str, rows: &RecordBatch) -> Result<Bytes> {
    let mut array = Vec::new();
    if rows.num_rows() == 0 {
        array.extend_from_slice(b"[]");
    } else {
        let builder = WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, JsonArray>(&mut array);
        writer.write(rows)?;
        writer.finish()?;
    }
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let head = format!(
        "{{\"job\":{},\"date\":{},\"rows\":",
        quoted(job),
        quoted(date)
    );
    let mut file = head.into_bytes();
    file.append(&mut array);
    file.extend_from_slice(b"}\n");
    Ok(file.into())
}
