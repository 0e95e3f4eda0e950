//! What was skewed in a computation, and what was done about it: hot keys, how evenly the tasks of
//! each stage were loaded, and decisions.
//!
//! Tasks look at some of their rows and tell what they found as metrics of their operators, which
//! Ballista brings to the scheduler as it does with all metrics: so a report is made in the same way
//! in one process and on a cluster.

mod advice;
mod column;
mod decisions;
mod metrics;
mod sample;
mod source;
mod space_saving;
mod stages;
mod zipf;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::advice::{Advice, Groups, Join, Shuffled};
pub(crate) use self::column::ColumnSketch;
pub use self::decisions::decisions;
pub(crate) use self::metrics::{TOLD_KEYS, note, tell};
pub use self::sample::{FILES_FOR_HOT_KEYS, hot_keys};
pub use self::source::{SourceSkew, skew_of_source};
pub(crate) use self::stages::{INPUT_BYTES, INPUT_ROWS, embedded};
pub use self::stages::{Stage, TaskWork, stages_report};

/// Hot keys that a report keeps of a column.
const KEPT: usize = 32;

/// What was skewed, and what was done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkewReport {
    /// Where work was split among tasks, from the files on.
    pub stages: Vec<Stage>,
    /// Columns by which was grouped or joined.
    pub columns: Vec<HotColumn>,
    /// What was done, for people.
    pub decisions: Vec<String>,
}

/// What a column is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rows are grouped by it.
    GroupKey,
    /// A dimension is joined by it.
    JoinKey,
    /// It was asked for by name.
    Column,
}

/// The most frequent keys of a column. Counts are estimated from a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotColumn {
    /// Its name.
    pub column: String,
    /// What it is used for.
    pub role: Role,
    /// Rows that it has.
    pub rows: u64,
    /// Rows that were looked at.
    pub sampled: u64,
    /// Rows that have no key.
    pub nulls: u64,
    /// By so many rows a key's may be off, besides what the sample does.
    pub error: u64,
    /// The most frequent first.
    pub keys: Vec<HotKey>,
}

/// A key and its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// The key as text; long ones are cut.
    pub key: String,
    /// Rows that have it.
    pub rows: u64,
}

