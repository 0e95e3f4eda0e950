//! Runs random rankings, and checks them against the naive oracle.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rankmill_jobs::DateOutcome;

use crate::job::{Job, day};
use crate::lake::Lake;
use crate::layout::Layout;
use crate::oracle::near;
use crate::scenario::{Measure, Scenario};

/// The same cases in every run: a job runs for each.
pub(crate) fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 150,
        ..ProptestConfig::default()
    }
}

impl Scenario {
    /// Which dimensions are used.
    pub(crate) fn dimensions(&self) -> Vec<usize> {
        let used = |number: &usize| {
            let mut attributes = self.per.iter().filter_map(|per| per.attribute());
            attributes.any(|(dimension, _)| dimension == *number)
        };
        [0, 1].into_iter().filter(used).collect()
    }

    pub(crate) fn yaml(&self) -> String {
        let date = match self.by_column {
            true => "{ column: at, timezone: Asia/Seoul }",
            false => "{ partition: date }",
        };
        let mut yaml = format!(
            "version: 1\nname: test\nsource:\n  path: '{{lake}}/log/'\n  date: {date}\n  window_days: {}\n",
            self.window_days
        );
        if let Some(filter) = self.filter.sql() {
            yaml += &format!("  where: \"{filter}\"\n");
        }
        let dimensions = self.dimensions();
        if !dimensions.is_empty() {
            yaml += "lookups:\n";
        }
        for dimension in dimensions {
            yaml += match dimension {
                0 => "  - path: '{lake}/people/'\n    on: key\n    attributes:\n",
                _ => {
                    "  - path: '{lake}/tags.parquet'\n    on: { fact: tag, dimension: name }\n    attributes:\n"
                }
            };
            for per in &self.per {
                if let Some((_, sql)) = per.attribute().filter(|(of, _)| *of == dimension) {
                    yaml += &format!("      {}: \"{sql}\"\n", per.name());
                }
            }
        }
        let per: Vec<&str> = self.per.iter().map(|per| per.name()).collect();
        yaml += &format!(
            "ranking:\n  item: item\n  per: [{}]\n  measures:\n",
            per.join(", ")
        );
        for measure in &self.measures {
            yaml += &format!("    {}: \"{}\"\n", measure.name(), measure.sql());
        }
        yaml += "  order_by:\n";
        for (measure, descending) in &self.order {
            let direction = if *descending { "" } else { " asc" };
            yaml += &format!("    - {}{direction}\n", self.measures[*measure].name());
        }
        yaml + &format!("  top: {}\noutput: {{ path: '{{lake}}/out/' }}\n", self.top)
    }

    /// Percentiles order nothing: the oracle's are exact, the engine's are not.
    pub(crate) fn without_order_by_percentiles(mut self) -> Self {
        self.order
            .retain(|(i, _)| !self.measures[*i].is_approximate());
        if self.order.is_empty() {
            self.measures.retain(|m| *m != Measure::Rows);
            self.measures.push(Measure::Rows);
            self.order.push((self.measures.len() - 1, true));
        }
        self
    }
}

/// `on` says where the job runs.
pub(crate) fn check(
    scenario: &Scenario,
    layout: &Layout,
    on: impl FnOnce(Job) -> Job,
) -> Result<(), TestCaseError> {
    let lake = Lake::new();
    scenario.write(&lake, layout);
    let job = on(Job::new(&lake, &scenario.yaml()));
    let report = job.run(&scenario.days);
    let report = report.map_err(|e| TestCaseError::fail(format!("{e:?}\n{}", scenario.yaml())))?;
    let folders = scenario.days_with_files();
    let (mut rows, mut null_items, mut unmatched) = (0, 0, [0, 0]);
    for (done, number) in report.dates.iter().zip(&scenario.days) {
        prop_assert_eq!(done.date, day(*number));
        let published = matches!(done.outcome, DateOutcome::Published { generation: 1, .. });
        let gap = matches!(done.outcome, DateOutcome::Gap { .. });
        match scenario.by_column {
            false => prop_assert_eq!(published, folders.contains(number), "{:?}", done),
            true if scenario.has_rows_on(*number) => {
                let all_filtered = scenario.rows_for(*number).is_empty();
                prop_assert!(published || gap && all_filtered, "{:?}", done);
            }
            true => prop_assert!(published || gap, "{:?}", done),
        }
        if !published {
            continue;
        }
        let totals = scenario.totals(*number);
        rows += totals.rows;
        null_items += totals.null_items;
        (0..2).for_each(|i| unmatched[i] += totals.unmatched[i]);
        let (found, expected) = (job.rows(*number), scenario.ranking(*number));
        prop_assert_eq!(
            found.len(),
            expected.len(),
            "day {}: {:#?}",
            number,
            &expected
        );
        for (found, expected) in found.iter().zip(&expected) {
            let first_measure = expected.len() - scenario.measures.len();
            for (i, (found, exact)) in found.iter().zip(expected).enumerate() {
                let measure = i.checked_sub(first_measure).map(|i| scenario.measures[i]);
                let equal = match measure.is_some_and(Measure::is_approximate) {
                    true => near(found, exact),
                    false => found == exact,
                };
                prop_assert!(
                    equal,
                    "day {number}, {measure:?}: {found:?} for {exact:?} in {expected:?}"
                );
            }
        }
    }
    prop_assert_eq!(report.dates.len(), scenario.days.len());
    prop_assert_eq!((report.rows, report.null_items), (rows, null_items));
    for (dimension, reported) in scenario.dimensions().iter().zip(&report.unmatched) {
        prop_assert_eq!(reported.rows, unmatched[*dimension]);
    }
    Ok(())
}
