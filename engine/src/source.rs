//! Sources: which files a table has, what they hold, and the table that DataFusion scans.

mod broken;
mod condition;
mod listing;
mod packing;
mod schema;
mod table;

pub use broken::find_broken_file;
pub use listing::{SourceFile, SourcePath, list_files};
pub(crate) use table::ShuffledKey;
pub(crate) use table::days_since_epoch;
pub use table::{DATE_COLUMN, SourceTable};

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;

/// Read from the end of a Parquet file at first: a footer mostly fits. DataFusion's 512 KiB are more
/// than many files have in all.
const FOOTER_BYTES: usize = 64 << 10;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with a delimiter, possibly compressed (`.gz`, `.bz2`, `.xz`, `.zst`).
    Csv {
        /// One byte between two values.
        delimiter: u8,
        /// Whether the first line names the columns.
        header: bool,
    },
    /// One JSON object a line, possibly compressed.
    Json,
}

impl Format {
    /// `parquet`, `csv` or `json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv { .. } => "csv",
            Self::Json => "json",
        }
    }

    /// File name endings that count as this format in a folder, before that of a compression.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &["parquet", "parq"],
            Self::Csv { .. } => &["csv", "tsv", "txt"],
            Self::Json => &["json", "jsonl", "ndjson"],
        }
    }

    /// Whether a file of this name in a folder is one of its data files.
    fn matches_name(self, name: &str) -> bool {
        let name = match self {
            Self::Parquet => name,
            _ => strip_compression(name).0,
        };
        name.rsplit_once('.')
            .is_some_and(|(_, ending)| self.extensions().contains(&ending))
    }

    /// DataFusion's reader for files of this format and compression.
    fn reader(self, compression: FileCompressionType) -> Arc<dyn FileFormat> {
        match self {
            Self::Parquet => Arc::new(condition::reader(false)),
            Self::Csv { delimiter, header } => Arc::new(
                CsvFormat::default()
                    .with_delimiter(delimiter)
                    .with_has_header(header)
                    .with_newlines_in_values(true)
                    .with_file_compression_type(compression),
            ),
            Self::Json => Arc::new(JsonFormat::default().with_file_compression_type(compression)),
        }
    }
}

/// Splits the ending of a compression off a file name.
fn strip_compression(name: &str) -> (&str, FileCompressionType) {
    for (ending, compression) in [
        (".gz", FileCompressionType::GZIP),
        (".bz2", FileCompressionType::BZIP2),
        (".xz", FileCompressionType::XZ),
        (".zst", FileCompressionType::ZSTD),
    ] {
        if let Some(rest) = name.strip_suffix(ending) {
            return (rest, compression);
        }
    }
    (name, FileCompressionType::UNCOMPRESSED)
}
