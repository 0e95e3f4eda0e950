//! How the dates of a run are cut into passes over the files.

use std::num::NonZeroUsize;

use crate::spec::Spec;

/// Logs that one pass reads. One of fewer bytes spends a good part of its time on starting and
/// publishing, one of more has larger tables to aggregate in: of days of 230 MB (25 M clicks), four
/// in one pass took 1.2 to 1.4 times as long as one by one.
const PASS_BYTES: u64 = 256 << 20;
/// Dimensions are read by each pass; its logs are to be so many times as large.
const LOGS_TO_LOOKUPS: u64 = 4;
/// Days before the first date of a pass are read again for its window; it is to have so many dates
/// for each of them.
const DATES_TO_WINDOW: u32 = 4;

/// Says how many dates the next pass takes, and learns from those before.
#[derive(Debug)]
pub(super) struct Passes {
    next: usize,
    /// None if the number is fixed.
    least: Option<usize>,
}

/// What a pass had to read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Volume {
    /// Dates of the pass.
    pub(super) dates: usize,
    /// Stored bytes of the logs of those dates that had to be computed.
    pub(super) logs: u64,
    /// Stored bytes of the dimensions.
    pub(super) lookups: u64,
}

impl Passes {
    pub(super) fn new(spec: &Spec, dates_per_pass: Option<NonZeroUsize>) -> Self {
        let fixed = |next| Self { next, least: None };
        let Some(source) = spec.source.as_ref().filter(|_| spec.ranking.is_some()) else {
            return fixed(1);
        };
        if spec.mentions_date() {
            return fixed(1);
        }
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
            next: least,
            least: Some(least),
        }
    }

    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// Twice as many dates as in the last pass, unless they are too large.
    pub(super) fn learn(&mut self, seen: Volume) {
        let Some(least) = self.least else {
            return;
        };
        let enough = PASS_BYTES.max(seen.lookups.saturating_mul(LOGS_TO_LOOKUPS));
        let of_a_date = seen.logs / seen.dates.max(1) as u64;
        let by_bytes = enough.checked_div(of_a_date).unwrap_or(u64::MAX);
        let by_bytes = usize::try_from(by_bytes).unwrap_or(usize::MAX);
        self.next = by_bytes.min(self.next.saturating_mul(2)).max(least);
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

    fn read(dates: usize, logs: u64, lookups: u64) -> Volume {
        Volume {
            dates,
            logs,
            lookups,
        }
    }

    #[test]
    fn large_days_go_one_by_one_and_small_ones_together() {
        let mib = 1 << 20;
        let daily = spec("{ partition: date }", "");
        let mut passes = Passes::new(&daily, None);
        assert_eq!(passes.next(), 1);
        passes.learn(read(1, 300 * mib, 0));
        assert_eq!(passes.next(), 1);
        // Days that are current already, or have nothing.
        for dates in [2, 4, 8] {
            passes.learn(read(passes.next(), 0, 0));
            assert_eq!(passes.next(), dates);
        }
        passes.learn(read(8, 8 * 60 * mib, 0));
        assert_eq!(passes.next(), 4);
        // Rather than reading a large dimension for each of them.
        passes.learn(read(4, 4 * 60 * mib, 100 * mib));
        assert_eq!(passes.next(), 6);
    }

    #[test]
    fn days_of_a_window_are_not_read_over_and_over() {
        let weekly = spec("{ partition: date }", ", window_days: 7");
        let mut passes = Passes::new(&weekly, None);
        assert_eq!(passes.next(), 28);
        passes.learn(read(28, 1 << 40, 0));
        assert_eq!(passes.next(), 28);
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
            let mut passes = Passes::new(spec, asked);
            assert_eq!(passes.next(), expected);
            passes.learn(read(1, 1, 1));
            assert_eq!(passes.next(), expected);
        }
    }
}
