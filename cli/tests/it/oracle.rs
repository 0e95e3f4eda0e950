//! The right answers, in maps, sets and sorts over rows read from the lake's Parquet files. Knows
//! the four shipped specs by heart and shares no code with what it checks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Int16Type, Int32Type, Int64Type};
use chrono::{Days, NaiveDate};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::{Lake, Table};

pub(crate) struct Oracle {
    clicks: Vec<Click>,
    requests: Vec<Request>,
    births: HashMap<i64, Option<NaiveDate>>,
    /// Title, genre, venue.
    performances: HashMap<i32, [String; 3]>,
}

struct Click {
    date: NaiveDate,
    user: Option<i64>,
    item: Option<i32>,
    action: String,
}

struct Request {
    date: NaiveDate,
    address: String,
    path: String,
    status: i16,
    latency_ms: i32,
}

#[derive(Default)]
struct Count {
    clicks: u64,
    users: HashSet<i64>,
}

impl Count {
    fn add(&mut self, user: Option<i64>) {
        self.clicks += 1;
        self.users.extend(user);
    }

    fn visitors(&self) -> u64 {
        self.users.len() as u64
    }
}

/// Performances by visitors, clicks, and then by number.
fn ranked(counts: HashMap<i32, Count>) -> Vec<(i32, Count)> {
    let mut ranked: Vec<(i32, Count)> = counts.into_iter().collect();
    ranked.sort_by_key(|(item, count)| (Reverse(count.visitors()), Reverse(count.clicks), *item));
    ranked.truncate(100);
    ranked
}

