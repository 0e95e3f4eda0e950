//! How the dates of a run are cut into passes over the files.

use std::num::NonZeroUsize;

use rankmill_engine::fused::MAX_DAYS;

use crate::spec::Spec;

/// Logs that one pass reads: a few seconds of work for each processor of a small cluster, which a
/// lost executor repeats. More would win nothing, for where groups end with their date nothing of a
/// date outlives it; fewer would start, and read dimensions, more often than needed.
const PASS_BYTES: u64 = 4 << 30;
/// Dimensions are read by each pass; its logs are to be so many times as large.
const LOGS_TO_LOOKUPS: u64 = 4;
/// Days before the first date of a pass are read again for its window; it is to have so many dates
/// for each of them.
const DATES_TO_WINDOW: u32 = 4;

/// Dates that are looked at first: most of them may be current already.
const FIRST_LOOK: usize = 16;

/// Says how many dates a pass looks at, and how many of those that need it are computed in it. The
/// others are left to the next pass.
#[derive(Debug)]
pub(super) struct Passes {
    look: usize,
    /// None if the number is fixed.
    least: Option<usize>,
}

impl Passes {
    /// `in_memory`: the session [keeps what it computes](rankmill_engine::Session::keeps_in_memory).
    pub(super) fn new(spec: &Spec, dates_per_pass: Option<NonZeroUsize>, in_memory: bool) -> Self {
        let fixed = |look| Self { look, least: None };
        if spec.mentions_date() {
            return fixed(1);
        }
        let Some(source) = spec.source.as_ref().filter(|_| spec.ranking.is_some()) else {
            let sources = spec.sources.values().chain(&spec.source);
            let windows = sources.map(|source| source.window_days);
            let window = windows.max().unwrap_or(1) as usize;
            let shared = MAX_DAYS.saturating_sub(window - 1).min(window).max(1);
            return match dates_per_pass {
                Some(dates) => fixed(dates.get().min(shared)),
                None if in_memory => fixed(shared),
                None => fixed(1),
            };
        };
        if let Some(dates) = dates_per_pass {
            return fixed(dates.get());
        }
        if source
            .date
            .as_ref()
            .is_none_or(|date| date.column.is_some())
        {
            // A pass over some dates may have to read the files of all of them.
            return fixed(usize::MAX);
        }
        let least = match source.window_days {
            1 => 1,
            days => (days * DATES_TO_WINDOW) as usize,
        };
        Self {
            look: least.max(FIRST_LOOK),
            least: Some(least),
        }
    }

    /// From now on each pass has one date.
    pub(super) fn one_by_one(&mut self) {
        self.look = 1;
    }

    /// How many dates the next pass looks at.
    pub(super) fn look(&self) -> usize {
        self.look
    }

    /// How many of the dates that need it this pass computes. `logs` are the stored bytes of the
    /// logs of each of them, `lookups` those of the dimensions.
    pub(super) fn take(&mut self, logs: &[u64], lookups: u64) -> usize {
        let Some(least) = self.least else {
            return logs.len();
        };
        let enough = PASS_BYTES.max(lookups.saturating_mul(LOGS_TO_LOOKUPS));
        let mut sum = 0u64;
        let fits = |bytes: &&u64| {
            sum = sum.saturating_add(**bytes);
            sum <= enough
        };
        let fitting = logs.iter().take_while(fits).count();
        let taken = fitting.max(least).min(logs.len());
        // What is left over is looked at again.
        self.look = match taken < logs.len() {
            true => taken,
            false => self.look.saturating_mul(2),
        };
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Params, parse};

    fn spec(date: &str, window: &str) -> Spec {
        let text = format!(
            "version: 1\nname: x\nsource: {{ path: /x/, date: {date}{window} }}\n\
             ranking: {{ item: i, per: [date], measures: {{ n: count(*) }}, order_by: [n desc], \
             top: 3 }}\noutput: {{ path: /out/ }}\n"
        );
        parse(&text, "x", &Params::new("/", Default::default())).unwrap()
    }

    /// A pass holds 256 of them.
    const UNIT: u64 = PASS_BYTES / 256;

    #[test]
    fn large_days_go_one_by_one_and_small_ones_together() {
        let daily = spec("{ partition: date }", "");
        let mut passes = Passes::new(&daily, None, false);
        assert_eq!(passes.look(), 16);
        assert_eq!(passes.take(&[300 * UNIT; 16], 0), 1);
        assert_eq!(passes.look(), 1);
        // However many were current before them.
        for looked in [2, 4, 8] {
            assert_eq!(passes.take(&[], 0), 0);
            assert_eq!(passes.look(), looked);
        }
        assert_eq!(passes.take(&[300 * UNIT; 8], 0), 1);
        assert_eq!(
            passes.take(&[60 * UNIT, 100 * UNIT, 90 * UNIT, 10 * UNIT], 0),
            3
        );
        assert_eq!(passes.look(), 3);
        // Rather than reading a large dimension for each of them.
        assert_eq!(passes.take(&[60 * UNIT; 9], 100 * UNIT), 6);
        assert_eq!(passes.take(&[0; 6], 0), 6);
        assert_eq!(passes.look(), 12);
    }

    #[test]
    fn days_of_a_window_are_not_read_over_and_over() {
        let weekly = spec("{ partition: date }", ", window_days: 7");
        let mut passes = Passes::new(&weekly, None, false);
        assert_eq!(passes.look(), 28);
        assert_eq!(passes.take(&[1 << 40; 28], 0), 28);
        assert_eq!(passes.take(&[1 << 40; 56], 0), 28);
    }

    #[test]
    fn some_numbers_are_fixed() {
        let asked = NonZeroUsize::new(3);
        let daily = spec("{ partition: date }", "");
        let by_column = spec("{ column: at }", "");
        for (spec, asked, expected) in [
            (&daily, asked, 3),
            (&by_column, asked, 3),
            (&by_column, None, usize::MAX),
        ] {
            let mut passes = Passes::new(spec, asked, false);
            assert_eq!(passes.look(), expected);
            assert_eq!(passes.take(&[1 << 40; 3], 1), 3);
            assert_eq!(passes.look(), expected);
        }
    }
}
