//! Random rankings in one process.

use proptest::prelude::*;

use crate::check::{check, config};
use crate::layout::layout;
use crate::scenario::{Extreme, scenario};

proptest! {
    #![proptest_config(config(40, 1))]

    #[test]
    fn equals_the_oracle(scenario in scenario(), layout in layout(), threads in 1usize..4) {
        let scenario = scenario.without_order_by_percentiles();
        check(&scenario, &layout, |job| job.split(threads, 8_192))?;
    }

    #[test]
    fn extremes_equal_the_oracle(
        scenario in scenario(),
        layout in layout(),
        extreme in prop::sample::select(Extreme::ALL.to_vec()),
        (threads, table_bytes, memory_bytes) in prop::sample::select(vec![
            (1usize, usize::MAX, None),
            (2, usize::MAX, None),
            (3, 0, None),
            (2, 0, Some(64 << 20)),
        ]),
    ) {
        let scenario = scenario.with_extreme(extreme).without_order_by_percentiles();
        check(&scenario, &layout, |job| job.limited(threads, table_bytes, memory_bytes))?;
    }
}
