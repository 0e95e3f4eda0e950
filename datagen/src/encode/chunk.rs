//! A column's pages within a row group: compressed, laid behind each other, and described.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// What readers pay least for.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// Compresses pages; its tables are kept from one to the next.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    pub(super) fn new() -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { zstd })
    }
}

/// A page, not yet laid into its chunk.
struct Made {
    page: CompressedPage,
    rows: usize,
}

/// The data pages so far.
#[derive(Default)]
pub(super) struct Chunk {
    pages: Vec<Made>,
}

impl Chunk {
    /// Adds a page of `rows` values and nulls: its levels and values.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        rows: usize,
        encoding: Encoding,
        compressor: &mut Compressor,
    ) -> Result<()> {
        let page = Page::DataPage {
            buf: Bytes::from(compressor.zstd.compress(bytes)?),
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        self.pages.push(Made {
            page: CompressedPage::new(page, bytes.len()),
            rows,
        });
        Ok(())
    }

    /// Lays out the chunk, the dictionary first (its values in `PLAIN`, and how many), and describes it.
    pub(super) fn finish(
        self,
        descr: &ColumnDescPtr,
        dictionary: Option<(&[u8], usize)>,
        statistics: Statistics,
        compressor: &mut Compressor,
    ) -> Result<(Bytes, ColumnCloseResult)> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut sink);
        let mut uncompressed = 0;
        let mut stats = Vec::new();
        let mut encodings = vec![Encoding::RLE];
        let mut dictionary_offset = None;
        if let Some((values, count)) = dictionary {
            let page = Page::DictionaryPage {
                buf: Bytes::from(compressor.zstd.compress(values)?),
                num_values: count as u32,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let spec = writer.write_page(CompressedPage::new(page, values.len()))?;
            uncompressed += spec.uncompressed_size;
            dictionary_offset = Some(spec.offset as i64);
            encodings.push(Encoding::PLAIN);
            stats.push(PageEncodingStats {
                page_type: PageType::DICTIONARY_PAGE,
                encoding: Encoding::PLAIN,
                count: 1,
            });
        }
        let mut offsets = OffsetIndexBuilder::new();
        let mut data_offset = None;
        let mut rows = 0;
        let mut encoding = Encoding::PLAIN;
        let count = self.pages.len();
        for made in self.pages {
            encoding = made.page.encoding();
            let spec = writer.write_page(made.page)?;
            uncompressed += spec.uncompressed_size;
            data_offset.get_or_insert(spec.offset as i64);
            offsets.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
            offsets.append_row_count(made.rows as i64);
            offsets.append_unencoded_byte_array_data_bytes(None);
            rows += made.rows;
        }
        encodings.push(encoding);
        stats.push(PageEncodingStats {
            page_type: PageType::DATA_PAGE,
            encoding,
            count: count as i32,
        });
        writer.close()?;
        let no_page = || ParquetError::General("a column chunk without a page".to_owned());
        let bytes = sink.into_inner()?;
        let compression = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?);
        let metadata = ColumnChunkMetaData::builder(descr.clone())
            .set_compression(compression)
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_num_values(rows as i64)
            .set_data_page_offset(data_offset.ok_or_else(no_page)?)
            .set_dictionary_page_offset(dictionary_offset)
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(offsets.build()),
        };
        Ok((Bytes::from(bytes), close))
    }
}
