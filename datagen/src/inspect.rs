//! Looks whether a lake's files are those of its plan: by their footers, or byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use rayon::prelude::*;
use tokio::runtime::Handle;

use crate::lake::Lake;
use crate::make::pool;
use crate::truth::{self, Totals, Truth, add_part};
use crate::{Error, Maker, Part, Plan, Table};

/// Objects that are read at a time.
const AT_ONCE: usize = 8;
/// What is read of a file's end at first; footers are a few kB.
const FOOTER_BYTES: u64 = 64 << 10;

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What is wrong, a sentence each, with the path; nothing for a right lake.
    pub faults: Vec<String>,
    /// Files that were looked at.
    pub files: u64,
    /// Rows of both logs.
    pub rows: u64,
}

/// Verifies the lake at `prefix` of a store: that its files are those of its config, by names, sizes and footers, and
/// that its truth is what the seed says. Where `deep`, every part is made again and compared byte for byte.
///
/// It blocks, like [`generate`](crate::generate), and computes on `threads` threads of its own.
///
/// # Errors
/// [`Error::NoLake`] if there is no truth file, [`Error::Truth`] if it can't be read or is of another version, the
/// store's errors. A file that isn't there or isn't right is not an error but one of the [`Findings`].
pub fn verify(
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    threads: usize,
    handle: &Handle,
    deep: bool,
) -> Result<Findings, Error> {
    let lake = Lake::new(store, prefix);
    let read = truth::read(lake.store.as_ref(), &lake.prefix);
    let truth = handle.block_on(read)?.ok_or_else(|| Error::NoLake {
        path: lake.path(truth::FILE).to_string(),
    })?;
    let plan = Plan::new(&truth.config)?;
    let pool = pool(threads)?;
    let mut findings = handle.block_on(compare_footers(&plan, &lake))?;
    let maker = pool.install(|| Maker::new(&plan));
    let dates = (0..plan.days().len()).map(|day| pool.install(|| maker.date(day)));
    let dates = dates.collect();
    let expected = pool.install(|| maker.truth(findings.tables.clone(), dates));
    findings.compare_truths(&truth, &expected);
    if deep {
        let differing = pool.install(|| {
            let parts = plan.parts().par_iter();
            let compared = parts.map(|part| compare_bytes(&maker, part, &lake, handle));
            compared.collect::<Result<Vec<Option<String>>, Error>>()
        });
        findings.faults.extend(differing?.into_iter().flatten());
    }
    Ok(Findings {
        faults: findings.faults,
        files: findings.tables.values().map(|table| table.files).sum(),
        rows: truth.days.iter().map(|d| d.click_rows + d.web_rows).sum(),
    })
}

/// The parts of a plan that are there, whole, with their sizes, and what is there besides. Objects appear whole or not at
/// all, so footers are looked at only where that takes no long time.
pub(crate) async fn whole_parts(
    plan: &Plan,
    lake: &Lake,
) -> Result<(BTreeMap<String, u64>, Vec<Path>), Error> {
    let (there, _, foreign) = compare_names(plan, lake).await?;
    let faults = match plan.config().seconds_per_file {
        0 => footer_faults(lake, &there).await?,
        _ => vec![None; there.len()],
    };
    let whole = there
        .iter()
        .zip(faults)
        .filter(|(_, fault)| fault.is_none());
    let whole = whole.map(|((part, object), _)| (part.path.clone(), object.size));
    Ok((whole.collect(), foreign))
}

/// Findings, and the sizes of what is there.
struct Compared {
    faults: Vec<String>,
    tables: Totals,
}

async fn compare_footers(plan: &Plan, lake: &Lake) -> Result<Compared, Error> {
    let (there, missing, foreign) = compare_names(plan, lake).await?;
    let mut tables = Totals::new();
    for (part, object) in &there {
        add_part(&mut tables, part, object.size);
    }
    let missing = missing
        .iter()
        .map(|part| format!("`{}` is missing", part.path));
    let mut faults: Vec<String> = missing.collect();
    faults.extend(footer_faults(lake, &there).await?.into_iter().flatten());
    let foreign = foreign.iter();
    faults.extend(foreign.map(|path| format!("`{path}` is not of this lake")));
    Ok(Compared { faults, tables })
}

/// A part, and its object.
type There<'a> = (&'a Part, ObjectMeta);

/// The parts of a plan that are there, those that aren't, and the paths of what is there besides.
async fn compare_names<'a>(
    plan: &'a Plan,
    lake: &Lake,
) -> Result<(Vec<There<'a>>, Vec<&'a Part>, Vec<Path>), Error> {
    let mut objects = listed(lake).await?;
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for part in plan.parts() {
        match objects.remove(&lake.path(&part.path)) {
            Some(object) => there.push((part, object)),
            None => missing.push(part),
        }
    }
    Ok((there, missing, objects.into_keys().collect()))
}