impl Oracle {
    pub(crate) fn of(lake: &Lake) -> Self {
        let mut oracle = Self {
            clicks: Vec::new(),
            requests: Vec::new(),
            births: HashMap::new(),
            performances: HashMap::new(),
        };
        for (path, batch) in batches(lake, "stage/ticket_clicks") {
            let date = date_of(&path);
            let users = batch["user_id"].as_primitive::<Int64Type>();
            let items = batch["performance_id"].as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                oracle.clicks.push(Click {
                    date,
                    user: users.is_valid(row).then(|| users.value(row)),
                    item: items.is_valid(row).then(|| items.value(row)),
                    action: text(&batch, "action", row),
                });
            }
        }
        for (path, batch) in batches(lake, "stage/web_logs") {
            let date = date_of(&path);
            let statuses = batch["status"].as_primitive::<Int16Type>();
            let latencies = batch["latency_ms"].as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                oracle.requests.push(Request {
                    date,
                    address: text(&batch, "client_ip", row),
                    path: text(&batch, "path", row),
                    status: statuses.value(row),
                    latency_ms: latencies.value(row),
                });
            }
        }
        for (_, batch) in batches(lake, "dim/users") {
            let users = batch["user_id"].as_primitive::<Int64Type>();
            let births = batch["birth_date"].as_primitive::<Date32Type>();
            for row in 0..batch.num_rows() {
                let birth = births
                    .is_valid(row)
                    .then(|| births.value_as_date(row).unwrap());
                oracle.births.insert(users.value(row), birth);
            }
        }
        for (_, batch) in batches(lake, "dim/performances") {
            let items = batch["performance_id"].as_primitive::<Int32Type>();
            for row in 0..batch.num_rows() {
                let labels = ["title", "genre", "venue"].map(|name| text(&batch, name, row));
                oracle.performances.insert(items.value(row), labels);
            }
        }
        oracle
    }

    /// Leaves out what `keep` doesn't want, to know what a lake of fewer rows gives.
    pub(crate) fn only_clicks(mut self, keep: impl Fn(NaiveDate) -> bool) -> Self {
        self.clicks.retain(|click| keep(click.date));
        self
    }

    /// What a shipped job publishes for a date. `daily-popularity` compares with the day before
    /// if that has clicks at all.
    pub(crate) fn table(&self, job: &str, date: NaiveDate) -> Table {
        match job {
            "daily-popularity" => self.daily_popularity(date),
            "age-date-ranking" => self.age_date_ranking(date),
            "daily-web-pages" => self.daily_web_pages(date),
            "frequent-visitors" => self.frequent_visitors(date),
            other => panic!("the oracle doesn't know {other}"),
        }
    }

    /// Rows whose user the dimension doesn't have.
    pub(crate) fn unmatched_views(&self, date: NaiveDate) -> usize {
        let views = self
            .clicks
            .iter()
            .filter(|c| c.date == date && c.action == "view");
        views
            .filter(|c| c.user.is_some_and(|user| !self.births.contains_key(&user)))
            .count()
    }

    /// Title, genre and venue; null of a performance that the dimension doesn't have.
    fn labels(&self, item: i32) -> [Value; 3] {
        let known = self.performances.get(&item);
        std::array::from_fn(|label| json!(known.map(|labels| &labels[label])))
    }

    fn daily_popularity(&self, date: NaiveDate) -> Table {
        let of_day = |date: NaiveDate| {
            let mut counts: HashMap<i32, Count> = HashMap::new();
            for click in self.clicks.iter().filter(|click| click.date == date) {
                // A row without an item is in no ranking.
                if let Some(item) = click.item {
                    counts.entry(item).or_default().add(click.user);
                }
            }
            ranked(counts)
        };
        let before: HashMap<i32, i64> = of_day(date.pred_opt().unwrap())
            .into_iter()
            .zip(1..)
            .map(|((item, _), rank)| (item, rank))
            .collect();
        let rows = of_day(date)
            .into_iter()
            .zip(1_i64..)
            .map(|((item, count), rank)| {
                let [title, genre, venue] = self.labels(item);
                let previous = before.get(&item);
                vec![
                    json!(date.to_string()),
                    json!(rank),
                    json!(item),
                    json!(title),
                    json!(genre),
                    json!(venue),
                    json!(count.visitors()),
                    json!(count.clicks),
                    json!(previous),
                    json!(previous.map(|previous| previous - rank)),
                ]
            });
        let columns = [
            "date",
            "rank",
            "performance_id",
            "title",
            "genre",
            "venue",
            "visitors",
            "clicks",
            "previous_rank",
            "rank_change",
        ];
        Table::new(&columns, rows.collect())
    }

    fn age_date_ranking(&self, date: NaiveDate) -> Table {
        // In the order of the published groups: that of the band's text.
        let mut bands: BTreeMap<String, HashMap<i32, Count>> = BTreeMap::new();
        for click in self
            .clicks
            .iter()
            .filter(|c| c.date == date && c.action == "view")
        {
            let birth = click
                .user
                .and_then(|user| self.births.get(&user).copied().flatten());
            if let Some(item) = click.item {
                let counts = bands.entry(band(birth, date)).or_default();
                counts.entry(item).or_default().add(click.user);
            }
        }
        let rows = bands.into_iter().flat_map(|(band, counts)| {
            ranked(counts)
                .into_iter()
                .zip(1..)
                .map(move |((item, count), rank)| {
                    let [title, genre, _] = self.labels(item);
                    vec![
                        json!(date.to_string()),
                        json!(band),
                        json!(rank),
                        json!(item),
                        json!(title),
                        json!(genre),
                        json!(count.visitors()),
                        json!(count.clicks),
                    ]
                })
        });
        let columns = [
            "date",
            "age_band",
            "rank",
            "performance_id",
            "title",
            "genre",
            "visitors",
            "clicks",
        ];
        Table::new(&columns, rows.collect())
    }

    /// The percentile is the exact one, of nearest rank: what is published may differ a little.
    fn daily_web_pages(&self, date: NaiveDate) -> Table {
        let mut pages: HashMap<&str, Vec<&Request>> = HashMap::new();
        for request in self.requests.iter().filter(|request| request.date == date) {
            pages.entry(&request.path).or_default().push(request);
        }
        let mut pages: Vec<(&str, u64, u64, Vec<&Request>)> = pages
            .into_iter()
            .map(|(path, requests)| {
                let addresses: HashSet<&str> = requests.iter().map(|r| &*r.address).collect();
                (
                    path,
                    requests.len() as u64,
                    addresses.len() as u64,
                    requests,
                )
            })
            .collect();
        pages.sort_by_key(|(path, hits, visitors, _)| (Reverse(*hits), Reverse(*visitors), *path));
        let rows = pages.into_iter().take(100).zip(1..);
        let rows = rows.map(|((path, hits, visitors, requests), rank)| {
            let failed = requests.iter().filter(|r| r.status >= 500).count();
            let mut latencies: Vec<i32> = requests.iter().map(|r| r.latency_ms).collect();
            latencies.sort_unstable();
            let nearest_rank = (latencies.len() * 95).div_ceil(100);
            vec![
                json!(date.to_string()),
                json!(rank),
                json!(path),
                json!(hits),
                json!(visitors),
                json!(failed as f64 / hits as f64),
                json!(f64::from(latencies[nearest_rank - 1])),
            ]
        });
        let columns = [
            "date",
            "rank",
            "path",
            "hits",
            "visitors",
            "failed_share",
            "p95_latency_ms",
        ];
        Table::new(&columns, rows.collect())
    }

    fn frequent_visitors(&self, date: NaiveDate) -> Table {
        #[derive(Default)]
        struct Visits {
            days: HashSet<NaiveDate>,
            items: HashSet<i32>,
            clicks: u64,
            by_action: HashMap<String, u64>,
        }
        let first = date - Days::new(29);
        let mut users: HashMap<i64, Visits> = HashMap::new();
        let window = self
            .clicks
            .iter()
            .filter(|c| (first..=date).contains(&c.date));
        for (user, click) in window.filter_map(|click| Some((click.user?, click))) {
            let visits = users.entry(user).or_default();
            visits.days.insert(click.date);
            visits.items.extend(click.item);
            visits.clicks += 1;
            *visits.by_action.entry(click.action.clone()).or_default() += 1;
        }
        let mut users: Vec<(i64, Visits)> = users.into_iter().collect();
        users.retain(|(_, visits)| visits.days.len() >= 3);
        users.sort_by_key(|(user, v)| (Reverse(v.days.len()), Reverse(v.clicks), *user));
        let rows = users.into_iter().take(1000).map(|(user, visits)| {
            let did = |action: &str| json!(visits.by_action.get(action).copied().unwrap_or(0));
            vec![
                json!(user),
                json!(visits.days.len()),
                json!(visits.clicks),
                json!(visits.items.len()),
                did("view"),
                did("like"),
                did("buy_link"),
                json!(visits.days.iter().max().unwrap().to_string()),
            ]
        });
        let columns = [
            "user_id",
            "days_seen",
            "clicks",
            "performances",
            "views",
            "likes",
            "buy_links",
            "last_seen",
        ];
        Table::new(&columns, rows.collect())
    }
}

