//! How the rows of a scenario lie in files.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::TimeUnit;
use proptest::prelude::*;

use crate::job::{day, epoch_day};
use crate::lake::{Kind, Lake, Value, dates, floats, ints, texts, timestamps};
use crate::scenario::{DAYS, Person, Row, Scenario};

/// How the same rows lie in files.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) files_per_day: usize,
    pub(crate) row_group_rows: usize,
    /// Mixes the rows; 0 leaves them as they come.
    pub(crate) shuffle: u64,
    /// Files of a day whose rows all lack a column don't have it, but for the first.
    pub(crate) omit_columns: bool,
    /// Texts are stored in another way in each file.
    pub(crate) mix_texts: bool,
}

impl Layout {
    pub(crate) const PLAIN: Self = Self {
        files_per_day: 1,
        row_group_rows: 1 << 20,
        shuffle: 0,
        omit_columns: false,
        mix_texts: false,
    };
}

pub(crate) fn layout() -> impl Strategy<Value = Layout> {
    let row_groups = prop::sample::select(vec![1usize, 7, 1 << 20]);
    (
        1usize..5,
        row_groups,
        any::<u64>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(files_per_day, row_group_rows, shuffle, omit_columns, mix_texts)| Layout {
                files_per_day,
                row_group_rows,
                shuffle,
                omit_columns,
                mix_texts,
            },
        )
}

/// A permutation of any length from a seed.
fn mix(seed: u64, row: usize) -> u64 {
    if seed == 0 {
        return 0;
    }
    (row as u64 + 1)
        .wrapping_mul(seed | 1)
        .rotate_left(29)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Scenario {
    pub(crate) fn write(&self, lake: &Lake, layout: &Layout) {
        let days: Vec<Option<i64>> = match self.by_column {
            // Rows of all days share the files.
            true => vec![None],
            false => self.days_with_files().into_iter().map(Some).collect(),
        };
        for day_number in days {
            let mut rows: Vec<(u64, &Row)> = self
                .rows
                .iter()
                .enumerate()
                .filter(|(_, row)| self.by_column || row.day == day_number)
                .map(|(i, row)| (mix(layout.shuffle, i), row))
                .collect();
            rows.sort_by_key(|(place, row)| {
                let missing = layout
                    .omit_columns
                    .then(|| (row.x.is_none(), row.tag.is_none()));
                (missing, *place)
            });
            let size = rows.len().div_ceil(layout.files_per_day).max(1);
            let mut parts: Vec<&[(u64, &Row)]> = rows.chunks(size).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            for (i, part) in parts.into_iter().enumerate() {
                let rows: Vec<&Row> = part.iter().map(|(_, row)| *row).collect();
                let folder = day_number.map_or(String::new(), |d| format!("date={}/", day(d)));
                let file = format!("log/{folder}part-{i}.parquet");
                lake.write(
                    &file,
                    &self.columns(&rows, layout, i),
                    layout.row_group_rows,
                );
            }
        }
        self.write_dimensions(lake);
    }

    /// Days that have a folder: those with rows, and one without.
    pub(crate) fn days_with_files(&self) -> Vec<i64> {
        (0..=DAYS)
            .filter(|number| self.has_rows_on(*number) || *number == DAYS)
            .collect()
    }

    fn columns(&self, rows: &[&Row], layout: &Layout, file: usize) -> Vec<(&str, ArrayRef)> {
        let of = |value: &dyn Fn(&Row) -> Value| -> Vec<Value> {
            rows.iter().map(|row| value(row)).collect()
        };
        let stored = |kind: Kind| match kind.is_text() && layout.mix_texts {
            true => [
                Kind::Utf8,
                Kind::LargeUtf8,
                Kind::Dictionary,
                Kind::Utf8View,
            ][file % 4],
            false => kind,
        };
        let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
        let mut columns = vec![
            (
                "item",
                stored(self.item).array(&of(&|row| row.item.clone())),
            ),
            ("key", stored(self.key).array(&of(&|row| row.key.clone()))),
            ("f", floats(&of(&|row| Value::float(row.f)))),
        ];
        let may_omit = layout.omit_columns && file > 0;
        if !may_omit || rows.iter().any(|row| row.x.is_some()) {
            columns.push(("x", ints(&of(&|row| Value::int(row.x)))));
        }
        if !may_omit || rows.iter().any(|row| row.tag.is_some()) {
            columns.push(("tag", texts(&of(&|row| text(&row.tag)))));
        }
        if self.by_column {
            let instants: Vec<Value> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| instant(i, row))
                .collect();
            // The same in all files of a source.
            let (unit, zone) = [
                (TimeUnit::Microsecond, None),
                (TimeUnit::Nanosecond, Some("UTC")),
                (TimeUnit::Millisecond, Some("America/New_York")),
                (TimeUnit::Second, None),
            ][self.top % 4];
            columns.push(("at", timestamps(&instants, unit, zone)));
        }
        if file % 2 == 1 {
            columns.reverse();
        }
        columns
    }

    fn write_dimensions(&self, lake: &Lake) {
        let people = |value: &dyn Fn(&Person) -> Value| -> Vec<Value> {
            self.people.iter().map(value).collect()
        };
        let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
        let since = people(&|p| Value::int(p.since.map(epoch_day)));
        lake.write(
            "people/part-0.parquet",
            &[
                ("key", self.key.array(&people(&|p| p.key.clone()))),
                ("region", texts(&people(&|p| text(&p.region)))),
                ("level", ints(&people(&|p| Value::int(p.level)))),
                ("since", dates(&since)),
                // Not the log's date: attributes see that one.
                ("date", dates(&since)),
            ],
            10,
        );
        let names: Vec<Value> = self.tags.iter().map(|t| text(&t.name)).collect();
        let heats: Vec<Value> = self.tags.iter().map(|t| Value::int(t.heat)).collect();
        lake.write(
            "tags.parquet",
            &[
                ("name", Kind::LargeUtf8.array(&names)),
                ("heat", ints(&heats)),
            ],
            10,
        );
    }

    /// Whether a day has rows of its own, `where` or not.
    pub(crate) fn has_rows_on(&self, number: i64) -> bool {
        self.rows.iter().any(|row| row.day == Some(number))
    }
}

/// A moment of a row's day in Seoul, the first and the last among them.
fn instant(i: usize, row: &Row) -> Value {
    let in_day = [0, 86_399_000_000, 43_200_000_000, 1_000_000][i % 4];
    let seoul = 9 * 3_600_000_000;
    Value::int(
        row.day
            .map(|number| epoch_day(number) * 86_400_000_000 - seoul + in_day),
    )
}
