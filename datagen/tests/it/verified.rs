//! A lake is verified against its config and seed.

use rankmill_datagen::Error;

use crate::lake::{Lake, small};

const CLICKS: &str = "stage/ticket_clicks/date=2026-06-01/part-00000.parquet";

/// The faults of a small lake after `change`, by footers and in depth.
fn faults(change: impl Fn(&Lake)) -> [Vec<String>; 2] {
    let lake = Lake::of(&small(), 2);
    change(&lake);
    [false, true].map(|deep| lake.verify(deep).unwrap().faults)
}

#[test]
fn a_right_lake_has_no_faults() {
    assert_eq!(faults(|_| {}), [vec![], vec![]] as [Vec<String>; 2]);
    let findings = Lake::of(&small(), 2).verify(false).unwrap();
    assert_eq!(findings.rows, 8_000);
    assert!(findings.files > 10);
}

#[test]
fn what_is_missing_foreign_or_cut_off_shows_in_the_footers() {
    let path = format!("a/lake/{CLICKS}");
    for (fault, change) in [
        (
            "is missing",
            &(|lake: &Lake| lake.delete(&path)) as &dyn Fn(&Lake),
        ),
        ("is not of this lake", &|lake| {
            lake.put("a/lake/dim/users/part-9.parquet", "x")
        }),
        (CLICKS, &|lake| {
            lake.put(&path, lake.objects()[&path].slice(..100))
        }),
        (CLICKS, &|lake| lake.put(&path, "")),
    ] {
        for found in faults(change) {
            assert!(
                found.iter().any(|said| said.contains(fault)),
                "{fault}: {found:?}"
            );
        }
    }
}

#[test]
fn another_tables_file_shows_by_its_columns() {
    let alike = rankmill_datagen::Config {
        click_rows: 2_000,
        web_rows: 2_000,
        uneven: 0.0,
        ..small()
    };
    let lake = Lake::of(&alike, 2);
    let requests = CLICKS.replace("ticket_clicks", "web_logs");
    let bytes = lake.objects()[&format!("a/lake/{requests}")].clone();
    lake.put(&format!("a/lake/{CLICKS}"), bytes);
    let said = lake.verify(false).unwrap().faults.join("\n");
    assert!(
        said.contains(&format!("`{CLICKS}` has other columns")),
        "{said}"
    );
}

#[test]
fn a_wrong_truth_shows() {
    let change = |lake: &Lake| {
        let mut truth = lake.truth().unwrap();
        truth.daily_popularity[1].top[0].visitors += 1;
        truth.defects.late_clicks += 1;
        lake.put("a/lake/truth.json", serde_json::to_vec(&truth).unwrap());
    };
    for found in faults(change) {
        let said = found.join("\n");
        assert!(
            said.contains("daily_popularity") && said.contains("`defects`"),
            "{said}"
        );
        assert!(!said.contains("age_date"), "{said}");
    }
}

#[test]
fn another_value_shows_in_depth_only() {
    // Of another seed, with as many rows.
    let other = rankmill_datagen::Config {
        seed: 1,
        uneven: 0.0,
        weekly_curve: 0.0,
        ..small()
    };
    let lake = Lake::of(
        &rankmill_datagen::Config {
            seed: 2,
            ..other.clone()
        },
        2,
    );
    let path = format!("a/lake/{CLICKS}");
    lake.put(&path, Lake::of(&other, 2).objects()[&path].clone());
    // The size is in the truth: of that, the footers' verification says something.
    let said = lake.verify(true).unwrap().faults.join("\n");
    assert!(
        said.contains(&format!("`{CLICKS}` is not what the seed makes")),
        "{said}"
    );
    let said = lake.verify(false).unwrap().faults.join("\n");
    assert!(!said.contains(CLICKS), "{said}");
}

#[test]
fn without_a_truth_there_is_no_lake() {
    let lake = Lake::of(&small(), 2);
    lake.delete("a/lake/truth.json");
    let error = lake.verify(false).unwrap_err();
    assert!(matches!(error, Error::NoLake { .. }), "{error:?}");
}
