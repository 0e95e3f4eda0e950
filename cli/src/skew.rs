//! Skew reports as text.

use std::fmt::Write;
use std::time::Duration;

use rankmill_engine::skew::{HotColumn, HotKey, Role, SkewReport, SourceSkew, Spread, Stage};

use crate::human;
use crate::table;

/// Keys of a column in a summary, and in a report of their own.
const FEW: usize = 3;
const MANY: usize = 10;
/// Tasks of the clusters for which it is said what a shuffle would cost.
const TASKS: [usize; 3] = [16, 64, 256];

/// A line for each column, each stage of more than one task, and each decision.
pub(crate) fn brief(report: &SkewReport) -> String {
    let mut text = String::new();
    for column in &report.columns {
        let keys: Vec<String> = standing_out(column)
            .take(FEW)
            .map(|key| format!("{} {}", key.key, percent(column.share(key).0)))
            .collect();
        let keys = match keys.is_empty() {
            true => "none stands out".to_owned(),
            false => keys.join(", "),
        };
        _ = writeln!(
            text,
            "  hot {}s, {}: {keys}",
            role(column.role),
            column.column
        );
    }
    for stage in report.stages.iter().filter(|stage| stage.count > 1) {
        let time = stage.spread(|task| task.us);
        _ = writeln!(
            text,
            "  {}: {} tasks of {} to {}, the longest {:.2} x the median",
            stage.name,
            stage.count,
            span(time.min),
            span(time.max),
            stage.straggling()
        );
    }
    for decision in &report.decisions {
        _ = writeln!(text, "  {decision}");
    }
    text
}

/// All of a report.
pub(crate) fn full(report: &SkewReport) -> String {
    let mut parts = Vec::new();
    for column in &report.columns {
        parts.push(column_text(column));
    }
    if !report.stages.is_empty() {
        parts.push(stages_table(&report.stages));
    }
    if !report.decisions.is_empty() {
        let decisions = report.decisions.iter().map(|said| format!("- {said}"));
        let decisions: Vec<String> = decisions.collect();
        parts.push(format!("decisions\n{}", decisions.join("\n")));
    }
    match parts.is_empty() {
        true => "nothing was computed that could be skewed".to_owned(),
        false => parts.join("\n\n"),
    }
}

/// What was found in a dataset, and what rankmill would do about it.
pub(crate) fn of_source(skew: &SourceSkew) -> String {
    let mut text = column_text(&skew.found);
    if skew.files_read < skew.files {
        _ = write!(
            text,
            "\n{} of {} files were read",
            skew.files_read, skew.files
        );
    }
    let shuffled: Vec<String> = TASKS
        .iter()
        .map(|tasks| format!("{:.1} x with {tasks}", skew.found.imbalance(*tasks)))
        .collect();
    _ = write!(
        text,
        "\n\nshuffled by {0}, the longest task has at least so many times the mean rows: {1}\n\
         rankmill doesn't shuffle rows by {0}:\n\
         - grouped by it, each task counts its rows where they are, and one row for each key travels\n\
         - joined by it, a dimension is a table in each process, in which rows are looked up\n\
         - of distinct values counted for it, each goes to a task by the value's own hash",
        skew.found.column,
        shuffled.join(", ")
    );
    text
}

fn column_text(column: &HotColumn) -> String {
    let mut text = format!(
        "{} ({}): {} rows, {} looked at",
        column.column,
        role(column.role),
        human::grouped(column.rows.into()),
        human::grouped(column.sampled.into())
    );
    if column.nulls > 0 {
        let share = column.nulls as f64 / (column.rows as f64).max(1.0);
        _ = write!(text, ", {} without a key", percent(share));
    }
    if let Some(exponent) = column.zipf_exponent() {
        _ = write!(text, ", Zipf exponent about {exponent:.2}");
    }
    let keys: Vec<&HotKey> = standing_out(column).take(MANY).collect();
    if keys.is_empty() {
        text.push_str("\nno key stands out");
        return text;
    }
    let rows = keys.into_iter().map(|key| {
        let (share, error) = column.share(key);
        vec![
            key.key.clone(),
            human::grouped(key.rows.into()),
            percent(share),
            format!("± {}", percent(error)),
        ]
    });
    text.push('\n');
    text.push_str(&table::of_texts(&["key", "rows", "share", "within"], rows));
    text
}

