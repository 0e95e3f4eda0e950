//! Hot keys on their way from a task into a report: as counters of its operator, which a cluster
//! carries like any others.

use std::collections::BTreeMap;

use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricValue, MetricsSet,
};

use super::{HotColumn, HotKey, KEPT, Role};

/// Between the parts of a counter's name; no text that was cut or formatted needs it.
const SEPARATOR: char = '\u{1f}';
const HOT: &str = "hot";
const NOTE: &str = "note";
const ROLES: [(Role, &str); 2] = [(Role::GroupKey, "group"), (Role::JoinKey, "join")];

/// Hot keys that a task tells of a column.
pub(crate) const TOLD_KEYS: usize = 48;

/// Tells what a task found in a column.
pub(crate) fn tell(metrics: &ExecutionPlanMetricsSet, partition: usize, found: &HotColumn) {
    let Some((_, role)) = ROLES.iter().find(|(role, _)| *role == found.role) else {
        return;
    };
    let count = |what: &str, key: &str, value: u64| {
        let name = [HOT, *role, found.column.as_str(), what, key];
        let name = name.join(&SEPARATOR.to_string());
        let counter = MetricBuilder::new(metrics).counter(name, partition);
        counter.add(usize::try_from(value).unwrap_or(usize::MAX));
    };
    count("rows", "", found.rows);
    count("sampled", "", found.sampled);
    count("nulls", "", found.nulls);
    count("error", "", found.error);
    for key in &found.keys {
        count("key", &key.key, key.rows);
    }
}

/// Tells what a task decided while it ran, and why.
pub(crate) fn note(metrics: &ExecutionPlanMetricsSet, partition: usize, sentence: &str) {
    let name = format!("{NOTE}{SEPARATOR}{sentence}");
    MetricBuilder::new(metrics).counter(name, partition).add(1);
}

/// What all tasks told of columns, and what they noted, with how many did.
pub(super) fn told<'a>(
    sets: impl IntoIterator<Item = &'a MetricsSet>,
) -> (Vec<HotColumn>, Vec<String>) {
    let mut columns: BTreeMap<(Role, String), HotColumn> = BTreeMap::new();
    let mut notes: BTreeMap<String, usize> = BTreeMap::new();
    for metric in sets.into_iter().flat_map(MetricsSet::iter) {
        let MetricValue::Count { name, count } = metric.value() else {
            continue;
        };
        let mut parts = name.splitn(5, SEPARATOR);
        let prefix = parts.next();
        let mut next = || parts.next().unwrap_or_default();
        match prefix {
            Some(HOT) => {}
            Some(NOTE) => {
                *notes.entry(next().to_owned()).or_default() += count.value();
                continue;
            }
            _ => continue,
        }
        let (role, column, what, key) = (next(), next(), next(), next());
        let Some((role, _)) = ROLES.iter().find(|(_, name)| *name == role) else {
            continue;
        };
        let told = columns.entry((*role, column.to_owned()));
        let told = told.or_insert_with(|| HotColumn::empty(column, *role));
        let value = count.value() as u64;
        match what {
            "rows" => told.rows += value,
            "sampled" => told.sampled += value,
            "nulls" => told.nulls += value,
            "error" => told.error += value,
            _ => told.keys.push(HotKey {
                key: key.to_owned(),
                rows: value,
            }),
        }
    }
    let columns = columns.into_values().map(|mut column| {
        column.settle(KEPT);
        column
    });
    let notes = notes.into_iter();
    let notes = notes.map(|(sentence, tasks)| match tasks {
        1 => format!("{sentence} (1 task)"),
        tasks => format!("{sentence} ({tasks} tasks)"),
    });
    (columns.collect(), notes.collect())
}
