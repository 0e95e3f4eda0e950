//! What a lake's clicks look like, read from its files: by rank, by hour, by date.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use chrono::NaiveDate;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use rayon::prelude::*;
use tokio::runtime::Handle;

use crate::clock::{DAY_US, day_start_us};
use crate::lake::Lake;
use crate::make::pool;
use crate::{Error, Table};

/// Ranks that an exponent is estimated from: beyond them, counts are small and ranks are chance.
const FITTED_RANKS: usize = 1_000;
const HOUR_US: i64 = DAY_US / 24;

/// The clicks of the files that were read.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Files of clicks in the lake.
    pub files: u64,
    /// Of these, read.
    pub files_read: u64,
    /// Clicks in the files read.
    pub clicks: u64,
    /// Clicks by hour of the day (KST).
    pub hours: [u64; 24],
    /// Clicks by the date of the files' folder.
    pub dates: BTreeMap<NaiveDate, u64>,
    /// Clicks of each performance, the most first.
    pub items: Vec<u64>,
    /// Clicks of each user, the most first.
    pub users: Vec<u64>,
    /// Clicks whose user is null.
    pub anonymous_clicks: u64,
    /// Clicks whose performance is null.
    pub clicks_without_item: u64,
    /// Clicks that did not happen on the date of their folder.
    pub late_clicks: u64,
}

/// Reads at most so many of the clicks' files of the lake at `prefix` of a store, evenly chosen.
///
/// It blocks, like [`generate`](crate::generate), and reads on `threads` threads of its own.
///
/// # Errors
/// [`Error::NoLake`] if there are no clicks; [`Error::Store`] and [`Error::Decode`] for what can't be read.
pub fn describe(
    store: Arc<dyn ObjectStore>,
    prefix: &Path,
    threads: usize,
    handle: &Handle,
    most_files: usize,
) -> Result<Description, Error> {
    let lake = Lake::new(store, prefix);
    let folder = lake.path(Table::TicketClicks.folder());
    let listed = lake.store.list(Some(&folder));
    let listed = listed.map_ok(|object| object.location).try_collect();
    let listed: Result<Vec<Path>, _> = handle.block_on(listed);
    let mut paths = listed.map_err(|source| Error::store("list", &folder, source))?;
    paths.retain(|path| path.as_ref().ends_with(".parquet"));
    paths.sort_unstable();
    if paths.is_empty() {
        let path = folder.to_string();
        return Err(Error::NoLake { path });
    }
    let read = paths.len().min(most_files.max(1));
    let chosen: Vec<&Path> = (0..read).map(|i| &paths[i * paths.len() / read]).collect();
    let counts = pool(threads)?.install(|| {
        let counts = chosen.into_par_iter();
        let counts = counts.map(|path| read_file(&lake, path, handle));
        counts.try_reduce(Counts::default, |mine, theirs| Ok(mine.merge(theirs)))
    })?;
    Ok(Description {
        files: paths.len() as u64,
        files_read: read as u64,
        items: ranked(counts.items.into_values()),
        users: ranked(counts.users.into_values()),
        ..counts.sums
    })
}

impl Description {
    /// The exponent of Zipf's law that makes the first ranks of the performances most likely; `None` for fewer than
    /// ten of them.
    #[must_use]
    pub fn item_exponent(&self) -> Option<f64> {
        exponent(&self.items)
    }

    /// The same for users.
    #[must_use]
    pub fn user_exponent(&self) -> Option<f64> {
        exponent(&self.users)
    }
}

/// Maximum likelihood for Zipf's law over a bounded domain: the exponent at which the mean of ln(rank) is expected to
/// be what it is (Clauset, Shalizi, Newman: "Power-law distributions in empirical data", SIAM Review 51, 2009).
fn exponent(counts: &[u64]) -> Option<f64> {
    let counts = &counts[..counts.len().min(FITTED_RANKS)];
    if counts.len() < 10 {
        return None;
    }
    let ln: Vec<f64> = (1..=counts.len()).map(|rank| (rank as f64).ln()).collect();
    let total: u64 = counts.iter().sum();
    let sum: f64 = ln.iter().zip(counts).map(|(ln, &n)| ln * n as f64).sum();
    let mean = sum / total as f64;
    let expected = |exponent: f64| {
        let weights = ln.iter().map(|ln| (ln, (-exponent * ln).exp()));
        let (sum, total) = weights.fold((0.0, 0.0), |(s, t), (ln, w)| (s + ln * w, t + w));
        sum / total
    };
    // It falls with the exponent: halve the range until nothing is left of it.
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        match expected(middle) > mean {
            true => low = middle,
            false => high = middle,
        }
    }
    Some(low)
}

