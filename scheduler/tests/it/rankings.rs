//! Random rankings on executors, under both of Ballista's planners, against the naive oracle.

use proptest::test_runner::TestRunner;
use rankmill_engine::{Session, SessionOptions};
use rankmill_scheduler::cluster::Planner;

use crate::check::{check, config};
use crate::cluster::cluster_of_two;
use crate::job::block_on;
use crate::layout::layout;
use crate::scenario::scenario;

#[test]
fn equal_the_oracle_under_both_planners() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = [Planner::Static, Planner::Adaptive].map(|planner| {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let work = folder.path().join(format!("{planner:?}"));
        let cluster = block_on(cluster_of_two(&session, &work, planner));
        session.with_compute(cluster)
    });
    let mut runner = TestRunner::new(config(12, 3));
    let checked = runner.run(&(scenario(), layout()), |(scenario, layout)| {
        let scenario = scenario.without_order_by_percentiles();
        for session in &sessions {
            check(&scenario, &layout, |job| job.on(session.clone()))?;
        }
        Ok(())
    });
    checked.unwrap();
}
