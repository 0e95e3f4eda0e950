//! Equal configs make equal bytes, whatever the threads.

use rankmill_datagen::Config;

use crate::lake::{Lake, small};

#[test]
fn threads_do_not_change_a_byte() {
    let one = Lake::of(&small(), 1).objects();
    assert!(one.len() > 10);
    for threads in [2, 8] {
        assert!(Lake::of(&small(), threads).objects() == one, "{threads}");
    }
}

#[test]
fn the_seed_changes_the_rows() {
    let other = Config {
        seed: 43,
        ..small()
    };
    let (a, b) = (
        Lake::of(&small(), 1).objects(),
        Lake::of(&other, 1).objects(),
    );
    let clicks = |path: &&String| path.contains("ticket_clicks");
    for path in a.keys().filter(clicks) {
        assert_ne!(a.get(path), b.get(path), "{path}");
    }
}
