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
    let spec: Spec = serde_saphyr::from_str(yaml).map_err(|e| from_yaml_error(&e, origin))?;
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
