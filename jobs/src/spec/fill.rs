//! A spec with its placeholders filled in, for one date.

use chrono::NaiveDate;

use super::locate::FieldPath;
use super::params::{PLACEHOLDER_HELP, Params, mentions};
use super::parse::{Mistake, did_you_mean};
use super::{Source, Spec};

impl Spec {
    /// The spec for a date, every placeholder replaced.
    pub(super) fn try_fill(&self, params: &Params, date: NaiveDate) -> Result<Self, Mistake> {
        let mut filled = self.clone();
        filled.for_each_text(&mut |field, text| {
            *text = params.fill(text, date).map_err(|unknown| Mistake {
                field,
                message: format!(
                    "nothing gives a value to {{{}}}{}; {PLACEHOLDER_HELP}",
                    unknown.0,
                    did_you_mean(&unknown.0, params.known().into_iter()),
                ),
            })?;
            Ok(())
        })?;
        Ok(filled)
    }

    /// The spec for a date. A spec that was parsed with the same parameters has no placeholder
    /// without a value; one that has stays as written.
    pub fn fill(&self, params: &Params, date: NaiveDate) -> Self {
        self.try_fill(params, date).unwrap_or_else(|_| self.clone())
    }

    /// Whether what is computed depends on `{date}` beyond the files of the date.
    pub fn mentions_date(&self) -> bool {
        let mut found = false;
        let mut probe = self.clone();
        let visited: Result<(), Mistake> = probe.for_each_text(&mut |_, text| {
            found |= mentions(text, "date");
            Ok(())
        });
        found && visited.is_ok()
    }

    /// Whether the paths of its inputs depend on `{date}`.
    pub(crate) fn reads_by_date(&self) -> bool {
        let sources = self.source.iter().chain(self.sources.values());
        let sources = sources.map(|source| &source.path);
        let lookups = self.lookups.iter().map(|lookup| &lookup.path);
        let labels = self.labels.iter().map(|labels| &labels.path);
        let mut paths = sources.chain(lookups).chain(labels);
        paths.any(|path| mentions(path, "date"))
    }

    /// Visits every text in which placeholders may stand.
    fn for_each_text(
        &mut self,
        visit: &mut dyn FnMut(FieldPath, &mut String) -> Result<(), Mistake>,
    ) -> Result<(), Mistake> {
        let root = FieldPath::default();
        if let Some(source) = &mut self.source {
            source.for_each_text(root.key("source"), visit)?;
        }
        for (name, source) in &mut self.sources {
            source.for_each_text(root.key("sources").key(name), visit)?;
        }
        for (i, lookup) in self.lookups.iter_mut().enumerate() {
            let at = root.key("lookups").index(i);
            visit(at.key("path"), &mut lookup.path)?;
            for (name, sql) in &mut lookup.attributes {
                visit(at.key("attributes").key(name), sql)?;
            }
        }
        if let Some(ranking) = &mut self.ranking {
            for (name, sql) in &mut ranking.measures {
                visit(root.key("ranking").key("measures").key(name), sql)?;
            }
        }
        for (i, labels) in self.labels.iter_mut().enumerate() {
            visit(root.key("labels").index(i).key("path"), &mut labels.path)?;
        }
        if let Some(sql) = &mut self.sql {
            visit(root.key("sql"), sql)?;
        }
        visit(root.key("output").key("path"), &mut self.output.path)
    }
}

impl Source {
    fn for_each_text(
        &mut self,
        at: FieldPath,
        visit: &mut dyn FnMut(FieldPath, &mut String) -> Result<(), Mistake>,
    ) -> Result<(), Mistake> {
        visit(at.key("path"), &mut self.path)?;
        match &mut self.filter {
            Some(filter) => visit(at.key("where"), filter),
            None => Ok(()),
        }
    }
}
