//! What rankmill would do with a column, by what was found in it.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use serde::Serialize;

use super::sample::{MAX_HOT_KEYS, hot_share};
use super::{HotColumn, HotKey};
use crate::fused::{fits_dense, has_dense_form, table_bytes};

/// Numbers of tasks for which it is said what a shuffle would cost.
const TASKS: [usize; 3] = [16, 64, 256];
/// A task that has so many times the mean rows holds the others up.
const STRAGGLES: f64 = 1.5;
/// Of more tasks it isn't said that one would.
const MOST_TASKS: f64 = 10_000.0;

/// What a column's keys would do to the tasks of a shuffle, and what rankmill does instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What shuffling rows by the column would cost.
    pub shuffled: Vec<Shuffled>,
    /// From so many tasks on, the hottest key, or the rows without one, would give one of them 1.5
    /// times the mean rows or more; none if that takes more than 10,000.
    pub straggles_from_tasks: Option<u64>,
    /// How groups by the column alone would be numbered.
    pub groups: Groups,
    /// How a dimension would be joined by it.
    pub join: Join,
    /// About the bytes that the table of a dimension takes in each process, without its attributes, if
    /// it has a row for each key that the column can have by what was read.
    pub table_bytes: u64,
    /// Bytes that tables of dimensions may take.
    pub table_limit: u64,
    /// Keys that are broadcast where a dimension's table would take too much.
    pub broadcast_keys: usize,
    /// Their share of the rows, 0 to 1.
    pub broadcast_share: f64,
}

/// How many times the mean rows the longest task would have at least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shuffled {
    /// So many tasks.
    pub tasks: usize,
    /// The longest task's rows by the mean.
    pub longest_by_mean: f64,
}

/// How groups would be numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// By arithmetic: they are array indices.
    Dense,
    /// As they come, by a hash table: keys lie too far apart.
    Hashed,
    /// The same, for the column's type has no order that helps.
    HashedByType,
    /// As array indices while they are few: how many there are isn't known before.
    DenseWhileFew,
}

/// How a dimension would be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Looked up in a table in each process, which has room for all keys.
    LookedUp,
    /// Looked up if its table fits; else hot keys are broadcast and others shuffled.
    BySize,
}

/// What is known of a column besides its hot keys, and of who would compute.
pub(super) struct Circumstances<'a> {
    pub(super) data_type: &'a DataType,
    /// Its smallest and largest value, if the files tell.
    pub(super) range: Option<&'a (ScalarValue, ScalarValue)>,
    pub(super) table_limit: usize,
    /// Tasks of a job in one process.
    pub(super) tasks: usize,
}

impl Advice {
    pub(super) fn new(found: &HotColumn, known: &Circumstances) -> Self {
        let rows = (found.rows as f64).max(1.0);
        let least = hot_share(known.tasks);
        let hot = found.standing_out().take(MAX_HOT_KEYS);
        let hot: Vec<&HotKey> = hot.take_while(|key| found.share(key).0 > least).collect();
        let hot_rows: u64 = hot.iter().map(|key| key.rows).sum();
        let hottest = found.standing_out().next().map_or(0, |key| key.rows);
        let hottest = hottest.max(found.nulls) as f64 / rows;
        let is_date_or_integer = known.data_type.is_integer() || known.data_type.is_temporal();
        let span = known.range.filter(|_| is_date_or_integer).and_then(span);
        // No more keys than rows.
        let keys = span.map_or(found.rows, |span| span.min(found.rows));
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        let table_bytes = table_bytes(known.data_type, keys, known.range).most;
        let shuffled = TASKS.map(|tasks| Shuffled {
            tasks,
            longest_by_mean: found.imbalance(tasks),
        });
        Self {
            shuffled: shuffled.to_vec(),
            straggles_from_tasks: (hottest * MOST_TASKS > STRAGGLES)
                .then(|| (STRAGGLES / hottest).ceil() as u64),
            groups: match span {
                _ if !has_dense_form(known.data_type) => Groups::HashedByType,
                Some(span) if fits_dense(span) => Groups::Dense,
                Some(_) => Groups::Hashed,
                None => Groups::DenseWhileFew,
            },
            join: match table_bytes <= known.table_limit {
                true => Join::LookedUp,
                false => Join::BySize,
            },
            table_bytes: table_bytes as u64,
            table_limit: known.table_limit as u64,
            broadcast_keys: hot.len(),
            broadcast_share: (hot_rows as f64 / rows).min(1.0),
        }
    }
}

