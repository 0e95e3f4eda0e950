//! A table over a fixed list of files.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{Datelike, NaiveDate};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session as CatalogSession, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DataFusionResult, ScalarValue, Statistics, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::parquet::basic::Type as ParquetType;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore};

use super::condition::{self, Estimate};
use super::listing::{SourceFile, SourcePath};
use super::packing::{
    Packed, Piece, RowGroup, column_of, pack, pack_dates, row_groups, text_parts,
};
use super::{FOOTER_BYTES, Format, schema, strip_compression};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::session::Session;

/// The column that holds a row's calendar date.
pub const DATE_COLUMN: &str = "date";

/// Footers read at once.
const CONCURRENT_FOOTERS: usize = 16;
/// Files whose footers are asked how many rows pass a condition.
const HINTING_FILES: usize = 64;

/// Files of one format under one schema. Where the files have dates, the column
/// [`DATE_COLUMN`] (Date32) comes from their folders.
#[derive(Clone)]
pub struct SourceTable {
    store_url: ObjectStoreUrl,
    base: Location,
    format: Format,
    reader: Arc<dyn FileFormat>,
    compression: FileCompressionType,
    table_schema: TableSchema,
    files: Vec<OpenFile>,
    /// Columns whose values occur once, but for nulls.
    unique_keys: Vec<String>,
    /// Keys by which logs are shuffled to it.
    shuffled_keys: Vec<ShuffledKey>,
    /// Whether all files have the same columns.
    one_schema: bool,
    /// Conditions of which only the table is told.
    hints: Vec<Expr>,
}

/// A key of a dimension that is too large for a code table.
#[derive(Debug, Clone)]
pub(crate) struct ShuffledKey {
    /// The dimension's column.
    pub(crate) column: String,
    /// The most frequent keys of the logs that are joined with it.
    pub(crate) hot: Vec<ScalarValue>,
    /// About what the code table would take.
    pub(crate) table_bytes: usize,
}

/// A file, and what it says of itself.
#[derive(Clone)]
struct OpenFile {
    file: SourceFile,
    statistics: Arc<Statistics>,
    row_groups: Arc<[RowGroup]>,
}

impl Packed for OpenFile {
    fn file(&self) -> &SourceFile {
        &self.file
    }

    fn row_groups(&self) -> &[RowGroup] {
        &self.row_groups
    }
}

