//! The exact answers of a lake, `truth.json`: written last, so that its presence says the lake is whole.
//!
//! They are counted from the same pure functions that the rows are made of, without an engine, so an engine's rankings
//! can be checked against them.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::{AgeBand, Config, Error, Part, Table};

pub(crate) mod clicks;
pub(crate) mod date;
pub(crate) mod pairs;
mod top;
pub(crate) mod web;

/// The truth file, relative to the lake.
pub const FILE: &str = "truth.json";
/// The shape of the file and the meaning of a config: a lake of another version is another lake.
pub const VERSION: u32 = 2;
/// How many places a ranking of the truth has.
pub const TOP: usize = 100;

/// What is true of a lake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// [`VERSION`].
    pub version: u32,
    /// What the lake was generated from.
    pub config: Config,
    /// Sizes by table.
    pub tables: BTreeMap<Table, TableTotals>,
    /// What is wrong with rows, over all dates.
    pub defects: Defects,
    /// Users of the dimension without a date of birth.
    pub users_without_birth_date: u64,
    /// Users of the dimension born in the future or more than 120 years before the first date.
    pub users_with_wrong_birth_date: u64,
    /// Rows of both logs by date.
    pub days: Vec<DayRows>,
    /// For each date: all clicks that have a performance, by it.
    pub daily_popularity: Vec<DailyPopularity>,
    /// For each date and age band in it: clicks with action `view` that have a performance, by it.
    pub age_date_ranking: Vec<AgeDateRanking>,
    /// For each date: requests, by path.
    pub daily_web_pages: Vec<DailyWebPages>,
}

/// Rows that a ranking has to cope with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defects {
    /// Clicks of the date before, in this date's files.
    pub late_clicks: u64,
    /// Requests of the date before, in this date's files.
    pub late_requests: u64,
    /// Clicks that repeat another row, its id included.
    pub doubled_clicks: u64,
    /// Requests that repeat another row, its id included.
    pub doubled_requests: u64,
    /// Clicks whose performance is null.
    pub clicks_without_item: u64,
    /// Clicks whose performance is not in `dim/performances`.
    pub clicks_on_unknown_items: u64,
    /// Clicks whose user is null.
    pub anonymous_clicks: u64,
    /// Clicks whose user id is neither null nor in `dim/users`.
    pub unknown_user_clicks: u64,
}

impl std::ops::AddAssign for Defects {
    fn add_assign(&mut self, other: Self) {
        self.late_clicks += other.late_clicks;
        self.late_requests += other.late_requests;
        self.doubled_clicks += other.doubled_clicks;
        self.doubled_requests += other.doubled_requests;
        self.clicks_without_item += other.clicks_without_item;
        self.clicks_on_unknown_items += other.clicks_on_unknown_items;
        self.anonymous_clicks += other.anonymous_clicks;
        self.unknown_user_clicks += other.unknown_user_clicks;
    }
}

/// What is true of a date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateTruth {
    /// Its rows.
    pub rows: DayRows,
    /// All clicks.
    pub popularity: DailyPopularity,
    /// Views, by age band.
    pub by_age: Vec<AgeDateRanking>,
    /// Requests.
    pub pages: DailyWebPages,
}

/// A table's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTotals {
    /// Rows in all files.
    pub rows: u64,
    /// Size of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// Sizes by table.
pub(crate) type Totals = BTreeMap<Table, TableTotals>;

/// Adds a part of so many bytes.
pub(crate) fn add_part(totals: &mut Totals, part: &Part, bytes: u64) {
    let total = totals.entry(part.table).or_default();
    total.rows += part.row_count();
    total.bytes += bytes;
    total.files += 1;
}

/// A date's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayRows {
    /// The KST date.
    pub date: NaiveDate,
    /// Rows of `ticket_clicks`.
    pub click_rows: u64,
    /// Rows of `web_logs`.
    pub web_rows: u64,
    /// What is wrong with them.
    pub defects: Defects,
}

/// A date's most visited performances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyPopularity {
    /// The KST date.
    pub date: NaiveDate,
    /// Distinct performances clicked at all.
    pub items: u64,
    /// The first [`TOP`] by (visitors desc, clicks desc, item asc).
    pub top: Vec<ItemRank>,
}

/// The performances an age band viewed most on a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeDateRanking {
    /// The KST date.
    pub date: NaiveDate,
    /// The band; anonymous visitors and unknown users are in `unknown`.
    pub age_band: AgeBand,
    /// The first [`TOP`] by (visitors desc, clicks desc, item asc).
    pub top: Vec<ItemRank>,
}

/// A ranked performance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRank {
    /// `performance_id`.
    pub item: u32,
    /// Rows, the anonymous ones included.
    pub clicks: u64,
    /// Distinct user ids, null not counted.
    pub visitors: u64,
}

/// A date's most requested paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyWebPages {
    /// The KST date.
    pub date: NaiveDate,
    /// Distinct paths requested at all.
    pub paths: u64,
    /// The first [`TOP`] by (hits desc, visitors desc, path asc).
    pub top: Vec<PageRank>,
}

/// A ranked path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRank {
    /// The path.
    pub path: String,
    /// Rows.
    pub hits: u64,
    /// Distinct client addresses.
    pub visitors: u64,
    /// Rows with a status of 500 or more.
    pub errors_5xx: u64,
}

/// Reads the truth of the lake at `prefix`; `None` if there is none.
///
/// # Errors
/// [`Error::Store`] if the store fails, [`Error::Truth`] if the file is of another version or not such a file.
pub async fn read(store: &dyn ObjectStore, prefix: &Path) -> Result<Option<Truth>, Error> {
    let path = prefix.clone().join(FILE);
    let found = match store.get(&path).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(Error::store("read", &path, source)),
    };
    let bytes = found
        .bytes()
        .await
        .map_err(|source| Error::store("read", &path, source))?;
    let unreadable = |source| Error::Truth {
        path: path.to_string(),
        source,
    };
    let truth: Truth = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if truth.version != VERSION {
        let version = format!("version {} in place of {VERSION}", truth.version);
        return Err(unreadable(serde::de::Error::custom(version)));
    }
    Ok(Some(truth))
}