/// What is wrong with each part by its footer, if anything is.
async fn footer_faults(lake: &Lake, there: &[There<'_>]) -> Result<Vec<Option<String>>, Error> {
    // Boxed: the compiler can't prove nested closures over references to be `Send`.
    let looked_at = there.iter();
    let looked_at = looked_at.map(|(part, object)| footer_fault(part, lake, object).boxed());
    let looked_at: Vec<BoxFuture<'_, Result<_, Error>>> = looked_at.collect();
    let looked_at = futures::stream::iter(looked_at).buffered(AT_ONCE);
    looked_at.try_collect().await
}

impl Compared {
    fn compare_truths(&mut self, there: &Truth, expected: &Truth) {
        let sizes_count = self.faults.is_empty();
        let mut differing = |what: &str, differs: bool| {
            if differs {
                let file = truth::FILE;
                self.faults
                    .push(format!("`{file}`: {what} are not those of the seed"));
            }
        };
        // Where files are missing or cut off, the sizes say no more.
        differing("`tables`", sizes_count && there.tables != expected.tables);
        differing("`days`", there.days != expected.days);
        differing("`defects`", there.defects != expected.defects);
        let births = |truth: &Truth| {
            let without = truth.users_without_birth_date;
            (without, truth.users_with_wrong_birth_date)
        };
        differing("dates of birth", births(there) != births(expected));
        let popularity = there.daily_popularity != expected.daily_popularity;
        differing("`daily_popularity`", popularity);
        let by_age = there.age_date_ranking != expected.age_date_ranking;
        differing("`age_date_ranking`", by_age);
        let pages = there.daily_web_pages != expected.daily_web_pages;
        differing("`daily_web_pages`", pages);
    }
}

/// The sizes of all objects in the tables' folders.
pub(crate) async fn sizes(lake: &Lake) -> Result<BTreeMap<Path, u64>, Error> {
    let objects = listed(lake).await?.into_iter();
    Ok(objects.map(|(path, object)| (path, object.size)).collect())
}

/// All objects in the tables' folders.
async fn listed(lake: &Lake) -> Result<BTreeMap<Path, ObjectMeta>, Error> {
    let mut objects = BTreeMap::new();
    for table in Table::ALL {
        let folder = lake.path(table.folder());
        let mut found = lake.store.list(Some(&folder));
        while let Some(object) = found.next().await {
            let object = object.map_err(|source| Error::store("list", &folder, source))?;
            objects.insert(object.location.clone(), object);
        }
    }
    Ok(objects)
}

/// What is wrong with a part by its footer, if anything is.
async fn footer_fault(
    part: &Part,
    lake: &Lake,
    object: &ObjectMeta,
) -> Result<Option<String>, Error> {
    let path = &object.location;
    if object.size == 0 {
        return Ok(Some(format!("`{}` is empty", part.path)));
    }
    let mut wanted = FOOTER_BYTES;
    let footer = loop {
        let start = object.size.saturating_sub(wanted);
        let read = lake.store.get_range(path, start..object.size).await;
        let tail = read.map_err(|source| Error::store("read", path, source))?;
        match parsed(tail, object.size) {
            Ok(Parsed::Footer(footer)) => break footer,
            Ok(Parsed::Needs(bytes)) if bytes > wanted && start > 0 => wanted = bytes,
            Ok(Parsed::Needs(_)) => {
                return Ok(Some(format!("`{}` ends in its footer", part.path)));
            }
            Err(error) => return Ok(Some(format!("`{}`: {error}", part.path))),
        }
    };
    let rows = footer.file_metadata().num_rows();
    if rows as u64 != part.row_count() {
        let expected = part.row_count();
        let fault = format!("`{}` has {rows} rows, not {expected}", part.path);
        return Ok(Some(fault));
    }
    let schema = parquet_to_arrow_schema(footer.file_metadata().schema_descr(), None);
    Ok(match schema {
        Ok(schema) if schema == *part.table.schema() => None,
        Ok(_) => Some(format!("`{}` has other columns", part.path)),
        Err(error) => Some(format!("`{}`: {error}", part.path)),
    })
}

enum Parsed {
    Footer(Box<ParquetMetaData>),
    /// So much of the file's end.
    Needs(u64),
}

fn parsed(tail: Bytes, file_bytes: u64) -> Result<Parsed, parquet::errors::ParquetError> {
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
    match reader.try_parse_sized(&tail, file_bytes) {
        Ok(()) => Ok(Parsed::Footer(Box::new(reader.finish()?))),
        Err(parquet::errors::ParquetError::NeedMoreData(bytes)) => Ok(Parsed::Needs(bytes as u64)),
        Err(error) => Err(error),
    }
}

/// Makes a part again; says so if what is there differs from it.
fn compare_bytes(
    maker: &Maker,
    part: &Part,
    lake: &Lake,
    handle: &Handle,
) -> Result<Option<String>, Error> {
    let made = maker.part(part)?;
    let differs = match handle.block_on(lake.get(&part.path))? {
        // Found to be missing before.
        None => false,
        Some(bytes) => bytes != made,
    };
    Ok(differs.then(|| format!("`{}` is not what the seed makes", part.path)))
}