/// Keys whose share is certainly more than nothing.
fn standing_out(column: &HotColumn) -> impl Iterator<Item = &HotKey> {
    column.keys.iter().take_while(|key| {
        let (share, error) = column.share(key);
        share > 2.0 * error
    })
}

fn stages_table(stages: &[Stage]) -> String {
    let four = |spread: Spread, shown: fn(u64) -> String| {
        [spread.min, spread.median, spread.p95, spread.max]
            .map(shown)
            .join(" / ")
    };
    let rows = stages.iter().map(|stage| {
        vec![
            stage.name.clone(),
            stage.count.to_string(),
            four(stage.spread(|task| task.rows), human::count),
            four(stage.spread(|task| task.bytes), human::bytes),
            four(stage.spread(|task| task.us), span),
            format!("{:.2}", stage.straggling()),
        ]
    });
    let columns = [
        "stage",
        "tasks",
        "rows: min / median / p95 / max",
        "bytes",
        "time",
        "max by median",
    ];
    table::of_texts(&columns, rows)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::GroupKey => "group key",
        Role::JoinKey => "join key",
        Role::Column => "column",
    }
}

fn percent(share: f64) -> String {
    match share {
        share if share >= 0.001 || share == 0.0 => format!("{:.1} %", share * 100.0),
        share => format!("{:.3} %", share * 100.0),
    }
}

fn span(us: u64) -> String {
    match us {
        us if us >= 1_000_000 => format!("{:.2} s", Duration::from_micros(us).as_secs_f64()),
        us => format!("{} ms", us.div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests {
    use rankmill_engine::skew::TaskWork;

    use super::*;

    fn column(keys: &[(&str, u64)]) -> HotColumn {
        let keys = keys.iter().map(|(key, rows)| HotKey {
            key: (*key).to_owned(),
            rows: *rows,
        });
        HotColumn {
            column: "item".to_owned(),
            role: Role::GroupKey,
            rows: 1_000_000,
            sampled: 10_000,
            nulls: 20_000,
            error: 1_000,
            keys: keys.collect(),
        }
    }

    #[test]
    fn hot_keys_are_named_and_cold_ones_are_not() {
        let report = SkewReport {
            columns: vec![column(&[("7", 300_000), ("9", 90_000), ("11", 1_000)])],
            stages: vec![Stage {
                name: "read".to_owned(),
                count: 2,
                tasks: [1_000, 3_000]
                    .map(|us| TaskWork {
                        rows: us,
                        bytes: 0,
                        us,
                    })
                    .to_vec(),
            }],
            decisions: vec!["nothing is done".to_owned()],
        };
        let text = brief(&report);
        assert!(text.contains("item: 7 30.0 %, 9 9.0 %\n"), "{text}");
        assert!(
            text.contains(
                "2 tasks of 1 ms to 3 ms, the longest 3.00 x the median\n  nothing is done\n"
            ),
            "{text}"
        );
        let text = full(&report);
        for part in [
            "300,000",
            "30.0 %",
            "2.0 % without a key",
            "3.00",
            "- nothing is done",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let cold = SkewReport {
            columns: vec![column(&[("7", 1_000), ("9", 900)])],
            ..SkewReport::default()
        };
        assert!(brief(&cold).contains("none stands out"));
        assert!(full(&cold).contains("no key stands out"));
    }

    #[test]
    fn says_what_a_shuffle_would_cost() {
        let text = of_source(&SourceSkew {
            found: column(&[("7", 300_000)]),
            files_read: 2,
            files: 4,
        });
        for part in ["4.8 x with 16", "76.8 x with 256", "2 of 4 files"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
