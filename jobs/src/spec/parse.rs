//! From YAML to a validated spec, with errors that say where and what would be right.

use std::fmt;

use chrono::NaiveDate;

use super::locate::{FieldPath, locate};
use super::{Params, Spec};

/// A mistake in a spec.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct SpecError {
    /// The spec's file, or its name if it came with rankmill.
    pub origin: String,
    /// Line, from 1, where known.
    pub line: Option<u64>,
    /// Column, from 1, where known.
    pub column: Option<u64>,
    /// Path of the field, such as `ranking.order_by[0]`; empty where it isn't about one.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// A mistake in a field, before its place in the text is known.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) field: FieldPath,
    pub(super) message: String,
}

/// Parses and validates a spec; every placeholder must have a value in `params`. `origin` names
/// the spec in errors. The placeholders stay: [`Spec::fill`] replaces them for a date.
pub fn parse(yaml: &str, origin: &str, params: &Params) -> Result<Spec, SpecError> {
    // A column may be called `y`, `no` or `on`: only true and false are booleans.
    let options = serde_saphyr::options! { strict_booleans: true };
    let spec: Spec = serde_saphyr::from_str_with_options(yaml, options)
        .map_err(|e| from_yaml_error(&e, origin))?;
    let checked = spec
        .validate()
        .and_then(|()| spec.try_fill(params, NaiveDate::default()));
    match checked {
        Ok(_) => Ok(spec),
        Err(mistake) => {
            let position = locate(yaml, &mistake.field);
            Err(SpecError {
                origin: origin.to_owned(),
                line: position.map(|p| p.line),
                column: position.map(|p| p.column),
                field: mistake.field.to_string(),
                message: mistake.message,
            })
        }
    }
}

fn from_yaml_error(error: &serde_saphyr::Error, origin: &str) -> SpecError {
    let error = error.without_snippet();
    let position = error.location();
    let (field, message) = match error {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => (
            field.clone(),
            format!(
                "there is no such field{}; known here: {}",
                did_you_mean(field, expected.iter().copied()),
                expected.join(", ")
            ),
        ),
        serde_saphyr::Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            String::new(),
            format!(
                "'{variant}' is not known here{}; known: {}",
                did_you_mean(variant, expected.iter().copied()),
                expected.join(", ")
            ),
        ),
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            ((*field).to_owned(), "this field is missing".to_owned())
        }
        other => (String::new(), strip_position(&other.render())),
    };
    SpecError {
        origin: origin.to_owned(),
        line: position.map(|p| p.line()),
        column: position.map(|p| p.column()),
        field,
        message,
    }
}

/// The parser's messages may repeat the place, which this error says in its own way.
fn strip_position(message: &str) -> String {
    let first_line = message.lines().next().unwrap_or_default();
    let text = first_line
        .find(" at line ")
        .map_or(first_line, |at| &first_line[..at]);
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

/// `; did you mean 'x'?` where a known name is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean '{near}'?"))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(
                &name.to_ascii_lowercase(),
                &candidate.to_ascii_lowercase(),
            );
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "version: 1
name: test
schedule: { cron: '10 0 * * *', timezone: Asia/Seoul }
source:
  path: '{lake}/log/'
  date: { partition: date }
  window_days: 2
lookups:
  - path: '{lake}/users/'
    on: user_id
    attributes: { region: region }
ranking:
  item: item
  per: [date, region]
  measures:
    clicks: 'count(*)'
    visitors: 'count(distinct user_id)'
  order_by: [visitors desc, clicks asc]
  top: 10
labels:
  - path: '{lake}/items/'
    on: item
    columns: [title]
output: { path: '{lake}/out/' }
";

    const QUERY: &str = "version: 1
name: test
sources:
  t:
    path: '{lake}/log/'
    date: { column: at, timezone: Asia/Seoul }
sql: SELECT * FROM t WHERE day = '{date}'
output:
  path: '{lake}/out/'
  key: [id]
