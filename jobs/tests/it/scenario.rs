//! Random rankings: rows, how they are stored, and what is asked.

use proptest::prelude::*;

use crate::lake::{Kind, Value};

/// A row of the log.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Null only where the date comes from a column.
    pub(crate) day: Option<i64>,
    pub(crate) item: Value,
    pub(crate) key: Value,
    pub(crate) x: Option<i64>,
    pub(crate) f: Option<f64>,
    pub(crate) tag: Option<String>,
}

/// A row of the first dimension, joined on `key`.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) key: Value,
    pub(crate) region: Option<String>,
    pub(crate) level: Option<i64>,
    pub(crate) since: Option<i64>,
}

/// A row of the second dimension, joined on `tag` under another name.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    pub(crate) name: Option<String>,
    pub(crate) heat: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    Positive,
    Tagged,
    Nothing,
}

impl Filter {
    pub(crate) fn sql(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Positive => Some("x > 0"),
            Self::Tagged => Some("tag <> 'b' or f < 1"),
            Self::Nothing => Some("x > 1 and x < 0"),
        }
    }

    pub(crate) fn keeps(self, row: &Row) -> bool {
        match self {
            Self::None => true,
            Self::Positive => row.x.is_some_and(|x| x > 0),
            Self::Tagged => {
                row.tag.as_ref().is_some_and(|tag| tag != "b")
                    || row.f.is_some_and(|f| below(f, 1.0))
            }
            Self::Nothing => false,
        }
    }
}

/// SQL's order of floats: NaN is larger than any number.
pub(crate) fn below(a: f64, b: f64) -> bool {
    a.total_cmp(&b).is_lt()
}

/// A key of the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Per {
    Date,
    Tag,
    X,
    Region,
    Level,
    Since,
    High,
    Heat,
}

impl Per {
    pub(crate) const ALL: [Self; 8] = [
        Self::Date,
        Self::Tag,
        Self::X,
        Self::Region,
        Self::Level,
        Self::Since,
        Self::High,
        Self::Heat,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Tag => "tag",
            Self::X => "x",
            Self::Region => "region_of",
            Self::Level => "level_of",
            Self::Since => "since_of",
            Self::High => "high_of",
            Self::Heat => "heat_of",
        }
    }

    /// SQL of an attribute, and the number of its dimension.
    pub(crate) fn attribute(self) -> Option<(usize, &'static str)> {
        match self {
            Self::Date | Self::Tag | Self::X => None,
            Self::Region => Some((0, "region")),
            Self::Level => Some((0, "level")),
            Self::Since => Some((0, "case when since <= date then 'old' else 'new' end")),
            Self::High => Some((0, "case when level > 1 then 'high' end")),
            Self::Heat => Some((1, "heat")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    Rows,
    CountX,
    DistinctX,
    DistinctKey,
    SumX,
    MinX,
    MaxX,
    AvgX,
    SumF,
    AvgF,
    MinF,
    MaxF,
    MaxTag,
    MedianX,
    P90F,
    Tagged,
    SumTagged,
    Share,
    Difference,
}

impl Measure {
    pub(crate) const ALL: [Self; 19] = [
        Self::Rows,
        Self::CountX,
        Self::DistinctX,
        Self::DistinctKey,
        Self::SumX,
        Self::MinX,
        Self::MaxX,
        Self::AvgX,
        Self::SumF,
        Self::AvgF,
        Self::MinF,
        Self::MaxF,
        Self::MaxTag,
        Self::MedianX,
        Self::P90F,
        Self::Tagged,
        Self::SumTagged,
        Self::Share,
        Self::Difference,
    ];

    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Rows => "count(*)",
            Self::CountX => "COUNT(x)",
            Self::DistinctX => "count(distinct x)",
            Self::DistinctKey => "count(distinct key)",
            Self::SumX => "sum(x)",
            Self::MinX => "min(x)",
            Self::MaxX => "max(x)",
            Self::AvgX => "avg(x)",
            Self::SumF => "sum(f)",
            Self::AvgF => "avg(f)",
            Self::MinF => "min(f)",
            Self::MaxF => "max(f)",
            Self::MaxTag => "max(tag)",
            Self::MedianX => "approx_percentile_cont(x, 0.5)",
            Self::P90F => "approx_percentile_cont(f, 0.9)",
            Self::Tagged => "count(*) filter (where tag = 'a')",
            Self::SumTagged => "sum(x) filter (where tag = 'a' or f > 0)",
            Self::Share => "count(x) * 1.0 / count(*)",
            Self::Difference => "sum(x) - 2 * count(distinct key)",
        }
    }

    pub(crate) fn name(self) -> String {
        format!("m_{self:?}")
    }
}

/// A ranking over random rows.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) rows: Vec<Row>,
    pub(crate) item: Kind,
    pub(crate) key: Kind,
    /// The date is in a column, not in the folders.
    pub(crate) by_column: bool,
    pub(crate) people: Vec<Person>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) window_days: i64,
    pub(crate) filter: Filter,
    pub(crate) per: Vec<Per>,
    pub(crate) measures: Vec<Measure>,
    /// Measures by their place, and whether the largest comes first.
    pub(crate) order: Vec<(usize, bool)>,
    pub(crate) top: usize,
    pub(crate) days: Vec<i64>,
}

/// What all rows have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extreme {
    NoItems,
    NoKeys,
    OneItem,
    OneKey,
    /// No two rows have the same item or the same key.
    AllDifferent,
}

