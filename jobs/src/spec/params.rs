//! Placeholders in a spec's texts: `{lake}`, `{date}` and what `--set` gives.

use std::collections::BTreeMap;

use chrono::NaiveDate;

/// For messages: how placeholders are written.
pub(super) const PLACEHOLDER_HELP: &str = "known are {lake}, {date} and what --set key=value gives; \
                                    write {{ for a brace itself";

/// Values for placeholders.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    lake: String,
    set: BTreeMap<String, String>,
}

/// A placeholder that nothing gives a value to.
#[derive(Debug, PartialEq)]
pub(crate) struct UnknownPlaceholder(pub(crate) String);

impl Params {
    /// `lake` is the value of `{lake}`; a slash at its end is dropped.
    pub fn new(lake: &str, set: BTreeMap<String, String>) -> Self {
        let trimmed = lake.trim_end_matches('/');
        Self {
            lake: if trimmed.is_empty() { lake } else { trimmed }.to_owned(),
            set,
        }
    }

    /// The value of `{lake}`.
    pub fn lake(&self) -> &str {
        &self.lake
    }

    /// What `--set` gave.
    pub fn set(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// Names that may stand in braces.
    pub(crate) fn known(&self) -> Vec<&str> {
        let given = self.set.keys().map(String::as_str);
        ["lake", "date"].into_iter().chain(given).collect()
    }

    /// Replaces the placeholders of a text. A brace that doesn't enclose a name stays.
    pub(crate) fn fill(&self, text: &str, date: NaiveDate) -> Result<String, UnknownPlaceholder> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                filled.push_str(&rest[..1]);
                rest = &rest[2..];
            } else if let Some(name) = placeholder(rest) {
                match name {
                    "lake" => filled.push_str(&self.lake),
                    "date" => filled.push_str(&date.to_string()),
                    other => match self.set.get(other) {
                        Some(value) => filled.push_str(value),
                        None => return Err(UnknownPlaceholder(other.to_owned())),
                    },
                }
                rest = &rest[name.len() + 2..];
            } else {
                filled.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The name in `{name}…`.
fn placeholder(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let mut letters = name.chars();
    let starts = letters.next()?.is_ascii_alphabetic();
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    (starts && goes_on).then_some(name)
}

/// Whether a text has the placeholder `{name}`.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        if rest.starts_with("{{") {
            rest = &rest[2..];
        } else if placeholder(rest) == Some(name) {
            return true;
        } else {
            rest = &rest[1..];
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills() {
        let set = BTreeMap::from([("country".to_owned(), "kr".to_owned())]);
        let params = Params::new("s3://lake/", set);
        let date = "2026-01-31".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(params.fill(text, date).unwrap(), expected);
        };
        check(
            "{lake}/x/date={date}/{country}.csv",
            "s3://lake/x/date=2026-01-31/kr.csv",
        );
        check("a {{date}} {", "a {date} {");
        check("regexp_like(path, 'x{2,3}')", "regexp_like(path, 'x{2,3}')");
        assert_eq!(
            params.fill("{lakes}", date),
            Err(UnknownPlaceholder("lakes".into()))
        );
        assert!(mentions("x {date}", "date"));
        assert!(!mentions("x {{date}}", "date"));
    }
}
