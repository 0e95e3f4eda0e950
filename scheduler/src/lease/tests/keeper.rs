//! Keepers on a folder, in one process.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use rankmill_engine::store::LocalStore;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::lease::{Keeper, KeeperOptions, Standing};
use crate::options::LeaseOptions;
use crate::testing::{Faults, Flaky, Lake, Node, NodeOptions};

fn store(folder: &TempDir) -> Arc<Flaky> {
    Flaky::new(Arc::new(LocalStore::with_root(folder.path()).unwrap()))
}

fn start(instance: &str, store: &Arc<Flaky>) -> Keeper {
    let options = KeeperOptions {
        instance: instance.to_owned(),
        api_url: Some(format!("http://{instance}")),
        lease: LeaseOptions {
            ttl: Duration::from_secs(2),
            renew_every: Duration::from_millis(50),
        },
        path: Path::from("_rankmill/leader.json"),
    };
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Keeper::start(options, move || Ok(store)).unwrap()
}

async fn reached(
    standing: &mut watch::Receiver<Standing>,
    wanted: impl FnMut(&Standing) -> bool,
) -> Standing {
    let reached = standing.wait_for(wanted);
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    reached.unwrap().unwrap().clone()
}

fn epoch_of(standing: &Standing) -> u64 {
    match standing {
        Standing::Leads { epoch, .. } => *epoch,
        other => panic!("{other:?}"),
    }
}

fn leads(standing: &Standing) -> bool {
    matches!(standing, Standing::Leads { .. })
}

#[tokio::test]
async fn a_released_lead_passes_on_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = start("first", &store(&folder));
    let mut standing = first.standing();
    assert_eq!(epoch_of(&reached(&mut standing, leads).await), 1);
    let second = start("second", &store(&folder));
    let mut waiting = second.standing();
    let leader = Some("http://first".to_owned());
    reached(&mut waiting, |now| {
        *now == Standing::Standby {
            leader: leader.clone(),
        }
    })
    .await;
    first.release().await;
    assert_eq!(epoch_of(&reached(&mut waiting, leads).await), 2);
    second.release().await;
}

#[tokio::test]
async fn a_leader_without_a_store_stops_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = store(&folder);
    let first = start("first", &flaky);
    let mut standing = first.standing();
    reached(&mut standing, leads).await;
    let second = start("second", &store(&folder));
    let mut waiting = second.standing();
    flaky.set(Faults {
        fail_writes: usize::MAX,
        ..Faults::default()
    });
    let lost = reached(&mut standing, |now| !leads(now)).await;
    assert_eq!(lost, Standing::Lost { epoch: None });
    assert_eq!(epoch_of(&reached(&mut waiting, leads).await), 2);
    second.release().await;
}

#[tokio::test]
async fn lost_answers_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = store(&folder);
    flaky.set(Faults {
        lose_answers: 3,
        ..Faults::default()
    });
    let keeper = start("first", &flaky);
    let mut standing = keeper.standing();
    let epoch = epoch_of(&reached(&mut standing, leads).await);
    assert_eq!(
        epoch, 4,
        "each unanswered write took an epoch that never led"
    );
    flaky.set(Faults {
        lose_answers: 5,
        ..Faults::default()
    });
    while flaky.faults.lock().unwrap().lose_answers > 0 {
        standing.changed().await.unwrap();
        assert_eq!(epoch_of(&standing.borrow_and_update()), epoch);
    }
    keeper.release().await;
}

#[tokio::test]
async fn what_is_no_lease_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("_rankmill/leader.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "{}").unwrap();
    let keeper = start("first", &store(&folder));
    let mut standing = keeper.standing();
    let broken = reached(&mut standing, |now| matches!(now, Standing::Broken { .. })).await;
    let Standing::Broken { reason } = broken else {
        panic!("{broken:?}");
    };
    assert!(reason.starts_with("_rankmill/leader.json is not what rankmill writes there"));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "{}");
}

/// Otherwise it could change none of the records that are there.
#[tokio::test]
async fn without_a_leader_file_the_records_tell_the_epoch() {
    let lake = Lake::new([1]);
    let options = NodeOptions {
        epoch: 7,
        ..NodeOptions::default()
    };
    let node = Node::idle(&lake, options).await.unwrap();
    node.apply("a").await;
    assert!(!lake.file("_rankmill/leader.json").exists());
    let store = LocalStore::with_root(lake.file("")).unwrap();
    let keeper = start("next", &Flaky::new(Arc::new(store)));
    let mut standing = keeper.standing();
    assert_eq!(epoch_of(&reached(&mut standing, leads).await), 8);
    keeper.release().await;
}