impl Extreme {
    pub(crate) const ALL: [Self; 5] = [
        Self::NoItems,
        Self::NoKeys,
        Self::OneItem,
        Self::OneKey,
        Self::AllDifferent,
    ];
}

impl Scenario {
    /// The same, but for items and keys.
    pub(crate) fn with_extreme(mut self, extreme: Extreme) -> Self {
        let (item, key) = (self.item, self.key);
        for (at, row) in self.rows.iter_mut().enumerate() {
            match extreme {
                Extreme::NoItems => row.item = Value::Null,
                Extreme::NoKeys => row.key = Value::Null,
                Extreme::OneItem => row.item = item.nth(2),
                Extreme::OneKey => row.key = key.nth(2),
                Extreme::AllDifferent => {
                    row.item = item.nth(at as u16);
                    row.key = key.nth(at as u16);
                }
            }
        }
        self
    }
}

/// Rows lie on days `0..DAYS`, some of them on none.
pub(crate) const DAYS: i64 = 7;

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-300i32..300).prop_map(|v| f64::from(v) / 10.0),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            0.0, -0.0, 1e308, -1e308, f64::MAX, 5e-324, -1e-310, f64::INFINITY,
            f64::NEG_INFINITY, f64::NAN, 1e16, 1.0, -1e16,
        ]),
    ]
}

prop_compose! {
    fn rows(item: Kind, key: Kind, by_column: bool)(
        items in prop::sample::select(vec![1u16, 4, 30, 4_000]),
        keys in prop::sample::select(vec![1u16, 5, 60, 4_000]),
        nulls in prop::sample::select(vec![0u8, 1, 5, 10]),
        raw in prop::collection::vec(
            (any::<(u16, u16, u8, u8, u8)>(), 0..DAYS, -3i64..6, float(), 0usize..6),
            0..160,
        ),
        size in prop::sample::select(vec![1i64, 1 << 33]),
        used_days in prop::sample::subsequence((0..DAYS).collect::<Vec<_>>(), 1..=DAYS as usize),
    ) -> Vec<Row> {
        let null = |die: u8| die % 10 < nulls;
        raw.into_iter()
            .map(|((i, k, die_i, die_k, die_x), day, x, f, tag)| Row {
                day: (!by_column || die_x % 30 > 0).then_some(day).filter(|day| {
                    !by_column || used_days.contains(day)
                }).or((!by_column).then_some(used_days[day as usize % used_days.len()])),
                item: if null(die_i) { Value::Null } else { item.nth(i % items.min(item.distinct())) },
                key: if null(die_k) { Value::Null } else { key.nth(k % keys.min(key.distinct())) },
                x: (!null(die_x)).then_some(x * size),
                f: (!null(die_i ^ die_x)).then_some(f),
                tag: ["a", "b", "", "unknown", "바"].get(tag).map(|t| (*t).to_owned()),
            })
            .collect()
    }
}

fn people(key: Kind) -> impl Strategy<Value = Vec<Person>> {
    let person = (
        prop::option::weighted(
            0.8,
            prop::sample::select(vec!["서울", "busan", "", "unknown"]),
        ),
        prop::option::weighted(0.8, 0i64..4),
        prop::option::weighted(0.8, 0..DAYS),
    );
    (prop::collection::vec(person, 0..60), any::<bool>()).prop_map(move |(drawn, null_key)| {
        let mut people: Vec<Person> = drawn
            .into_iter()
            .enumerate()
            .map(|(i, (region, level, since))| Person {
                key: key.nth(i as u16 * 2),
                region: region.map(str::to_owned),
                level,
                since,
            })
            .collect();
        // A null key matches nothing, however often it is there.
        if null_key {
            let nobody = Person {
                key: Value::Null,
                region: Some("nowhere".into()),
                level: Some(3),
                since: None,
            };
            people.extend([nobody.clone(), nobody]);
        }
        people
    })
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let names = vec![Some("a"), Some(""), Some("바"), Some("unseen"), None];
    (
        prop::sample::subsequence(names, 0..=5),
        prop::collection::vec(prop::option::weighted(0.7, 0i64..3), 5),
    )
        .prop_map(|(names, heats)| {
            let named = |(name, heat): (Option<&str>, Option<i64>)| Tag {
                name: name.map(str::to_owned),
                heat,
            };
            names.into_iter().zip(heats).map(named).collect()
        })
}

prop_compose! {
    pub(crate) fn scenario()(
        item in prop::sample::select(Kind::ALL.to_vec()),
        key in prop::sample::select(Kind::ALL.to_vec()),
        by_column in any::<bool>(),
    )(
        rows in rows(item, key, by_column),
        people in people(key),
        tags in tags(),
        window_days in 1i64..=4,
        filter in prop::sample::select(vec![
            Filter::None, Filter::None, Filter::Positive, Filter::Tagged, Filter::Nothing,
        ]),
        per in prop::sample::subsequence(Per::ALL.to_vec(), 0..=4).prop_shuffle(),
        measures in prop::sample::subsequence(Measure::ALL.to_vec(), 1..=7).prop_shuffle(),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..3),
        top in prop::sample::select(vec![1usize, 3, 1_000]),
        days in prop::sample::subsequence((0..DAYS + 2).collect::<Vec<_>>(), 1..=DAYS as usize),
        item in Just(item),
        key in Just(key),
        by_column in Just(by_column),
    ) -> Scenario {
        let order = order.into_iter().map(|(i, desc)| (i.index(measures.len()), desc)).collect();
        Scenario {
            rows, item, key, by_column, people, tags, window_days, filter, per, measures, order,
            top, days,
        }
    }
}