impl std::fmt::Debug for SourceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceTable")
            .field("base", &self.base.to_string())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl SourceTable {
    /// Reads what each file says of itself (for Parquet its footer, for text its first rows)
    /// and merges it to one schema.
    pub async fn open(
        session: &Session,
        source: &SourcePath,
        format: Format,
        files: Vec<SourceFile>,
    ) -> Result<Self> {
        let base = source.base().clone();
        if files.is_empty() {
            return Err(Error::NoFiles {
                path: base.to_string(),
            });
        }
        let compression = match format {
            Format::Parquet => FileCompressionType::UNCOMPRESSED,
            _ => one_compression(&base, &files)?,
        };
        let reader = format.reader(compression);
        let store = session.stores().of(&base)?;
        let state = session.context().state();
        let broken = |file: &SourceFile, source| Error::BrokenFile {
            path: base.display(&file.meta.location),
            format: format.name(),
            source: Box::new(source),
        };
        // Boxed: the compiler can't prove nested closures over references to be `Send`.
        let inferred: Vec<BoxFuture<'_, Result<(String, SchemaRef)>>> = files
            .iter()
            .map(|file| {
                let inferred = async {
                    let objects = std::slice::from_ref(&file.meta);
                    let schema = reader.infer_schema(&state, &store, objects).await;
                    let schema = schema.map_err(|e| broken(file, e))?;
                    Ok((base.display(&file.meta.location), schema))
                };
                inferred.boxed()
            })
            .collect();
        let schemas: Vec<(String, SchemaRef)> = stream::iter(inferred)
            .buffered(CONCURRENT_FOOTERS)
            .try_collect()
            .await?;
        if let Format::Csv { .. } = format {
            same_header(&schemas)?;
        }
        let columns = |schema: &SchemaRef| {
            let fields = schema.fields().iter();
            let fields = fields.map(|field| (field.name().clone(), field.data_type().clone()));
            fields.collect::<Vec<_>>()
        };
        let one_schema = schemas
            .windows(2)
            .all(|two| columns(&two[0].1) == columns(&two[1].1));
        let file_schema = schema::merge(&schemas, format)?;
        let table_schema = table_schema(&file_schema, &files);
        // The schema of the file's own columns: partition values come behind them.
        let columns = table_schema.file_schema();
        let unknown = || Statistics::new_unknown(columns);
        let footers = &state.runtime_env().cache_manager.get_file_metadata_cache();
        let opened: Vec<BoxFuture<'_, DataFusionResult<OpenFile>>> = files
            .into_iter()
            .map(|file| {
                let opened = async {
                    let (statistics, row_groups) = match format {
                        Format::Parquet => {
                            // One look at the footer for both. It was read for the schema before.
                            let footer = footer(store.as_ref(), &file.meta, footers).await?;
                            let mut statistics =
                                DFParquetMetadata::statistics_from_parquet_metadata(
                                    &footer, columns,
                                )?;
                            forget_partial_bounds(&mut statistics, &footer, columns);
                            (statistics, row_groups(footer.as_ref(), columns))
                        }
                        // Neither says anything before it is read.
                        Format::Json if compression == FileCompressionType::UNCOMPRESSED => {
                            (unknown(), text_parts(file.meta.size))
                        }
                        // Of CSV a value may hold ends of lines.
                        Format::Csv { .. } | Format::Json => (unknown(), Vec::new()),
                    };
                    Ok(OpenFile {
                        file,
                        statistics: Arc::new(statistics),
                        row_groups: row_groups.into(),
                    })
                };
                opened.boxed()
            })
            .collect();
        let files = stream::iter(opened)
            .buffered(CONCURRENT_FOOTERS)
            .try_collect()
            .await?;
        Ok(Self {
            store_url: base.object_store_url()?,
            base,
            format,
            reader,
            compression,
            table_schema,
            files,
            unique_keys: Vec::new(),
            shuffled_keys: Vec::new(),
            one_schema,
            hints: Vec::new(),
        })
    }

    /// The same table, of which is known that no value of a column occurs twice, but for null.
    pub(crate) fn with_unique_key(mut self, column: &str) -> Self {
        self.unique_keys.push(column.to_owned());
        self
    }

    /// Whether it is known that no value of a column occurs twice, but for null.
    pub(crate) fn is_unique(&self, column: &str) -> bool {
        self.unique_keys.iter().any(|known| known == column)
    }

    /// The same table, of which is known that it takes too much as a code table by a key.
    /// What is hot in one log may be so in another: what is hot besides costs no more than copies.
    pub(crate) fn with_shuffled_key(mut self, key: ShuffledKey) -> Self {
        let mut known = self.shuffled_keys.iter_mut();
        match known.find(|known| known.column == key.column) {
            Some(known) => {
                let new = key.hot.into_iter();
                let new: Vec<_> = new.filter(|key| !known.hot.contains(key)).collect();
                known.hot.extend(new);
            }
            None => self.shuffled_keys.push(key),
        }
        self
    }

    /// What is known of a key by which logs are shuffled to the table.
    pub(crate) fn shuffled_key(&self, column: &str) -> Option<&ShuffledKey> {
        self.shuffled_keys.iter().find(|key| key.column == column)
    }

    /// The same table, of whose rows those that don't satisfy a condition are left out by what reads
    /// it, though not in these words: footers can say how many that are.
    pub fn with_hint(mut self, condition: Expr) -> Self {
        self.hints.push(condition);
        self
    }

    /// Whether all files have the same columns of the same types: then so has any part of them.
    pub fn has_one_schema(&self) -> bool {
        self.one_schema
    }

    /// Names the files as they were listed, and how they are read: another version of any of them
    /// gives another text.
    pub(crate) fn identity(&self) -> String {
        let files = self.files().map(|file| {
            let meta = &file.meta;
            let etag = meta.e_tag.as_deref().unwrap_or_default();
            let modified = meta.last_modified.timestamp_micros();
            format!("{} {} {etag} {modified}", meta.location, meta.size)
        });
        let files: Vec<String> = files.collect();
        let schema = self.table_schema.table_schema();
        format!(
            "{} {:?} {schema:?} {}",
            self.base,
            self.reader,
            files.join("\n")
        )
    }

    /// For each file the smallest and the largest value of a column, null where it doesn't say.
    pub fn ranges(&self, column: &str) -> Vec<(ScalarValue, ScalarValue)> {
        let index = self.table_schema.file_schema().index_of(column).ok();
        let unknown = || (ScalarValue::Null, ScalarValue::Null);
        let range = |stats: &Statistics| {
            let Some(column) = index.map(|index| &stats.column_statistics[index]) else {
                return unknown();
            };
            match (&column.min_value, &column.max_value) {
                (Precision::Exact(min), Precision::Exact(max)) => (min.clone(), max.clone()),
                _ => unknown(),
            }
        };
        let files = self.files.iter();
        files.map(|open| range(&open.statistics)).collect()
    }

    /// The same table with only the files for which `keep` says so, given their places.
    pub fn retain(mut self, keep: impl Fn(usize) -> bool) -> Self {
        let mut place = 0..;
        self.files.retain(|_| place.next().is_some_and(&keep));
        self
    }

    /// At most so many of the files, evenly chosen.
    pub fn sample(self, files: usize) -> Self {
        let step = self.files.len().div_ceil(files.max(1)).max(1);
        self.retain(|place| place % step == 0)
    }

    /// The same columns without any row.
    pub fn without_files(mut self) -> Self {
        self.files.clear();
        self
    }

    /// The files, in order of their paths.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &SourceFile> {
        self.files.iter().map(|open| &open.file)
    }

    /// Rows of all files; `None` where a format doesn't say without reading (CSV, JSON).
    pub fn rows(&self) -> Option<u64> {
        self.files
            .iter()
            .map(|open| match open.statistics.num_rows {
                Precision::Exact(rows) => Some(rows as u64),
                _ => None,
            })
            .sum()
    }

    /// Bytes of all files as stored.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.meta.size).sum()
    }

    fn statistics_of_all(&self) -> Statistics {
        let mut all = Statistics::new_unknown(self.table_schema.table_schema());
        if let Some(rows) = self.rows() {
            all.num_rows = Precision::Exact(rows as usize);
        }
        all.total_byte_size = Precision::Inexact(self.bytes() as usize);
        let file_columns = self.table_schema.file_schema().fields().len();
        for (i, column) in all.column_statistics.iter_mut().enumerate() {
            let (min, max) = match i < file_columns {
                true => self.bounds(i),
                false => self.date_bounds(),
            };
            // Files may say anything: nothing is to be answered from these alone.
            column.min_value = min.map_or(Precision::Absent, Precision::Inexact);
            column.max_value = max.map_or(Precision::Absent, Precision::Inexact);
        }
        all
    }

    /// The smallest and the largest value of a file's column over all files; none where one doesn't
    /// say.
    fn bounds(&self, column: usize) -> (Option<ScalarValue>, Option<ScalarValue>) {
        let mut bounds: Option<(ScalarValue, ScalarValue)> = None;
        for open in &self.files {
            // Without rows there is nothing to state.
            if open.statistics.num_rows == Precision::Exact(0) {
                continue;
            }
            let column = &open.statistics.column_statistics[column];
            let values = (column.min_value.get_value(), column.max_value.get_value());
            let (Some(min), Some(max)) = values else {
                return (None, None);
            };
            // A file of nulls only has none.
            if min.is_null() || max.is_null() {
                continue;
            }
            bounds = Some(match bounds {
                None => (min.clone(), max.clone()),
                Some((least, most)) => (
                    if *min < least { min.clone() } else { least },
                    if *max > most { max.clone() } else { most },
                ),
            });
        }
        bounds.unzip()
    }

    /// The smallest and the largest value of a column, if all files tell theirs.
    pub fn range(&self, column: &str) -> Option<(ScalarValue, ScalarValue)> {
        let index = self.table_schema.file_schema().index_of(column).ok()?;
        let (min, max) = self.bounds(index);
        min.zip(max)
    }

    fn date_bounds(&self) -> (Option<ScalarValue>, Option<ScalarValue>) {
        let dates = || self.files().filter_map(|file| file.date);
        let scalar = |date| ScalarValue::Date32(Some(days_since_epoch(date)));
        (dates().min().map(scalar), dates().max().map(scalar))
    }

    /// Whether by the footers much is left out by a condition.
    async fn leaves_much_out(
        &self,
        state: &dyn CatalogSession,
        filters: &[Expr],
    ) -> DataFusionResult<bool> {
        if self.format != Format::Parquet {
            return Ok(false);
        }
        let filters = [filters, &self.hints].concat();
        let Some(mut estimate) = Estimate::new(state, &filters, self.schema()) else {
            return Ok(false);
        };
        let runtime = state.runtime_env();
        let store = runtime.object_store(&self.store_url)?;
        let footers = runtime.cache_manager.get_file_metadata_cache();
        // For a hint some of many do.
        let step = self.files.len().div_ceil(HINTING_FILES).max(1);
        let read = self.files.iter().step_by(step).map(|open| {
            let (store, footers) = (Arc::clone(&store), &footers);
            async move { footer(store.as_ref(), &open.file.meta, footers).await }.boxed()
        });
        let read: Vec<_> = read.collect();
        let mut read = stream::iter(read).buffered(CONCURRENT_FOOTERS);
        while let Some(footer) = read.try_next().await? {
            estimate.add(&footer);
        }
        Ok(estimate.leaves_much_out())
    }

    /// Whether rows have dates by their files.
    fn has_dates(&self) -> bool {
        !self.table_schema.table_partition_cols().is_empty()
    }

    fn partitioned_file(&self, piece: &Piece<'_, OpenFile>) -> PartitionedFile {
        let file = &piece.file.file;
        let mut partitioned = PartitionedFile::new_from_meta(file.meta.clone());
        if let Some(range) = &piece.range {
            partitioned = partitioned.with_range(range.start as i64, range.end as i64);
        }
        if !self.has_dates() {
            return partitioned;
        }
        let days = file.date.map(days_since_epoch);
        partitioned.with_partition_values(vec![ScalarValue::Date32(days)])
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table_schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A condition is checked by a filter above the scan, unless the scan takes it on when the plan
    /// is optimized (see `source::condition`).
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let support = match self.format {
            Format::Parquet => TableProviderFilterPushDown::Inexact,
            Format::Csv { .. } | Format::Json => TableProviderFilterPushDown::Unsupported,
        };
        Ok(vec![support; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = project_schema(&self.schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let partitions = state.config().target_partitions();
        let all: Vec<usize> = (0..self.schema().fields().len()).collect();
        let columns = projection.unwrap_or(&all);
        let by_date = match self.has_dates() {
            true => pack_dates(&self.files, columns, partitions),
            false => None,
        };
        let whole_dates = by_date.is_some();
        let groups = by_date
            .unwrap_or_else(|| pack(&self.files, columns, partitions))
            .into_iter()
            .map(|group| {
                let files = group.iter().map(|piece| self.partitioned_file(piece));
                FileGroup::new(files.collect())
            })
            .collect::<Vec<_>>();
        let partitioning = Partitioning::UnknownPartitioning(groups.len());
        let reader = match self.leaves_much_out(state, filters).await? {
            true => Arc::new(condition::reader(true)),
            false => Arc::clone(&self.reader),
        };
        let source = reader.file_source(self.table_schema.clone());
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(self.statistics_of_all())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_file_compression_type(self.compression)
            // Else a partition that is idle takes files of others, and dates are torn apart.
            .with_output_partitioning(whole_dates.then_some(partitioning))
            .build();
        reader.create_physical_plan(state, config).await
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.statistics_of_all())
    }
}

/// What stands at the end of a Parquet file. It comes from the cache unless that is full.
async fn footer(
    store: &dyn ObjectStore,
    meta: &ObjectMeta,
    cache: &Arc<FileMetadataCache>,
) -> DataFusionResult<Arc<ParquetMetaData>> {
    let footer = DFParquetMetadata::new(store, meta)
        .with_metadata_size_hint(Some(FOOTER_BYTES))
        .with_file_metadata_cache(Some(Arc::clone(cache)));
    footer.fetch_metadata().await
}

/// Takes away the smallest and the largest value of columns of which a row group doesn't state its
/// own: DataFusion takes those of the others for the file's.
fn forget_partial_bounds(statistics: &mut Statistics, footer: &ParquetMetaData, schema: &Schema) {
    for group in footer.row_groups() {
        for leaf in group.columns() {
            let Some(at) = column_of(leaf, schema) else {
                continue;
            };
            // What is stated of INT96 is read as nothing.
            let has_order = leaf.column_type() != ParquetType::INT96;
            let states = leaf.statistics().is_some_and(|leaf| {
                let only_nulls = leaf.null_count_opt() == u64::try_from(group.num_rows()).ok();
                let has_bounds = leaf.min_bytes_opt().is_some() && leaf.max_bytes_opt().is_some();
                only_nulls || has_order && has_bounds
            });
            if !states {
                let column = &mut statistics.column_statistics[at];
                column.min_value = Precision::Absent;
                column.max_value = Precision::Absent;
            }
        }
    }
}

/// Days since 1970-01-01, as Arrow's Date32.
pub(crate) fn days_since_epoch(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - NaiveDate::default().num_days_from_ce()
}

fn table_schema(file_schema: &SchemaRef, files: &[SourceFile]) -> TableSchema {
    if files.iter().all(|file| file.date.is_none()) {
        return TableSchema::from(Arc::clone(file_schema));
    }
    // A file may hold the partition column as well: the folder decides, as in Hive.
    let fields: Vec<Arc<Field>> = file_schema
        .fields()
        .iter()
        .filter(|field| field.name() != DATE_COLUMN)
        .cloned()
        .collect();
    let date = Arc::new(Field::new(DATE_COLUMN, DataType::Date32, false));
    TableSchema::builder(Arc::new(Schema::new(fields)))
        .with_table_partition_cols(vec![date])
        .build()
}

fn one_compression(base: &Location, files: &[SourceFile]) -> Result<FileCompressionType> {
    let of = |file: &SourceFile| strip_compression(file.meta.location.filename().unwrap_or("")).1;
    let first = of(&files[0]);
    match files.iter().find(|file| of(file) != first) {
        None => Ok(first),
        Some(other) => Err(Error::Location {
            path: base.to_string(),
            reason: format!(
                "its files are compressed in different ways: '{}' and '{}'; \
                 give each kind a folder of its own",
                base.display(&files[0].meta.location),
                base.display(&other.meta.location)
            ),
        }),
    }
}

/// CSV columns are read by position: files whose headers differ can't be one table.
fn same_header(schemas: &[(String, SchemaRef)]) -> Result<()> {
    let names = |schema: &SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|f| f.name().clone()).collect()
    };
    let (first_file, first) = &schemas[0];
    match schemas.iter().find(|(_, s)| names(s) != names(first)) {
        None => Ok(()),
        Some((file, schema)) => Err(Error::SchemaConflict {
            column: "(header)".into(),
            first: first_file.clone(),
            first_type: names(first).join(","),
            second: file.clone(),
            second_type: names(schema).join(","),
        }),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::datasource::physical_plan::FileScanConfig;
    use datafusion::datasource::source::DataSourceExec;
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::physical_plan::{collect, displayable};

    use super::*;
    use crate::session::SessionOptions;
    use crate::source::list_files;

    /// A column that isn't read makes one row group much larger than the others.
    fn write_row_groups(path: &std::path::Path) {
        let fields = [("n", DataType::Int64), ("text", DataType::Utf8)];
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type, false));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let file = std::fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
        for group in 0..6 {
            let numbers = (0..1_000).map(|row| group * 1_000 + row);
            let long = |n: i64| format!("{n}-").repeat(if group == 0 { 300 } else { 1 });
            let texts = StringArray::from_iter_values(numbers.clone().map(long));
            let numbers = Int64Array::from_iter_values(numbers);
            let columns = vec![Arc::new(numbers) as _, Arc::new(texts) as _];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
    }

    /// The plan that reads the column `n` of the files in a folder by three tasks.
    async fn planned(
        folder: &std::path::Path,
        format: Format,
    ) -> (Arc<dyn ExecutionPlan>, Session) {
        let session = Session::new(&SessionOptions {
            threads: Some(3),
            ..SessionOptions::default()
        });
        let session = session.unwrap();
        let source = SourcePath::parse(folder.to_str().unwrap()).unwrap();
        let files = list_files(&session, &source, format, None, None);
        let files = files.await.unwrap();
        let table = SourceTable::open(&session, &source, format, files);
        let table = Arc::new(table.await.unwrap());
        let frame = session.context().read_table(table).unwrap();
        let frame = frame.select_columns(&["n"]).unwrap();
        let config = session.context().copied_config();
        let config = config.set_usize("datafusion.optimizer.repartition_file_min_size", 0);
        let state = session.state_with(config).unwrap();
        let plan = state.create_physical_plan(frame.logical_plan());
        (plan.await.unwrap(), session)
    }

    async fn numbers(plan: Arc<dyn ExecutionPlan>, session: &Session) -> Vec<i64> {
        let batches = collect(plan, session.context().task_ctx()).await.unwrap();
        let numbers = batches.iter().flat_map(|batch| {
            let numbers = batch.column(0).as_primitive::<Int64Type>();
            numbers.values().to_vec()
        });
        let mut numbers: Vec<i64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    }

    /// Cut where no line ends, each line is read once.
    #[tokio::test]
    async fn lines_of_json_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let line = |n: i64| {
            format!(
                "{{\"n\": {n}, \"text\": \"{}\"}}\n",
                "x".repeat(n as usize % 50)
            )
        };
        let lines: String = (0..500).map(line).collect();
        std::fs::write(folder.path().join("rows.json"), lines).unwrap();
        let (plan, session) = planned(folder.path(), Format::Json).await;
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("3 groups"), "{shown}");
        assert_eq!(numbers(plan, &session).await, (0..500).collect::<Vec<_>>());
    }

    /// DataFusion's rules would cut the file at equal bytes.
    #[tokio::test]
    async fn row_groups_stay_where_they_were_packed() {
        let folder = tempfile::tempdir().unwrap();
        write_row_groups(&folder.path().join("rows.parquet"));
        let (plan, session) = planned(folder.path(), Format::Parquet).await;
        let shown = displayable(plan.as_ref()).indent(false).to_string();

        let scan = plan.downcast_ref::<DataSourceExec>().expect(&shown);
        let scan = scan.data_source().downcast_ref::<FileScanConfig>();
        let groups = &scan.expect(&shown).file_groups;
        assert_eq!(groups.len(), 3, "{shown}");
        for group in groups {
            assert_eq!(group.len(), 2, "{shown}");
            assert!(group.iter().all(|part| part.range.is_some()), "{shown}");
        }
        assert_eq!(
            numbers(plan, &session).await,
            (0..6_000).collect::<Vec<_>>()
        );
    }
}
