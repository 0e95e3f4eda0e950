//! What a spec must satisfy before any file is looked at.

use std::collections::HashSet;
use std::time::Duration;

use super::locate::FieldPath;
use super::parse::{Mistake, did_you_mean};
use super::schedule::{parse_cron, parse_duration};
use super::{CsvOptions, DateSpec, FormatSpec, Lookup, RankingSpec, Schedule, Source, Spec};

/// Columns that a published ranking has besides the user's.
const RESERVED: [&str; 4] = ["date", "rank", "previous_rank", "rank_change"];
const MAX_TOP: u32 = 1_000_000;
const MAX_WINDOW_DAYS: u32 = 3_660;
/// A firing is one run: what lies further back is a matter for a backfill.
const MAX_LOOKBACK_DAYS: u32 = 366;
const MAX_REPAIR_DAYS: u32 = 366;
const MIN_DEADLINE: Duration = Duration::from_secs(60);
const MAX_DEADLINE: Duration = Duration::from_secs(31 * 86_400);

type Check = Result<(), Mistake>;

fn fail<T>(field: FieldPath, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake {
        field,
        message: message.into(),
    })
}

impl Spec {
    pub(super) fn validate(&self) -> Check {
        let root = FieldPath::default();
        if self.version != 1 {
            let message = format!(
                "version {} is not known; this rankmill reads 1",
                self.version
            );
            return fail(root.key("version"), message);
        }
        check_name(&self.name, root.key("name"))?;
        if let Some(schedule) = &self.schedule {
            schedule.validate(root.key("schedule"))?;
        }
        if let Some(source) = &self.source {
            source.validate(root.key("source"))?;
        }
        for (name, source) in &self.sources {
            source.validate(root.key("sources").key(name))?;
        }
        match (&self.ranking, &self.sql) {
            (Some(ranking), None) => self.validate_ranking(ranking),
            (None, Some(_)) => self.validate_sql(),
            (Some(_), Some(_)) => fail(root.key("sql"), "a job has either 'ranking' or 'sql'"),
            (None, None) => fail(root.clone(), "a job needs 'ranking' or 'sql'"),
        }?;
        if self.output.path.contains("{date}") {
            let message = "each date gets a folder of its own below this path; leave {date} out";
            return fail(root.key("output").key("path"), message);
        }
        Ok(())
    }

    fn validate_sql(&self) -> Check {
        let root = FieldPath::default();
        if self.source.is_none() && self.sources.is_empty() {
            return fail(
                root.key("sql"),
                "a query needs 'source' or 'sources' to read",
            );
        }
        if self.source.is_some() && self.sources.contains_key("source") {
            let message = "the table 'source' is declared twice";
            return fail(root.key("sources").key("source"), message);
        }
        let all = self.source.iter().chain(self.sources.values());
        if all.clone().all(|source| source.date.is_none()) {
            let message = "at least one source needs a 'date', or no run would read anything new";
            return fail(root.key("sql"), message);
        }
        for (present, field) in [
            (!self.lookups.is_empty(), "lookups"),
            (!self.labels.is_empty(), "labels"),
        ] {
            if present {
                return fail(
                    root.key(field),
                    "goes with 'ranking'; a query joins by itself",
                );
            }
        }
        Ok(())
    }