/// How many integers lie in a range.
fn span((min, max): &(ScalarValue, ScalarValue)) -> Option<u64> {
    let integer = |value: &ScalarValue| match value {
        ScalarValue::UInt64(value) => value.map(i128::from),
        value => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(value)) => value.map(i128::from),
            _ => None,
        },
    };
    let (min, max) = integer(min).zip(integer(max))?;
    let span = (max - min + 1).max(0);
    Some(u64::try_from(span).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    /// A million rows of which all were looked at.
    fn column(keys: &[(&str, u64)], nulls: u64) -> HotColumn {
        let keys = keys.iter().map(|(key, rows)| HotKey {
            key: (*key).to_owned(),
            rows: *rows,
        });
        HotColumn {
            rows: 1_000_000,
            sampled: 1_000_000,
            nulls,
            error: 100,
            keys: keys.collect(),
            ..HotColumn::empty("item", Role::Column)
        }
    }

    fn advice(found: &HotColumn, data_type: &DataType, range: Option<(i64, i64)>) -> Advice {
        let range = range.map(|(min, max)| (min.into(), max.into()));
        Advice::new(
            found,
            &Circumstances {
                data_type,
                range: range.as_ref(),
                table_limit: 10 << 20,
                tasks: 2,
            },
        )
    }

    #[test]
    fn what_is_hot_decides() {
        let integers = &DataType::Int64;
        let hot = advice(
            &column(&[("7", 300_000), ("9", 90_000), ("11", 1_000)], 0),
            integers,
            Some((1, 50_000)),
        );
        assert_eq!(hot.straggles_from_tasks, Some(5));
        // The third has less than half of what one of 128 tasks would have.
        assert_eq!((hot.broadcast_keys, hot.broadcast_share), (2, 0.39));
        let shuffled: Vec<f64> = hot.shuffled.iter().map(|s| s.longest_by_mean).collect();
        assert_eq!(shuffled, [4.8, 19.2, 76.8]);
        assert_eq!((hot.groups, hot.join), (Groups::Dense, Join::LookedUp));

        let cold = advice(&column(&[("7", 150), ("9", 120)], 0), integers, None);
        assert_eq!((cold.straggles_from_tasks, cold.broadcast_keys), (None, 0));
        assert_eq!(cold.groups, Groups::DenseWhileFew);
        // A million different keys, hashed.
        assert_eq!(
            (cold.join, cold.table_bytes),
            (Join::BySize, (1 << 21) * 17)
        );

        let nulls = advice(&column(&[("7", 150)], 600_000), integers, None);
        assert_eq!(nulls.straggles_from_tasks, Some(3));
        let one_null = advice(&column(&[("7", 150)], 1), integers, None);
        assert_eq!(one_null.straggles_from_tasks, None);
    }

    #[test]
    fn domains_decide() {
        let one = column(&[("7", 300_000)], 0);
        let sparse = advice(&one, &DataType::Int64, Some((i64::MIN, i64::MAX)));
        assert_eq!((sparse.groups, sparse.join), (Groups::Hashed, Join::BySize));
        let wide = advice(&one, &DataType::Int64, Some((0, 1 << 40)));
        assert_eq!((wide.groups, wide.join), (Groups::Hashed, Join::BySize));
        let texts = advice(&one, &DataType::Utf8View, None);
        assert_eq!(
            (texts.groups, texts.join),
            (Groups::DenseWhileFew, Join::BySize)
        );
        let top = (
            ScalarValue::UInt64(Some(u64::MAX - 9)),
            ScalarValue::UInt64(Some(u64::MAX)),
        );
        assert_eq!(span(&top), Some(10));
        assert_eq!(
            span(&(ScalarValue::Date32(Some(3)), ScalarValue::Date32(Some(3)))),
            Some(1)
        );
    }
}
