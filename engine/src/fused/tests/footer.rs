//! Writes what a Parquet file's footer says of its values anew.

use std::path::Path;

use bytes::Bytes;
use datafusion::parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use datafusion::parquet::file::statistics::Statistics;

/// Gives each column of each row group, by the place of the group and the column's name, other
/// statistics, or none.
pub(crate) fn restate(path: &Path, statistics: impl Fn(usize, &str) -> Option<Statistics>) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut reader = ParquetMetaDataReader::new();
    reader.try_parse(&Bytes::from(bytes.clone())).unwrap();
    let metadata = reader.finish().unwrap();
    let row_groups = metadata.row_groups().iter().enumerate();
    let row_groups = row_groups.map(|(at, group)| {
        let columns = group.columns().iter().map(|column| {
            let name = column.column_path().string();
            let column = column.clone().into_builder().clear_statistics();
            let column = match statistics(at, &name) {
                Some(statistics) => column.set_statistics(statistics),
                None => column,
            };
            column.build().unwrap()
        });
        let group = group.clone().into_builder();
        group.set_column_metadata(columns.collect()).build()
    });
    let row_groups = row_groups.map(Result::unwrap).collect();
    let metadata = metadata.into_builder().set_row_groups(row_groups).build();
    // At the end the footer's length and a magic number, four bytes each.
    let length = bytes[bytes.len() - 8..].first_chunk::<4>().unwrap();
    let footer = u32::from_le_bytes(*length) as usize + 8;
    bytes.truncate(bytes.len() - footer);
    let writer = ParquetMetaDataWriter::new(&mut bytes, &metadata);
    writer.finish().unwrap();
    std::fs::write(path, bytes).unwrap();
}
