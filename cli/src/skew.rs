//! Skew reports as text.

use std::fmt::Write;
use std::time::Duration;

use rankmill_engine::skew::{
    Advice, Groups, HotColumn, HotKey, Join, Role, SkewReport, SourceSkew, Spread, Stage,
};

use crate::human;
use crate::table;

/// Keys of a column in a summary, and in a report of their own.
const FEW: usize = 3;
const MANY: usize = 10;

/// A line for each column, each stage of more than one task, and each decision.
pub(crate) fn brief(report: &SkewReport) -> String {
    let mut text = String::new();
    for column in &report.columns {
        let keys: Vec<String> = column
            .standing_out()
            .take(FEW)
            .map(|key| format!("{} {}", key.key, share(column, key)))
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
    let (found, advice) = (&skew.found, &skew.advice);
    let mut text = column_text(found);
    if skew.files_read < skew.files {
        _ = write!(
            text,
            "\n{} of {} files were read",
            skew.files_read, skew.files
        );
    }
    let shuffled = advice.shuffled.iter();
    let shuffled: Vec<String> = shuffled
        .map(|with| format!("{:.1} x with {}", with.longest_by_mean, with.tasks))
        .collect();
    let column = &found.column;
    _ = write!(
        text,
        "\n\nshuffled by {column}, the longest task has at least so many times the mean rows: {}\n{}\n\n\
         what rankmill does with {column}:\n- {}\n- {}\n- {}",
        shuffled.join(", "),
        straggler(found, advice),
        grouped(found, advice),
        joined(found, advice),
        distinct(found),
    );
    text
}

/// From when on a shuffle would be held up, and by what.
fn straggler(found: &HotColumn, advice: &Advice) -> String {
    let Some(tasks) = advice.straggles_from_tasks else {
        return "no key is hot enough to hold up a shuffle".to_owned();
    };
    let hottest = found.standing_out().next();
    let hottest = hottest.filter(|key| key.rows >= found.nulls);
    let what = hottest.map_or_else(
        || "the rows without a key".to_owned(),
        |key| format!("the rows of {}", key.key),
    );
    format!("from {tasks} tasks on, {what} alone give one of them 1.5 times the mean or more")
}

/// The hottest key and its share, if one stands out.
fn hottest(found: &HotColumn) -> Option<(&str, String)> {
    let key = found.standing_out().next()?;
    Some((&key.key, percent(found.share(key).0)))
}

fn grouped(found: &HotColumn, advice: &Advice) -> String {
    let numbered = match advice.groups {
        Groups::Dense => "its values lie close together, so that groups are array indices",
        Groups::Hashed => "its values lie far apart, so that groups are hashed",
        Groups::HashedByType => "groups are hashed, as always for its type",
        Groups::DenseWhileFew => "groups are array indices while they are few, then hashed",
    };
    let hot =
        hottest(found).map(|(key, share)| format!(", of {key} too instead of {share} of all rows"));
    format!(
        "grouped by it: {numbered}; tasks count rows where they are, and send one row for each key{}",
        hot.unwrap_or_default()
    )
}

fn joined(found: &HotColumn, advice: &Advice) -> String {
    let table = human::bytes(advice.table_bytes);
    let limit = human::bytes(advice.table_limit);
    if advice.join == Join::LookedUp {
        return format!(
            "joined by it: a dimension of all its keys takes about {table} and its attributes as a table \
             in each process ({limit} are allowed), in which rows are looked up where they are"
        );
    }
    let broadcast = match advice.broadcast_keys {
        0 => "all keys are shuffled, for none is hot".to_owned(),
        keys => format!(
            "{} with {} of the rows broadcast, and the others shuffled",
            match keys {
                1 => "the hottest key is".to_owned(),
                keys => format!("the {keys} hottest keys are"),
            },
            percent(advice.broadcast_share)
        ),
    };
    let nulls = match found.nulls {
        0 => "",
        _ => "; rows without a key take turns at the tasks",
    };
    format!(
        "joined by it: rows are looked up where they are if the dimension takes at most {limit} as a \
         table in each process (were all its keys different, {table}); else {broadcast}{nulls}"
    )
}

fn distinct(found: &HotColumn) -> String {
    let hot = hottest(found).map(|(key, share)| {
        format!(": {key}, in {share} of the rows, is sent once by a task and group")
    });
    format!(
        "counted as distinct values: each goes to a task by its own hash, not by its group's{}",
        hot.unwrap_or_default()
    )
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
    let keys: Vec<&HotKey> = column.standing_out().take(MANY).collect();
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

/// A key's share of the rows, and by how much it may be off.
fn share(column: &HotColumn, key: &HotKey) -> String {
    let (share, error) = column.share(key);
    match error {
        0.0 => percent(share),
        error => format!("{} ± {}", percent(share), percent(error)),
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
    use rankmill_engine::skew::{Shuffled, TaskWork};

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
        assert!(
            text.contains("item: 7 30.0 % ± 1.0 %, 9 9.0 % ± 0.7 %\n"),
            "{text}"
        );
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

    fn source(found: HotColumn, advice: Advice) -> String {
        of_source(&SourceSkew {
            found,
            files_read: 2,
            files: 4,
            advice,
        })
    }

    fn advice() -> Advice {
        Advice {
            shuffled: vec![Shuffled {
                tasks: 16,
                longest_by_mean: 4.8,
            }],
            straggles_from_tasks: Some(5),
            groups: Groups::Dense,
            join: Join::LookedUp,
            table_bytes: 3 << 20,
            table_limit: 4 << 30,
            broadcast_keys: 2,
            broadcast_share: 0.39,
        }
    }

    #[test]
    fn advice_is_by_what_was_found() {
        let found = column(&[("7", 300_000), ("9", 90_000)]);
        let text = source(found.clone(), advice());
        for part in [
            "4.8 x with 16",
            "2 of 4 files",
            "from 5 tasks on, the rows of 7 alone",
            "groups are array indices;",
            "of 7 too instead of 30.0 %",
            "about 3.0 MiB and its attributes as a table",
            "7, in 30.0 % of the rows",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let by_size = Advice {
            groups: Groups::Hashed,
            join: Join::BySize,
            table_bytes: 9 << 30,
            ..advice()
        };
        let text = source(found, by_size.clone());
        for part in [
            "groups are hashed;",
            "at most 4.0 GiB as a table",
            "all its keys different, 9.0 GiB",
            "the 2 hottest keys are with 39.0 % of the rows broadcast",
            "rows without a key take turns",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let even = HotColumn {
            nulls: 0,
            ..column(&[("7", 1_000)])
        };
        let nothing_hot = Advice {
            straggles_from_tasks: None,
            broadcast_keys: 0,
            broadcast_share: 0.0,
            ..by_size
        };
        let text = source(even, nothing_hot);
        for part in [
            "no key is hot enough to hold up a shuffle",
            "all keys are shuffled, for none is hot",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            !text.contains("take turns") && !text.contains("of 7"),
            "{text}"
        );
    }
}
