//! Rankings computed the plain way: nested loops over rows in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::exact;
use crate::job::day;
use crate::lake::Value;
use crate::scenario::{Measure, Per, Person, Row, Scenario, Tag, below};

/// What a run should say of its input.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) rows: u64,
    pub(crate) null_items: u64,
    /// For each dimension that is used.
    pub(crate) unmatched: [u64; 2],
}

impl Scenario {
    /// Rows that count for a day's ranking.
    pub(crate) fn rows_for(&self, number: i64) -> Vec<&Row> {
        let window = number - self.window_days + 1..=number;
        let counts = |row: &&Row| row.day.is_some_and(|day| window.contains(&day));
        self.rows
            .iter()
            .filter(counts)
            .filter(|row| self.filter.keeps(row))
            .collect()
    }

    pub(crate) fn totals(&self, number: i64) -> Totals {
        let rows = self.rows_for(number);
        let count =
            |keep: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| keep(row)).count() as u64;
        Totals {
            rows: rows.len() as u64,
            null_items: count(&|row| row.item == Value::Null),
            unmatched: [
                count(&|row| row.key != Value::Null && self.person(row).is_none()),
                count(&|row| row.tag.is_some() && self.tag(row).is_none()),
            ],
        }
    }

    fn person(&self, row: &Row) -> Option<&Person> {
        let same = |person: &&Person| person.key != Value::Null && person.key == row.key;
        self.people.iter().find(same)
    }

    fn tag(&self, row: &Row) -> Option<&Tag> {
        let same = |tag: &&Tag| tag.name.is_some() && tag.name == row.tag;
        self.tags.iter().find(same)
    }

    fn group_key(&self, per: Per, row: &Row) -> Value {
        let text = match per {
            Per::Date => return Value::Null,
            Per::X => return Value::int(row.x),
            Per::Tag => row.tag.clone(),
            Per::Region => self.person(row).and_then(|p| p.region.clone()),
            Per::Level => self
                .person(row)
                .and_then(|p| p.level)
                .map(|l| l.to_string()),
            Per::High => self
                .person(row)
                .and_then(|p| p.level)
                .and_then(|l| (l > 1).then(|| "high".to_owned())),
            // The expression is over a row of nulls where there is no match.
            Per::Since => {
                let since = self.person(row).and_then(|p| p.since);
                let old = since.is_some_and(|since| Some(since) <= row.day);
                Some(if old { "old" } else { "new" }.to_owned())
            }
            Per::Heat => self.tag(row).and_then(|t| t.heat).map(|h| h.to_string()),
        };
        Value::Text(text.unwrap_or_else(|| "unknown".to_owned()))
    }

    /// A day's ranking as it should be published.
    pub(crate) fn ranking(&self, number: i64) -> Vec<Vec<Value>> {
        // Values have no total order of their own; their texts make fine map keys.
        type Groups<'a> = BTreeMap<String, (Vec<Value>, BTreeMap<String, Vec<&'a Row>>)>;
        let mut groups: Groups<'_> = BTreeMap::new();
        for row in self.rows_for(number) {
            if row.item == Value::Null {
                continue;
            }
            let key: Vec<Value> = self
                .per
                .iter()
                .map(|per| self.group_key(*per, row))
                .collect();
            let (_, items) = groups
                .entry(format!("{key:?}"))
                .or_insert((key, BTreeMap::new()));
            items
                .entry(format!("{:?}", row.item))
                .or_default()
                .push(row);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by(|a, b| ascending(&a.0, &b.0));
        let mut ranking = Vec::new();
        for (key, items) in groups {
            let mut ranked: Vec<(&Value, Vec<Value>)> = items
                .values()
                .map(|rows| {
                    (
                        &rows[0].item,
                        self.measures.iter().map(|m| m.of(rows)).collect(),
                    )
                })
                .collect();
            ranked.sort_by(|a, b| self.better(&a.1, &b.1).then_with(|| a.0.compare(b.0)));
            for (i, (item, measures)) in ranked.into_iter().take(self.top).enumerate() {
                let mut row = key.clone();
                if let Some(at) = self.per.iter().position(|per| *per == Per::Date) {
                    row[at] = Value::text(day(number).to_string());
                }
                row.push(Value::Int(i as i128 + 1));
                row.push(item.clone());
                row.extend(measures);
                ranking.push(row);
            }
        }
        ranking
    }

    fn better(&self, a: &[Value], b: &[Value]) -> Ordering {
        let of = |measures: &[Value], i: usize| match &measures[i] {
            Value::Float(v) if v.is_nan() => Value::Null,
            other => other.clone(),
        };
        self.order
            .iter()
            .fold(Ordering::Equal, |order, (i, descending)| {
                order.then_with(|| {
                    let (a, b) = (of(a, *i), of(b, *i));
                    let nulls = a == Value::Null || b == Value::Null;
                    match a.compare(&b) {
                        order if *descending && !nulls => order.reverse(),
                        order => order,
                    }
                })
            })
    }
}