/// The decade of life, in full years; a birth in the future or 121 years ago is not believed.
fn band(birth: Option<NaiveDate>, date: NaiveDate) -> String {
    match birth.and_then(|birth| date.years_since(birth)) {
        None | Some(121..) => "unknown".to_owned(),
        Some(0..10) => "under-10".to_owned(),
        Some(70..) => "70+".to_owned(),
        Some(age) => format!("{}s", age / 10 * 10),
    }
}

fn batches(lake: &Lake, folder: &str) -> Vec<(String, RecordBatch)> {
    let paths = lake.list(folder).into_iter();
    paths
        .flat_map(|path| {
            let bytes = lake.get(&path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            reader
                .build()
                .unwrap()
                .map(move |batch| (path.clone(), batch.unwrap()))
        })
        .collect()
}

fn date_of(path: &str) -> NaiveDate {
    let (_, rest) = path.split_once("date=").unwrap();
    rest[..10].parse().unwrap()
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> String {
    batch[column].as_string::<i32>().value(row).to_owned()
}

/// Whether two tables agree, but for a column of percentiles, which may be off by `tolerance`.
pub(crate) fn assert_near(found: &Table, expected: &Table, column: &str, tolerance: f64) {
    let Some(index) = expected.columns.iter().position(|name| name == column) else {
        return found.assert_eq(expected, column);
    };
    let mut adopted = expected.clone();
    for (row, wanted) in found.rows.iter().zip(&mut adopted.rows) {
        let number = |value: &Value| value.as_f64().unwrap();
        let (near, exact) = (number(&row[index]), number(&wanted[index]));
        let off = (near - exact).abs();
        assert!(
            off <= exact.abs() * tolerance,
            "{column}: {near} instead of {exact}"
        );
        wanted[index] = row[index].clone();
    }
    found.assert_eq(&adopted, column);
}
