//! The SQL functions that rankmill adds to DataFusion, or puts in place of DataFusion's own.
//!
//! The aggregates here give the same bits however the rows were split over tasks: sums and
//! averages add exactly and round once, percentiles count integers in fixed buckets.

mod age_band;
mod avg;
mod distinct;
mod exact_float;
mod float_extreme;
mod group_state;
mod local_date;
mod log_histogram;
mod percentile;
mod sum;
mod within_stated;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use age_band::age_band_of;
pub(crate) use distinct::DistinctKind;
pub use exact_float::ExactFloatSum;
pub use local_date::{TimeZone, TimeZoneError, day_bounds_us};
pub use log_histogram::LogHistogram;

/// The scalar functions to register in every session, on every node.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(age_band::AgeBand::new())),
        Arc::new(ScalarUDF::from(local_date::LocalDate::new())),
        Arc::new(ScalarUDF::from(within_stated::WithinStated::new())),
    ]
}

/// Exact distinct counts; see [`Aggregates`](crate::rules::Aggregates).
pub(crate) fn count_distinct(kind: DistinctKind) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(distinct::CountDistinct::new(kind)))
}

/// The smallest or the largest float; see [`Aggregates`](crate::rules::Aggregates).
pub(crate) fn float_extreme(largest: bool) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(float_extreme::FloatExtreme::new(
        largest,
    )))
}

/// The aggregate functions to register in every session, on every node. They carry the names
/// `sum`, `avg` (`mean`) and `approx_percentile_cont` as aliases and so replace DataFusion's.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(AggregateUDF::from(sum::ExactSum::new())),
        Arc::new(AggregateUDF::from(avg::ExactAvg::new())),
        count_distinct(DistinctKind::Text),
        count_distinct(DistinctKind::Integer),
        float_extreme(false),
        float_extreme(true),
        Arc::new(AggregateUDF::from(percentile::HistogramPercentile::new())),
    ]
}
