//! Equal configs make equal bytes, whatever the threads.

use rankmill_datagen::{Config, Maker, Plan, Profile, Table};
use sha2::{Digest, Sha256};

use crate::lake::{Lake, small, small_of};

/// Of all paths and bytes of a small lake of each profile. It changes whenever a lake of the same seed does: then
/// `truth::VERSION` has to, too.
const CHECKSUMS: [(Profile, &str); 3] = [
    (
        Profile::Uniform,
        "8cb67fdc7fde47927c092d585ca2a715406d5407eb618477e02505859341ccbe",
    ),
    (
        Profile::Realistic,
        "4c02935e5e568ff77d69eb78e7b4b8c62fdf5d360449e0d46c5bc3129042b867",
    ),
    (
        Profile::Brutal,
        "340d9db89d1b48cfda49e1084a818608d98abe75cdd8f0de401bda785ed60183",
    ),
];

#[test]
fn the_seed_makes_what_it_always_made() {
    for (profile, expected) in CHECKSUMS {
        let mut hash = Sha256::new();
        for (path, bytes) in Lake::of(&small_of(profile), 2).objects() {
            hash.update(path.as_bytes());
            hash.update(&bytes);
        }
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{profile:?}");
    }
}

#[test]
fn any_part_can_be_made_alone() {
    let config = small_of(Profile::Brutal);
    let lake = Lake::of(&config, 2).objects();
    let plan = Plan::new(&config).unwrap();
    // Backwards, so that nothing made before helps.
    for part in plan.parts().iter().rev() {
        let made = Maker::new(&plan).part(part).unwrap();
        assert!(
            lake[&format!("a/lake/{}", part.path)] == made,
            "{}",
            part.path
        );
    }
}

#[test]
fn rows_do_not_depend_on_the_files_they_are_in() {
    let rows = |rows_per_file, rows_per_row_group| {
        let lake = Lake::of(
            &Config {
                rows_per_file,
                rows_per_row_group,
                ..small_of(Profile::Brutal)
            },
            2,
        );
        [Table::TicketClicks, Table::WebLogs].map(|table| {
            let files = lake.files(table).into_iter();
            let batches: Vec<_> = files.flat_map(|(_, _, batches)| batches).collect();
            arrow::compute::concat_batches(&table.schema(), &batches).unwrap()
        })
    };
    assert!(rows(1 << 20, 1 << 20) == rows(700, 90));
}

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