";

    fn params() -> Params {
        Params::new("lake", Default::default())
    }

    /// The mistake in a spec stands in a line and says what is wrong, and perhaps what is right.
    /// Says what differs.
    fn difference(yaml: &str, line: u64, expected: &str) -> Option<String> {
        let Err(error) = parse(yaml, "spec.yaml", &params()) else {
            return Some(format!("no mistake found; expected {expected:?}:\n{yaml}"));
        };
        let text = error.to_string();
        let place = format!("spec.yaml:{line}:");
        let fits = text.starts_with(&place) && text.contains(expected) && !text.contains('\n');
        (!fits).then(|| format!("{text}\n  expected {place} … {expected}"))
    }

    fn check(differences: impl Iterator<Item = Option<String>>) {
        let differences: Vec<String> = differences.flatten().collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// A table of (part of a right spec, what stands there instead, line, message).
    fn check_replaced(spec: &str, mistakes: &[(&str, &str, u64, &str)]) {
        check(mistakes.iter().map(|(part, with, line, expected)| {
            assert!(spec.contains(part), "{part}");
            difference(&spec.replacen(part, with, 1), *line, expected)
        }));
    }

    #[test]
    fn the_specs_themselves_are_right() {
        for yaml in [SPEC, QUERY] {
            parse(yaml, "spec.yaml", &params()).unwrap();
        }
    }

    #[test]
    fn misspelt_and_missing_fields() {
        check_replaced(
            SPEC,
            &[
                (
                    "ranking:",
                    "rankng:",
                    12,
                    "rankng: there is no such field; did you mean 'ranking'?",
                ),
                ("  order_by", "  orderby", 18, "did you mean 'order_by'?"),
                (
                    "  window_days",
                    "  windowdays",
                    7,
                    "did you mean 'window_days'?",
                ),
                (
                    "partition: d",
                    "partiton: d",
                    6,
                    "did you mean 'partition'?",
                ),
                (
                    "    attributes",
                    "    atributes",
                    11,
                    "did you mean 'attributes'?",
                ),
                ("    columns", "    colums", 23, "did you mean 'columns'?"),
                ("{ cron", "{ corn", 3, "did you mean 'cron'?"),
                (
                    "  top: 10\n",
                    "  top: 10\n  colour: red\n",
                    20,
                    "known here: item, per, measures",
                ),
                (
                    "on: user_id",
                    "on: { fact: u, dimensoin: d }",
                    10,
                    "did you mean 'dimension'?",
                ),
                (
                    "on: user_id",
                    "on: { fact: u }",
                    10,
                    "dimension: this field is missing",
                ),
                ("  item: item\n", "", 18, "item: this field is missing"),
                (
                    "path: '{lake}/out/'",
                    "min_rows: 1",
                    24,
                    "path: this field is missing",
                ),
                ("name: test\n", "", 23, "name: this field is missing"),
            ],
        );
    }

    #[test]
    fn wrong_types() {
        check_replaced(
            SPEC,
            &[
                ("top: 10", "top: ten", 19, "invalid u32"),
                ("top: 10", "top: -1", 19, ""),
                ("top: 10", "top: 1.5", 19, ""),
                ("version: 1", "version: one", 1, ""),
                ("per: [date, region]", "per: date", 14, ""),
                ("item: item", "item: [a, b]", 13, ""),
                (
                    "on: user_id",
                    "on: [a]",
                    10,
                    "a column name or { fact: …, dimension: … }",
                ),
                (
                    "  date: {",
                    "  format: orc\n  date: {",
                    6,
                    "'orc' is not known here",
                ),
                (
                    "  date: {",
                    "  format: parqet\n  date: {",
                    6,
                    "did you mean 'parquet'?",
                ),
                ("  measures:", "  measures: 3\n  m:", 15, ""),
            ],
        );
    }

    #[test]
    fn values_that_make_no_sense() {
        check_replaced(
            SPEC,
            &[
                ("version: 1", "version: 2", 1, "this rankmill reads 1"),
                ("name: test", "name: Test Job", 2, "a-z, 0-9"),
                ("name: test", "name: ''", 2, "a-z, 0-9"),
                (
                    "Asia/Seoul",
                    "Asia/Soul",
                    3,
                    "'Asia/Soul' is not a time zone; did you mean 'Asia/Seoul'?",
                ),
                (
                    "10 0 * * *",
                    "10 0 * *",
                    3,
                    "5 fields (minute hour day month weekday), not 4",
                ),
                (
                    "10 0 * * *",
                    "10 25 * * *",
                    3,
                    "schedule.cron: the hour '25'",
                ),
                ("10 0 * * *", "@dialy", 3, "did you mean '@daily'?"),
                (
                    "timezone: Asia/Seoul }",
                    "deadline: 2 hours }",
                    3,
                    "schedule.deadline: '2 hours' is not a duration",
                ),
                (
                    "timezone: Asia/Seoul }",
                    "deadline: 45s }",
                    3,
                    "schedule.deadline: must be 1m to 31d",
                ),
                (
                    "timezone: Asia/Seoul }",
                    "lookback_days: 400 }",
                    3,
                    "schedule.lookback_days: must be 0 to 366",
                ),
                (
                    "timezone: Asia/Seoul }",
                    "repair_days: 367 }",
                    3,
                    "schedule.repair_days: must be 0 (off) to 366",
                ),
                (
                    "timezone: Asia/Seoul }",
                    "date: tomorrow }",
                    3,
                    "'tomorrow' is not known here",
                ),
                (
                    "timezone: Asia/Seoul }",
                    "catchup: false }",
                    3,
                    "did you mean 'catch_up'?",
                ),
                ("window_days: 2", "window_days: 0", 7, "must be 1 to"),
                ("window_days: 2", "window_days: 99999", 7, "must be 1 to"),
                (
                    "{ partition: date }",
                    "{ partition: d, column: c }",
                    6,
                    "either",
                ),
                (
                    "{ partition: date }",
                    "{ timezone: UTC }",
                    6,
                    "give 'partition' or 'column'",
                ),
                (
                    "{ partition: date }",
                    "{ partition: d, timezone: UTC }",
                    6,
                    "goes with 'column'",
                ),
                (
                    "{ partition: date }",
                    "{ column: c, timezone: KST }",
                    6,
                    "'KST' is not a time zone",
                ),
                (
                    "  date: {",
                    "  csv: { delimiter: ';' }\n  date: {",
                    6,
                    "goes with 'format: csv'",
                ),
                (
                    "  date: {",
                    "  format: csv\n  csv: { delimiter: ab }\n  date: {",
                    7,
                    "one ASCII character",
                ),
                (
                    "{ region: region }",
                    "{}",
                    11,
                    "name at least one attribute",
                ),
                (
                    "per: [date, region]",
                    "per: [date]",
                    14,
                    "the attribute 'region' is not used",
                ),
                (
                    "per: [date, region]",
                    "per: [date, date, region]",
                    14,
                    "'date' is named twice",
                ),
                (
                    "per: [date, region]",
                    "per: [region, clicks]",
                    16,
                    "a column 'clicks' already",
                ),
                (
                    "item: item",
                    "item: region",
                    13,
                    "must be a column of the log",
                ),
                (
                    "item: item",
                    "item: date",
                    13,
                    "'date' is a column of every ranking",
                ),
                (
                    "clicks: 'c",
                    "rank: 'c",
                    16,
                    "'rank' is a column of every ranking",
                ),
                (
                    "clicks: 'c",
                    "rank_change: 'c",
                    16,
                    "'rank_change' is a column of every ranking",
                ),
                (
                    "clicks: 'c",
                    "__n: 'c",
                    16,
                    "names starting with __ are taken",
                ),
                ("clicks: 'c", "item: 'c", 16, "a column 'item' already"),
                ("[title]", "[visitors]", 23, "a column 'visitors' already"),
                ("[title]", "[]", 23, "name at least one column"),
                ("on: item", "on: itm", 22, "the fact side must be 'item'"),
                (
                    "visitors desc",
                    "visitor desc",
                    18,
                    "did you mean 'visitors'?",
                ),
                (
                    "visitors desc",
                    "visitors down",
                    18,
                    "'down' is not a direction",
                ),
                (
                    "visitors desc",
                    "visitors desc please",
                    18,
                    "'asc' or 'desc'",
                ),
                (
                    "[visitors desc, clicks asc]",
                    "[]",
                    18,
                    "at least one measure",
                ),
                ("top: 10", "top: 0", 19, "must be 1 to"),
                ("/out/' }", "/out/{date}/' }", 24, "leave {date} out"),
                ("/out/' }", "/out/', key: [item] }", 24, "goes with 'sql'"),
                (
                    "'count(*)'",
                    "'sum({x})'",
                    16,
                    "nothing gives a value to {x}",
                ),
                ("{lake}/log/", "{lak}/log/", 5, "did you mean 'lake'?"),
                (
                    "labels:",
                    "sql: SELECT 1\nlabels:",
                    20,
                    "either 'ranking' or 'sql'",
                ),
            ],
        );
        check_replaced(
            QUERY,
            &[
                (
                    "sql: SELECT * FROM t WHERE day = '{date}'\n",
                    "",
                    1,
                    "needs 'ranking' or 'sql'",
                ),
                (
                    "    date: { column: at, timezone: Asia/Seoul }\n",
                    "",
                    6,
                    "at least one source needs a 'date'",
                ),
                (
                    "sql:",
                    "lookups: [{ path: x, on: k, attributes: { a: b } }]\nsql:",
                    7,
                    "goes with 'ranking'",
                ),
                ("{date}", "{day}", 7, "nothing gives a value to {day}"),
            ],
        );
    }

    #[test]
    fn what_is_no_spec_at_all() {
        let texts = [
            ("", 1, "unexpected end of input"),
            ("# nothing but a comment\n", 2, "unexpected end of input"),
            ("- a\n- b\n", 1, ""),
            ("just a text", 1, ""),
            ("version: 1\nname: a\nname: b\n", 3, "duplicate"),
            ("version: 1\n\tname: a\n", 1, "found a tab"),
            ("version: 1\nname: [a\n", 2, ""),
            ("version: 1\nsource: { path: 'x }\n", 2, "unclosed quote"),
        ];
        check(
            texts
                .iter()
                .map(|(yaml, line, expected)| difference(yaml, *line, expected)),
        );
    }
}
