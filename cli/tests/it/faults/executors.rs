//! Executors that are killed or frozen at any moment.

use std::time::Duration;

use super::topology::Topology;
use super::{Moments, until};

/// Killed in a map stage, after it, in the final stage, and all of them at once; and what the dead
/// leave on the disks is swept.
#[test]
fn killed_at_each_stage() {
    let topology =
        Topology::without_standby(&[("RANKMILL_LOCAL_OPTIONS", "--executor-timeout 8s")]);
    type Reached = fn(u64, u64) -> bool;
    let points: [(&[&str], Reached); 4] = [
        (&["executor-1"], |done, _| done >= 1),
        (&["executor-2"], |done, all| 2 * done >= all),
        (&["executor-1"], |done, all| done + 1 >= all),
        (&["executor-1", "executor-2"], |done, _| done >= 1),
    ];
    let mut landed = 0;
    for (killed, reached) in points {
        let ranking = topology.rank();
        landed += u32::from(topology.until_tasks(&ranking.id, reached));
        for role in killed {
            topology.kill(role);
        }
        topology.start(killed);
        topology.ranked(&ranking);
        topology.until_executors(2);
    }
    assert!(landed >= 3, "only {landed} kills came in time");
    until("an end of shuffle files", || {
        topology.shuffle_folders().is_empty().then_some(())
    });
}

#[test]
#[ignore = "slow: make test-faults"]
fn killed_at_random_moments() {
    let topology = Topology::without_standby(&[]);
    let mut moments = Moments::new(1);
    for _ in 0..6 {
        let ranking = topology.rank();
        let role = ["executor-1", "executor-2"][moments.below(2) as usize];
        std::thread::sleep(Duration::from_millis(moments.below(6_000)));
        topology.kill(role);
        std::thread::sleep(Duration::from_millis(moments.below(2_000)));
        topology.start(&[role]);
        topology.ranked(&ranking);
    }
    topology.until_executors(2);
}

/// One that answers nothing for a while, and then goes on as if nothing had been.
#[test]
fn frozen_and_back() {
    let topology = Topology::without_standby(&[]);
    let ranking = topology.rank();
    assert!(topology.until_tasks(&ranking.id, |done, _| done >= 1));
    topology.signal("-STOP", "executor-1");
    topology.ranked(&ranking);
    topology.signal("-CONT", "executor-1");
    topology.until_executors(2);
    let ranking = topology.rank();
    topology.ranked(&ranking);
    // Briefly, so that nobody counts it as lost.
    let ranking = topology.rank();
    topology.until_tasks(&ranking.id, |done, _| done >= 1);
    topology.signal("-STOP", "executor-2");
    std::thread::sleep(Duration::from_secs(4));
    topology.signal("-CONT", "executor-2");
    topology.ranked(&ranking);
}