/// How some numbers are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// The smallest.
    pub min: u64,
    /// The one in the middle; of an even number of them the lower one.
    pub median: u64,
    /// The smallest that 95 % of them don't exceed.
    pub p95: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// Of no numbers: all zero.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (values.len() * hundredths).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(0)
        };
        Self {
            min: at(0),
            median: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

impl HotColumn {
    /// A key's share of the rows, and by how much it may be off with a probability of 5 % at most:
    /// what the counters leave open, and twice the standard deviation of the sample.
    pub fn share(&self, key: &HotKey) -> (f64, f64) {
        let rows = (self.rows as f64).max(1.0);
        let share = key.rows as f64 / rows;
        let left_out = 1.0 - self.sampled as f64 / rows;
        let spread = share * (1.0 - share).max(0.0) / (self.sampled as f64).max(1.0);
        (
            share,
            self.error as f64 / rows + 2.0 * (spread * left_out.max(0.0)).sqrt(),
        )
    }

    /// The keys whose share is certainly more than nothing.
    pub fn standing_out(&self) -> impl Iterator<Item = &HotKey> {
        self.keys.iter().take_while(|key| {
            let (share, error) = self.share(key);
            share > 2.0 * error
        })
    }

    /// The exponent of the Zipf law that the keys follow: among those whose counts can be told from
    /// each other. None if too few can.
    pub fn zipf_exponent(&self) -> Option<f64> {
        let scale = self.rows.div_ceil(self.sampled.max(1));
        let least = (4 * self.error).max(50 * scale);
        let counts = self.keys.iter().map(|key| key.rows);
        let counts: Vec<u64> = counts.take_while(|rows| *rows >= least).collect();
        zipf::exponent(&counts)
    }

    /// How much longer than the mean the longest of so many tasks would take at least, were rows sent
    /// to them by this column: a key's rows all go to one.
    pub fn imbalance(&self, tasks: usize) -> f64 {
        let hottest = self.keys.first().map_or(0, |key| key.rows).max(self.nulls);
        (hottest as f64 * tasks as f64 / (self.rows as f64).max(1.0)).max(1.0)
    }

    fn empty(column: &str, role: Role) -> Self {
        Self {
            column: column.to_owned(),
            role,
            rows: 0,
            sampled: 0,
            nulls: 0,
            error: 0,
            keys: Vec::new(),
        }
    }

    /// Adds what was found elsewhere in the same column; keeps so many keys.
    fn add(&mut self, other: Self, kept: usize) {
        self.rows += other.rows;
        self.sampled += other.sampled;
        self.nulls += other.nulls;
        self.error += other.error;
        self.keys.extend(other.keys);
        self.settle(kept);
    }

    /// Adds up what was found of the same key, and keeps the most frequent, in order.
    fn settle(&mut self, kept: usize) {
        let mut keys: BTreeMap<String, u64> = BTreeMap::new();
        for key in self.keys.drain(..) {
            *keys.entry(key.key).or_default() += key.rows;
        }
        let keys = keys.into_iter().map(|(key, rows)| HotKey { key, rows });
        self.keys = keys.collect();
        self.keys.sort_by_key(|key| std::cmp::Reverse(key.rows));
        // What is left out may come again.
        self.error += self.keys.get(kept).map_or(0, |key| key.rows);
        self.keys.truncate(kept);
    }
}

impl SkewReport {
    /// Adds what another computation of the same run found.
    pub fn add(&mut self, other: Self) {
        for stage in other.stages {
            match self
                .stages
                .iter_mut()
                .find(|known| known.name == stage.name)
            {
                Some(known) => known.add(stage),
                None => self.stages.push(stage),
            }
        }
        for column in other.columns {
            let same =
                |known: &&mut HotColumn| known.column == column.column && known.role == column.role;
            match self.columns.iter_mut().find(same) {
                Some(known) => known.add(column, KEPT),
                None => self.columns.push(column),
            }
        }
        for decision in other.decisions {
            if !self.decisions.contains(&decision) {
                self.decisions.push(decision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray,
    };
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::collect;

    use super::*;
    use crate::session::{Distributed, Session, SessionOptions};

    /// A third of the rows has one key, a tenth has none, the others are all different.
    fn skewed(rows: i64) -> ArrayRef {
        let keys = (0..rows).map(|row| match row % 30 {
            0..10 => Some(7),
            10..13 => None,
            _ => Some(1000 + row),
        });
        Arc::new(keys.collect::<Int64Array>())
    }

    fn found_in(values: &ArrayRef, batch: usize) -> HotColumn {
        let mut sketch = ColumnSketch::new("key", Role::Column, values.data_type()).unwrap();
        for at in (0..values.len()).step_by(batch) {
            sketch
                .add(&values.slice(at, batch.min(values.len() - at)))
                .unwrap();
        }
        sketch.finish(5).unwrap().unwrap()
    }

    #[test]
    fn a_hot_key_is_found_in_all_types_and_batches() {
        let integers = skewed(300_000);
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let texts = cast(&integers, &DataType::Utf8).unwrap();
        for (values, key) in [
            (Arc::clone(&integers), "7"),
            (Arc::clone(&texts), "7"),
            (cast(&texts, &DataType::LargeUtf8).unwrap(), "7"),
            (cast(&texts.slice(0, 20_000), &dictionary).unwrap(), "7"),
            (
                cast(
                    &cast(&integers, &DataType::Int32).unwrap(),
                    &DataType::Date32,
                )
                .unwrap(),
                "1970-01-08",
            ),
        ] {
            for batch in [8_192, 100_000, 999] {
                let found = found_in(&values, batch);
                assert_eq!(found.rows, values.len() as u64);
                assert_eq!(found.keys[0].key, key);
                let (share, error) = found.share(&found.keys[0]);
                assert!(
                    (share - 1.0 / 3.0).abs() <= error.max(1e-3),
                    "{share} ± {error}"
                );
                let nulls = found.nulls as f64 / found.rows as f64;
                assert!((nulls - 0.1).abs() < 0.02, "{nulls}");
            }
        }
        assert!(ColumnSketch::new("f", Role::Column, &DataType::Float64).is_none());
        // Beyond what an i64 holds.
        let large = integers.as_primitive::<Int64Type>();
        let large = large.unary::<_, UInt64Type>(|key| u64::MAX - key as u64);
        let large: ArrayRef = Arc::new(large);
        for batch in [8_192, 999] {
            let found = found_in(&large, batch);
            assert_eq!(found.keys[0].key, (u64::MAX - 7).to_string());
            assert!(found.nulls > 0);
        }
    }

    #[test]
    fn few_rows_are_all_counted() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a"),
            None,
            Some("b"),
            Some("a"),
        ]));
        let found = found_in(&values, 3);
        assert_eq!(
            (found.rows, found.sampled, found.nulls, found.error),
            (4, 4, 1, 0)
        );
        let keys: Vec<_> = found
            .keys
            .iter()
            .map(|key| (key.key.as_str(), key.rows))
            .collect();
        assert_eq!(keys, [("a", 2), ("b", 1)]);
        assert_eq!(found.share(&found.keys[0]), (0.5, 0.0));
        let long: ArrayRef = Arc::new(StringArray::from(vec!["ä".repeat(500)]));
        assert!(found_in(&long, 1).keys[0].key.len() < 130);
    }

    #[test]
    fn spreads_are_of_ranks() {
        let all = Spread::of(1..=100);
        assert_eq!((all.min, all.median, all.p95, all.max), (1, 50, 95, 100));
        let two = Spread::of([9, 3]);
        assert_eq!((two.min, two.median, two.p95, two.max), (3, 3, 9, 9));
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn reports_add_up() {
        let column = |keys: &[(&str, u64)]| HotColumn {
            rows: 100,
            sampled: 100,
            keys: keys
                .iter()
                .map(|(key, rows)| HotKey {
                    key: (*key).to_owned(),
                    rows: *rows,
                })
                .collect(),
            ..HotColumn::empty("item", Role::GroupKey)
        };
        let stage = |us: u64| Stage {
            name: "read".to_owned(),
            count: 1,
            tasks: vec![TaskWork {
                us,
                ..TaskWork::default()
            }],
        };
        let mut report = SkewReport {
            stages: vec![stage(10)],
            columns: vec![column(&[("a", 60), ("b", 40)])],
            decisions: vec!["one".to_owned()],
        };
        report.add(SkewReport {
            stages: vec![
                stage(30),
                Stage {
                    name: "rank".to_owned(),
                    ..stage(1)
                },
            ],
            columns: vec![
                column(&[("b", 90)]),
                HotColumn::empty("user", Role::JoinKey),
            ],
            decisions: vec!["one".to_owned(), "two".to_owned()],
        });
        let keys: Vec<_> = report.columns[0]
            .keys
            .iter()
            .map(|k| (k.key.as_str(), k.rows))
            .collect();
        assert_eq!(
            (keys, report.columns[0].rows),
            (vec![("b", 130), ("a", 60)], 200)
        );
        assert_eq!(
            (
                report.columns.len(),
                report.stages.len(),
                report.decisions.len()
            ),
            (2, 2, 2)
        );
        assert_eq!(report.stages[0].spread(|task| task.us).max, 30);
        for us in 0..2_000 {
            report.stages[0].add(stage(us));
        }
        assert!(report.stages[0].tasks.len() <= 256 && report.stages[0].count == 2_002);
        assert_eq!(report.stages[0].spread(|task| task.us).max, 1_999);
    }

    #[test]
    fn a_plan_tells_its_hot_keys_stages_and_decisions() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (report, exchanged, datafusions) = runtime.block_on(async {
            let options = SessionOptions {
                threads: Some(3),
                ..SessionOptions::default()
            };
            let session = Session::new(&options).unwrap();
            let batches = (0..3).map(|part| {
                let date: ArrayRef = Arc::new(Date32Array::from(vec![part; 9_000]));
                let batch =
                    RecordBatch::try_from_iter(vec![("item", skewed(9_000)), ("date", date)]);
                vec![batch.unwrap()]
            });
            let batches: Vec<_> = batches.collect();
            let table = MemTable::try_new(batches[0][0].schema(), batches).unwrap();
            let context = session.context();
            context.register_table("t", Arc::new(table)).unwrap();
            let frame = context
                .sql("select item, count(distinct date) from t group by item")
                .await
                .unwrap();
            let summed =
                context.sql("select item, sum(length(cast(date as varchar))) from t group by item");
            let summed = summed.await.unwrap().create_physical_plan().await.unwrap();
            let found = collect(Arc::clone(&summed), context.task_ctx()).await;
            found.unwrap();
            let distributed = Distributed::mark(context.copied_config());
            let states = [context.state(), session.state_with(distributed).unwrap()];
            let logical = frame.into_unoptimized_plan();
            let mut reports = Vec::new();
            for state in states {
                let plan = state.create_physical_plan(&logical).await.unwrap();
                let found = collect(Arc::clone(&plan), context.task_ctx()).await;
                found.unwrap();
                reports.push(stages::embedded(&plan));
            }
            let exchanged = reports.pop().unwrap();
            (reports.pop().unwrap(), exchanged, stages::embedded(&summed))
        });
        let [column] = &report.columns[..] else {
            panic!("{report:?}");
        };
        assert_eq!(
            (column.column.as_str(), column.role, column.rows),
            ("item", Role::GroupKey, 27_000)
        );
        assert_eq!(
            column.keys[0],
            HotKey {
                key: "7".to_owned(),
                rows: 9_000
            }
        );
        let names: Vec<_> = report
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        assert_eq!(names, ["aggregate: gathered"]);
        let read: u64 = report.stages[0].tasks.iter().map(|task| task.rows).sum();
        assert_eq!((report.stages[0].count, read), (3, 27_000));
        assert!(
            report
                .decisions
                .iter()
                .any(|said| said.contains("counted as one")),
            "{report:?}"
        );
        // What is in memory has no bytes of files; what other tasks send has.
        let [partial, rest @ ..] = &exchanged.stages[..] else {
            panic!("{exchanged:?}");
        };
        let of = |stage: &Stage| {
            let tasks = stage.tasks.iter();
            let sums = tasks.map(|task| (task.rows, task.bytes));
            sums.fold((0, 0), |sum, task| (sum.0 + task.0, sum.1 + task.1))
        };
        assert_eq!(of(partial), (27_000, 0));
        assert_eq!(rest.len(), 2, "{exchanged:?}");
        for stage in rest {
            let (rows, bytes) = of(stage);
            assert!(rows > 0 && bytes >= 8 * rows, "{exchanged:?}");
        }
        // As between DataFusion's own operators.
        assert!(datafusions.stages.len() > 1, "{datafusions:?}");
        for stage in &datafusions.stages[1..] {
            let (rows, bytes) = of(stage);
            assert!(rows > 0 && bytes >= 8 * rows, "{datafusions:?}");
        }
    }
}