/// Groups are in the ascending order of their keys, nulls first.
fn ascending(a: &[Value], b: &[Value]) -> Ordering {
    a.iter().zip(b).fold(Ordering::Equal, |order, (a, b)| {
        order.then_with(|| {
            let by_null = (b == &Value::Null).cmp(&(a == &Value::Null));
            by_null.then_with(|| a.compare(b))
        })
    })
}

impl Measure {
    fn of(self, rows: &[&Row]) -> Value {
        let xs: Vec<i64> = rows.iter().filter_map(|row| row.x).collect();
        let fs: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
        let count = |n: usize| Value::Int(n as i128);
        let sum = |xs: &[i64]| xs.iter().map(|x| i128::from(*x)).sum::<i128>();
        let some_sum = |xs: &[i64]| Value::int((!xs.is_empty()).then(|| sum(xs)));
        let is_a = |row: &&&Row| row.tag.as_deref() == Some("a");
        let keys: BTreeSet<String> = rows
            .iter()
            .filter(|row| row.key != Value::Null)
            .map(|row| format!("{:?}", row.key))
            .collect();
        match self {
            Self::Rows => count(rows.len()),
            Self::CountX => count(xs.len()),
            Self::DistinctX => count(xs.iter().collect::<BTreeSet<_>>().len()),
            Self::DistinctKey => count(keys.len()),
            Self::SumX => some_sum(&xs),
            Self::MinX => Value::int(xs.iter().min().copied()),
            Self::MaxX => Value::int(xs.iter().max().copied()),
            Self::AvgX => Value::float((!xs.is_empty()).then(|| sum(&xs) as f64 / xs.len() as f64)),
            Self::SumF => Value::float((!fs.is_empty()).then(|| exact::sum(&fs))),
            Self::AvgF => Value::float((!fs.is_empty()).then(|| exact::sum(&fs) / fs.len() as f64)),
            Self::MinF => Value::float(fs.iter().copied().min_by(f64::total_cmp)),
            Self::MaxF => Value::float(fs.iter().copied().max_by(f64::total_cmp)),
            Self::MaxTag => rows
                .iter()
                .filter_map(|row| row.tag.clone())
                .max()
                .map_or(Value::Null, Value::Text),
            Self::MedianX => {
                let xs: Vec<f64> = xs.iter().map(|x| *x as f64).collect();
                Value::float(nearest_rank(&xs, 0.5))
            }
            Self::P90F => Value::float(nearest_rank(&fs, 0.9)),
            Self::Tagged => count(rows.iter().filter(is_a).count()),
            Self::SumTagged => {
                let kept = rows
                    .iter()
                    .filter(|row| is_a(row) || row.f.is_some_and(|f| below(0.0, f)));
                some_sum(&kept.filter_map(|row| row.x).collect::<Vec<_>>())
            }
            Self::Share => Value::Float(xs.len() as f64 / rows.len() as f64),
            Self::Difference => {
                let sum = (!xs.is_empty()).then(|| sum(&xs) - 2 * keys.len() as i128);
                Value::int(sum)
            }
        }
    }

    /// Percentiles are approximate; everything else is compared bit for bit.
    pub(crate) fn is_approximate(self) -> bool {
        matches!(self, Self::MedianX | Self::P90F)
    }
}

/// The value at rank ⌈q·n⌉; NaN is no value.
fn nearest_rank(values: &[f64], q: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Whether a percentile is within the error that is promised. Below the smallest normal number
/// the buckets no longer shrink with the value.
pub(crate) fn near(found: &Value, exact: &Value) -> bool {
    match (found, exact) {
        (Value::Float(found), Value::Float(exact)) => {
            let bound = exact.abs() / 129.0 * (1.0 + 1e-12);
            found == exact || (found - exact).abs() <= bound.max(f64::MIN_POSITIVE / 64.0)
        }
        (found, exact) => found == exact,
    }
}