#[derive(Default)]
struct Counts {
    sums: Description,
    items: BTreeMap<i32, u64>,
    users: BTreeMap<i64, u64>,
}

impl Counts {
    fn merge(mut self, other: Self) -> Self {
        let (mine, theirs) = (&mut self.sums, other.sums);
        mine.clicks += theirs.clicks;
        mine.anonymous_clicks += theirs.anonymous_clicks;
        mine.clicks_without_item += theirs.clicks_without_item;
        mine.late_clicks += theirs.late_clicks;
        for (mine, theirs) in mine.hours.iter_mut().zip(theirs.hours) {
            *mine += theirs;
        }
        for (date, clicks) in theirs.dates {
            *mine.dates.entry(date).or_default() += clicks;
        }
        for (item, clicks) in other.items {
            *self.items.entry(item).or_default() += clicks;
        }
        for (user, clicks) in other.users {
            *self.users.entry(user).or_default() += clicks;
        }
        self
    }
}

fn ranked(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut counts: Vec<u64> = counts.collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

fn read_file(lake: &Lake, path: &Path, handle: &Handle) -> Result<Counts, Error> {
    let read = async {
        object_store::ObjectStoreExt::get(&lake.store, path)
            .await?
            .bytes()
            .await
    };
    let bytes = handle
        .block_on(read)
        .map_err(|source| Error::store("read", path, source))?;
    let decode = |source| Error::Decode {
        path: path.to_string(),
        source,
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(decode)?;
    let columns = ["clicked_at", "user_id", "performance_id"];
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let reader = builder.with_projection(mask).build().map_err(decode)?;
    let date = date_of(path);
    let mut counts = Counts::default();
    // Sorted before they are counted: keys by the million don't stay in a cache.
    let (mut items, mut users) = (Vec::new(), Vec::new());
    for batch in reader {
        let batch = batch.map_err(|error| decode(error.into()))?;
        let missing = || decode(ParquetError::General("not a file of clicks".to_owned()));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(missing);
        let at = column("clicked_at")?.as_primitive_opt::<TimestampMicrosecondType>();
        let user = column("user_id")?.as_primitive_opt::<Int64Type>();
        let item = column("performance_id")?.as_primitive_opt::<Int32Type>();
        let (Some(at), Some(user), Some(item)) = (at, user, item) else {
            return Err(missing());
        };
        let sums = &mut counts.sums;
        sums.clicks += batch.num_rows() as u64;
        sums.anonymous_clicks += user.null_count() as u64;
        sums.clicks_without_item += item.null_count() as u64;
        let epoch = day_start_us(NaiveDate::default());
        for &at in at.values() {
            let hour = (at - epoch).rem_euclid(DAY_US) / HOUR_US;
            sums.hours[hour as usize] += 1;
        }
        if let Some(date) = date {
            *sums.dates.entry(date).or_default() += batch.num_rows() as u64;
            let day = day_start_us(date)..day_start_us(date) + DAY_US;
            let late = at.values().iter().filter(|at| !day.contains(at));
            sums.late_clicks += late.count() as u64;
        }
        items.extend(item.iter().flatten());
        users.extend(user.iter().flatten());
    }
    items.sort_unstable();
    users.sort_unstable();
    let runs = items.chunk_by(|a, b| a == b);
    counts.items = runs.map(|run| (run[0], run.len() as u64)).collect();
    let runs = users.chunk_by(|a, b| a == b);
    counts.users = runs.map(|run| (run[0], run.len() as u64)).collect();
    Ok(counts)
}

/// The date in a path such as `…/date=2026-06-01/part-00000.parquet`.
fn date_of(path: &Path) -> Option<NaiveDate> {
    path.parts().find_map(|part| {
        let (_, date) = part.as_ref().split_once("date=")?;
        date.parse().ok()
    })
}