    fn validate_ranking(&self, ranking: &RankingSpec) -> Check {
        let root = FieldPath::default();
        let Some(source) = &self.source else {
            return fail(root, "a ranking needs 'source'");
        };
        if source.date.is_none() {
            let message = "a ranking needs to know a row's date: \
                           { partition: date } or { column: …, timezone: … }";
            return fail(root.key("source").key("date"), message);
        }
        if !self.sources.is_empty() {
            let message = "goes with 'sql'; a ranking reads 'source' and 'lookups'";
            return fail(root.key("sources"), message);
        }
        if !self.output.key.is_empty() {
            let message = "goes with 'sql'; a ranking's key is known";
            return fail(root.key("output").key("key"), message);
        }
        let mut columns = Columns::default();
        for (i, lookup) in self.lookups.iter().enumerate() {
            lookup.validate(root.key("lookups").index(i), &mut columns)?;
        }
        ranking.validate(root.key("ranking"), &mut columns)?;
        for (i, labels) in self.labels.iter().enumerate() {
            let at = root.key("labels").index(i);
            check_csv(labels.format, labels.csv.as_ref(), &at)?;
            if labels.on.fact() != ranking.item {
                let message = format!(
                    "labels are looked up for the ranked item: the fact side must be '{}'",
                    ranking.item
                );
                return fail(at.key("on"), message);
            }
            if labels.columns.is_empty() {
                return fail(at.key("columns"), "name at least one column");
            }
            for (j, column) in labels.columns.iter().enumerate() {
                columns.claim(column, at.key("columns").index(j))?;
            }
        }
        Ok(())
    }
}

/// The names of the published columns, each of which may be used once.
#[derive(Default)]
struct Columns(HashSet<String>);

impl Columns {
    fn claim(&mut self, name: &str, at: FieldPath) -> Check {
        if name.is_empty() || name.starts_with("__") {
            let message = format!("'{name}' can't be a column: names starting with __ are taken");
            return fail(at, message);
        }
        if RESERVED.contains(&name) {
            let message = format!("'{name}' is a column of every ranking; choose another name");
            return fail(at, message);
        }
        if !self.0.insert(name.to_owned()) {
            return fail(
                at,
                format!("there is a column '{name}' already; choose another name"),
            );
        }
        Ok(())
    }
}

impl Source {
    fn validate(&self, at: FieldPath) -> Check {
        check_csv(self.format, self.csv.as_ref(), &at)?;
        if self.window_days == 0 || self.window_days > MAX_WINDOW_DAYS {
            let message = format!("must be 1 to {MAX_WINDOW_DAYS}");
            return fail(at.key("window_days"), message);
        }
        if self.window_days > 1 && self.date.is_none() {
            return fail(at.key("window_days"), "a window of days needs 'date'");
        }
        self.date
            .as_ref()
            .map_or(Ok(()), |date| date.validate(at.key("date")))
    }
}

impl Schedule {
    fn validate(&self, at: FieldPath) -> Check {
        check_zone(&self.timezone, at.key("timezone"))?;
        if let Err(message) = parse_cron(&self.cron) {
            return fail(at.key("cron"), message);
        }
        if self.lookback_days > MAX_LOOKBACK_DAYS {
            let message = format!("must be 0 to {MAX_LOOKBACK_DAYS}");
            return fail(at.key("lookback_days"), message);
        }
        if self.repair_days > MAX_REPAIR_DAYS {
            let message = format!("must be 0 (off) to {MAX_REPAIR_DAYS}");
            return fail(at.key("repair_days"), message);
        }
        let Some(deadline) = &self.deadline else {
            return Ok(());
        };
        match parse_duration(deadline) {
            Ok(deadline) if (MIN_DEADLINE..=MAX_DEADLINE).contains(&deadline) => Ok(()),
            Ok(_) => fail(at.key("deadline"), "must be 1m to 31d"),
            Err(message) => fail(at.key("deadline"), message),
        }
    }
}

impl DateSpec {
    fn validate(&self, at: FieldPath) -> Check {
        match (&self.partition, &self.column, &self.timezone) {
            (Some(_), None, None) | (None, Some(_), None) => Ok(()),
            (None, Some(_), Some(zone)) => check_zone(zone, at.key("timezone")),
            (Some(_), None, Some(_)) => fail(
                at.key("timezone"),
                "goes with 'column'; a partition's name already is a date",
            ),
            (Some(_), Some(_), _) => fail(at, "give either 'partition' or 'column'"),
            (None, None, _) => fail(at, "give 'partition' or 'column'"),
        }
    }
}

