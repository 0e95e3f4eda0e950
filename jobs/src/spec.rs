//! The job spec: what a user writes in YAML.

mod fill;
mod hash;
mod locate;
mod params;
mod parse;
mod schedule;
mod validate;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

pub use params::Params;
pub(crate) use parse::did_you_mean;
pub use parse::{SpecError, parse};
pub use schedule::{Schedule, ScheduleDate};

/// A job: from which logs to compute which ranking (or SQL result), and where to publish it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rankmill job spec")]
pub struct Spec {
    /// Version of this format: 1.
    pub version: u32,
    /// Name of the job: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What the job is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When to run; without it, only on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The log to rank. In SQL it is the table `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Tables for `sql`, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub sources: IndexMap<String, Source>,
    /// Dimensions whose attributes the ranking needs, joined on a key of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
    /// What to rank. Either this or `sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<RankingSpec>,
    /// Columns of dimensions to show beside the ranked items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Labels>,
    /// A query over `source` and `sources`. Either this or `ranking`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Where to publish.
    pub output: Output,
}

/// A log or table in files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// File, folder (with a `/` at the end) or pattern with `*`, `**`, `?`, `[…]`.
    pub path: String,
    /// How the files are written.
    #[serde(default)]
    pub format: FormatSpec,
    /// Only for `format: csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvOptions>,
    /// Where a row's calendar date comes from. The rows then have a column `date`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<DateSpec>,
    /// Rows to keep, as a SQL condition.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Days that a run for one date reads: the date and those before it.
    #[serde(default = "one")]
    pub window_days: u32,
}

/// How the files of a source are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatSpec {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// Text with a delimiter; may end in .gz, .bz2, .xz or .zst.
    Csv,
    /// One JSON object a line; may end in .gz, .bz2, .xz or .zst.
    Json,
}

/// Options of `format: csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvOptions {
    /// One character between two values; `\t` is a tab.
    #[serde(default = "comma")]
    pub delimiter: String,
    /// Whether the first line names the columns.
    #[serde(default = "yes")]
    pub header: bool,
}

/// Where a row's calendar date comes from: a folder of the path, or a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DateSpec {
    /// Key of the folders that carry the date: `date` for `…/date=2026-01-31/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Timestamp or date column. A timestamp without a zone is UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// With `column`: IANA name of the zone whose calendar counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// A dimension, joined on a key of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// File, folder or pattern.
    pub path: String,
    /// How the files are written.
    #[serde(default)]
    pub format: FormatSpec,
    /// Only for `format: csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvOptions>,
    /// The key: a column of both, or `{ fact: …, dimension: … }`.
    pub on: On,
    /// Attribute names and their SQL over the dimension's columns and the log's `date`. A row
    /// without a match or a value has the attribute `unknown`.
    pub attributes: IndexMap<String, String>,
}

/// Columns of a dimension to show beside the ranked items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// File, folder or pattern.
    pub path: String,
    /// How the files are written.
    #[serde(default)]
    pub format: FormatSpec,
    /// Only for `format: csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvOptions>,
    /// The dimension's key: its column of the item's name, or `{ fact: item, dimension: … }`.
    pub on: On,
    /// Columns to show.
    pub columns: Vec<String>,
}

/// The key of a join: one name on both sides, or a name for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum On {
    /// A column that both sides have.
    Same(String),
    /// A column for each side.
    Pair(OnPair),
}

/// A column for each side of a join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnPair {
    /// Column of the log.
    pub fact: String,
    /// Column of the dimension.
    pub dimension: String,
}

impl On {
    /// Column of the log.
    pub fn fact(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Pair(pair) => &pair.fact,
        }
    }

    /// Column of the dimension.
    pub fn dimension(&self) -> &str {
        match self {
            Self::Same(name) => name,
            Self::Pair(pair) => &pair.dimension,
        }
    }
}

// By hand: serde's untagged enums lose the place and the reason of a mistake.
impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = On;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a column name or { fact: …, dimension: … }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<On, E> {
                Ok(On::Same(name.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<On, A::Error> {
                OnPair::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(On::Pair)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What to rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankingSpec {
    /// Column of the log that is ranked. Rows where it is null are left out, and counted.
    pub item: String,
    /// One ranking for each combination of these: `date`, attributes, columns of the log.
    #[serde(default = "per_date")]
    pub per: Vec<String>,
    /// Measure names and their SQL: aggregates over the log's columns.
    pub measures: IndexMap<String, String>,
    /// Measures to order by, each with `asc` or `desc` (default `desc`). Ties always end in
    /// the item, ascending.
    pub order_by: Vec<String>,
    /// Ranks to keep in each ranking.
    pub top: u32,
    /// Adds `previous_rank` and `rank_change` against the day before, as published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rank_change: bool,
}

/// Where to publish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Folder; each date gets a folder `date=…` in it.
    pub path: String,
    /// With `sql`: columns that together differ in every row, checked before publishing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Fewer rows than this are not published: the run fails and the last result stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rows: Option<u64>,
}

impl RankingSpec {
    /// The measures to order by, and whether the largest comes first. Validated specs only
    /// have entries of one or two words.
    pub fn order(&self) -> impl Iterator<Item = (&str, bool)> {
        self.order_by.iter().map(|entry| {
            let mut words = entry.split_whitespace();
            let measure = words.next().unwrap_or_default();
            let ascending = words.next().is_some_and(|w| w.eq_ignore_ascii_case("asc"));
            (measure, !ascending)
        })
    }
}

impl Spec {
    /// Whether the published ranking of the day before is an input.
    pub fn compares_ranks(&self) -> bool {
        let ranking = self.ranking.as_ref();
        ranking.is_some_and(|ranking| ranking.rank_change)
    }
}

/// The JSON Schema of the spec.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Spec).to_value()
}

fn default_zone() -> String {
    "Asia/Seoul".into()
}

fn one() -> u32 {
    1
}

fn comma() -> String {
    ",".into()
}

fn yes() -> bool {
    true
}

fn per_date() -> Vec<String> {
    vec!["date".into()]
}
