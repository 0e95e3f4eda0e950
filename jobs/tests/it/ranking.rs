//! Random rankings in one process.

use proptest::prelude::*;

use crate::check::{check, config};
use crate::layout::layout;
use crate::scenario::scenario;

proptest! {
    #![proptest_config(config(40, 1))]

    #[test]
    fn equals_the_oracle(scenario in scenario(), layout in layout(), threads in 1usize..4) {
        let scenario = scenario.without_order_by_percentiles();
        check(&scenario, &layout, |job| job.split(threads, 8_192))?;
    }
}