impl Lookup {
    fn validate(&self, at: FieldPath, columns: &mut Columns) -> Check {
        check_csv(self.format, self.csv.as_ref(), &at)?;
        if self.attributes.is_empty() {
            return fail(at.key("attributes"), "name at least one attribute");
        }
        for name in self.attributes.keys() {
            columns.claim(name, at.key("attributes").key(name))?;
        }
        Ok(())
    }
}

impl RankingSpec {
    fn validate(&self, at: FieldPath, columns: &mut Columns) -> Check {
        let attributes = columns.0.clone();
        if attributes.contains(&self.item) {
            let message = "the item must be a column of the log, not an attribute";
            return fail(at.key("item"), message);
        }
        columns.claim(&self.item, at.key("item"))?;
        let mut seen = HashSet::new();
        for (i, key) in self.per.iter().enumerate() {
            let at = at.key("per").index(i);
            if !seen.insert(key) {
                return fail(at, format!("'{key}' is named twice"));
            }
            if key != "date" && !attributes.contains(key) {
                columns.claim(key, at)?;
            }
        }
        if let Some(unused) = attributes.iter().find(|name| !self.per.contains(name)) {
            let message = format!("the attribute '{unused}' is not used; add it here");
            return fail(at.key("per"), message);
        }
        if self.measures.is_empty() {
            return fail(at.key("measures"), "name at least one measure");
        }
        for name in self.measures.keys() {
            columns.claim(name, at.key("measures").key(name))?;
        }
        if self.order_by.is_empty() {
            return fail(at.key("order_by"), "name at least one measure to order by");
        }
        for (i, entry) in self.order_by.iter().enumerate() {
            let at = at.key("order_by").index(i);
            let words: Vec<&str> = entry.split_whitespace().collect();
            let (measure, direction) = match words.as_slice() {
                [measure] => (*measure, "desc"),
                [measure, direction] => (*measure, *direction),
                _ => return fail(at, "expected a measure, then 'asc' or 'desc'"),
            };
            if !["asc", "desc"].contains(&direction.to_ascii_lowercase().as_str()) {
                let message = format!("'{direction}' is not a direction: use 'asc' or 'desc'");
                return fail(at, message);
            }
            if !self.measures.contains_key(measure) {
                let known = || self.measures.keys().map(String::as_str);
                let message = format!(
                    "'{measure}' is not a measure{}; measures: {}",
                    did_you_mean(measure, known()),
                    known().collect::<Vec<_>>().join(", ")
                );
                return fail(at, message);
            }
        }
        if self.top == 0 || self.top > MAX_TOP {
            return fail(at.key("top"), format!("must be 1 to {MAX_TOP}"));
        }
        Ok(())
    }
}

fn check_name(name: &str, at: FieldPath) -> Check {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let first = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 100 && name.chars().all(fine) {
        Ok(())
    } else {
        fail(
            at,
            "use up to 100 of a-z, 0-9, '-' and '_', beginning with a letter or digit",
        )
    }
}

fn check_zone(zone: &str, at: FieldPath) -> Check {
    if zone.parse::<chrono_tz::Tz>().is_ok() {
        return Ok(());
    }
    let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    fail(
        at,
        format!(
            "'{zone}' is not a time zone{}; use a name such as Asia/Seoul",
            did_you_mean(zone, known)
        ),
    )
}

fn check_csv(format: FormatSpec, csv: Option<&CsvOptions>, at: &FieldPath) -> Check {
    let Some(csv) = csv else {
        return Ok(());
    };
    if format != FormatSpec::Csv {
        return fail(at.key("csv"), "goes with 'format: csv'");
    }
    if csv.delimiter_byte().is_none() {
        return fail(
            at.key("csv").key("delimiter"),
            "must be one ASCII character or \\t",
        );
    }
    Ok(())
}

impl CsvOptions {
    /// The delimiter as the reader takes it.
    pub(crate) fn delimiter_byte(&self) -> Option<u8> {
        match self.delimiter.as_bytes() {
            b"\\t" => Some(b'\t'),
            [byte] if byte.is_ascii() && !b"\"\n\r".contains(byte) => Some(*byte),
            _ => None,
        }
    }
}
