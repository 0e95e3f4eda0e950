//! The same rows give the same bytes, however they lie in files and however the work is split.

use proptest::prelude::*;

use crate::check::config;
use crate::job::Job;
use crate::lake::{Lake, Value};
use crate::layout::{Layout, layout};
use crate::scenario::{Scenario, scenario};

#[derive(PartialEq)]
struct Published {
    file: Option<Vec<u8>>,
    /// What is in the file, to be shown where files differ.
    rows: Vec<Vec<Value>>,
}

fn published(
    scenario: &Scenario,
    layout: &Layout,
    (threads, batch_rows): (usize, usize),
    dates_per_pass: Option<usize>,
) -> Vec<Published> {
    let lake = Lake::new();
    scenario.write(&lake, layout);
    let job = Job::new(&lake, &scenario.yaml()).split(threads, batch_rows);
    let job = job.in_passes_of(dates_per_pass);
    job.run(&scenario.days).unwrap();
    let of = |number: &i64| Published {
        file: job.file(*number, "part-0.parquet"),
        rows: job.rows(*number),
    };
    // Whether a day without rows is a gap is another test's concern.
    let has_rows = |number: &&i64| !scenario.by_column || scenario.has_rows_on(**number);
    scenario.days.iter().filter(has_rows).map(of).collect()
}

proptest! {
    #![proptest_config(config(24, 2))]

    #[test]
    fn any_split_gives_the_same_bytes(
        scenario in scenario(), a in layout(), b in layout(),
    ) {
        let all_at_once = Some(usize::MAX);
        let plain = published(&scenario, &Layout::PLAIN, (1, 8_192), all_at_once);
        for (layout, split, passes) in [(a, (2, 8_192), None), (b, (5, 3), Some(1))] {
            let split = published(&scenario, &layout, split, passes);
            for (plain, split) in plain.iter().zip(&split) {
                prop_assert_eq!(&plain.rows, &split.rows, "{}", scenario.yaml());
                prop_assert!(plain.file == split.file, "{layout:?}:\n{}", scenario.yaml());
            }
        }
    }
}
