//! Leadership: the decisions in a simulated world, the keeper on a real store.

mod keeper;
mod world;

use std::time::Duration;

use object_store::UpdateVersion;
use proptest::prelude::*;

use self::world::World;
use super::decide::{Held, Me, Next, Renewal, Watch};
use super::document::Leader;

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn me(process: &str) -> Me {
    Me {
        instance: process.to_owned(),
        process: process.to_owned(),
        api_url: None,
        ttl: seconds(10),
        writes: 0,
    }
}

pub(super) fn version(number: u64) -> UpdateVersion {
    UpdateVersion {
        e_tag: Some(number.to_string()),
        version: None,
    }
}

fn found(leader: &Leader, number: u64) -> Option<(Leader, UpdateVersion)> {
    Some((leader.clone(), version(number)))
}

#[test]
fn a_silent_leader_is_replaced_after_its_time() {
    let (a, mut b) = (me("a"), me("b"));
    let leader = b.document(4, false);
    let mut watch = Watch::default();
    let mut judge = |number, asked| {
        let found = found(&leader, number);
        watch.judge(&a, &found, seconds(asked), seconds(asked + 1))
    };
    assert_eq!(judge(1, 0), Next::Wait);
    // Seen first at 1 for sure.
    assert_eq!(judge(1, 10), Next::Wait);
    let take = Next::Take {
        epoch: 5,
        against: Some(version(1)),
    };
    assert_eq!(judge(1, 11), take);
    assert_eq!(judge(2, 12), Next::Wait);
    assert_eq!(judge(2, 22), Next::Wait);
}

#[test]
fn a_longer_time_to_live_is_respected() {
    let (a, mut b) = (me("a"), me("b"));
    b.ttl = seconds(60);
    let leader = found(&b.document(1, false), 1);
    let mut watch = Watch::default();
    let mut at = |asked| watch.judge(&a, &leader, seconds(asked), seconds(asked));
    assert_eq!(at(0), Next::Wait);
    assert_eq!(at(59), Next::Wait);
    assert!(matches!(at(60), Next::Take { epoch: 2, .. }));
}

#[test]
fn nobody_waits_for_one_that_has_stopped_or_for_itself() {
    let (mut a, mut b) = (me("a"), me("b"));
    for leader in [b.document(7, true), a.document(7, false)] {
        let next = Watch::default().judge(&a, &found(&leader, 3), seconds(0), seconds(0));
        let take = Next::Take {
            epoch: 8,
            against: Some(version(3)),
        };
        assert_eq!(next, take);
    }
    let next = Watch::default().judge(&a, &None, seconds(0), seconds(0));
    assert!(matches!(
        next,
        Next::Take {
            epoch: 1,
            against: None
        }
    ));
}

#[test]
fn a_lost_answer_is_no_lost_lead() {
    let (mut a, mut b) = (me("a"), me("b"));
    let mut held = Held {
        epoch: 2,
        version: version(1),
        renewed_at: seconds(0),
    };
    assert_eq!(held.until(seconds(10)), seconds(8));
    let sent = a.document(2, false);
    // It did take effect.
    let renewal = held.refused(&sent, &found(&sent, 2), seconds(2));
    assert!(matches!(renewal, Renewal::Held));
    assert_eq!(
        (held.version.clone(), held.renewed_at),
        (version(2), seconds(2))
    );
    // It did not, but an earlier one may have: known only by its version.
    let earlier = a.document(2, false);
    let sent = a.document(2, false);
    let renewal = held.refused(&sent, &found(&earlier, 3), seconds(4));
    assert!(matches!(renewal, Renewal::Unknown));
    assert_eq!(
        (held.version.clone(), held.renewed_at),
        (version(3), seconds(2))
    );
    let other = found(&b.document(3, false), 4);
    let renewal = held.refused(&sent, &other, seconds(6));
    assert!(matches!(renewal, Renewal::Lost(Some(3))));
    let renewal = held.refused(&sent, &None, seconds(6));
    assert!(matches!(renewal, Renewal::Lost(None)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Answers are lost, writes land late, processes sleep and die: no two ever lead at once,
    /// none leads under an epoch that was another's, and once all is calm, one leads.
    #[test]
    fn one_leads(steps in prop::collection::vec(any::<u16>(), 1..400)) {
        let mut world = World::new(3);
        for step in steps {
            world.step(step)?;
        }
        world.calm_down()?;
    }
}
