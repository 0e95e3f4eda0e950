//! What is there already is kept, recognised or replaced, never mixed with.

use rankmill_datagen::{Config, Error};

use crate::lake::{Lake, small};

fn other() -> Config {
    Config {
        seed: 7,
        days: 1,
        ..small()
    }
}

#[test]
fn an_equal_lake_is_left_alone() {
    let lake = Lake::of(&small(), 2);
    let before = lake.objects();
    for replace in [false, true] {
        let report = lake.generate(&small(), 2, replace).unwrap();
        assert!(report.already_there);
        assert_eq!(report.tables, lake.truth().unwrap().tables);
    }
    assert!(lake.objects() == before);
}

#[test]
fn another_lake_is_refused_or_replaced_whole() {
    let lake = Lake::of(&small(), 2);
    lake.put("a/lake/rankings/kept.txt", "not ours");
    let before = lake.objects();
    let error = lake.generate(&other(), 2, false).unwrap_err();
    assert!(matches!(error, Error::LakeExists { .. }), "{error:?}");
    assert!(!error.retryable());
    assert!(lake.objects() == before);

    let report = lake.generate(&other(), 2, true).unwrap();
    assert!(!report.already_there);
    let mut objects = lake.objects();
    assert!(objects.remove("a/lake/rankings/kept.txt").is_some());
    assert!(objects == Lake::of(&other(), 2).objects());
}

#[test]
fn leftovers_and_foreign_truths_are_in_the_way() {
    for path in [
        "a/lake/stage/web_logs/date=2020-01-01/part-00000.parquet",
        "a/lake/dim/users/x",
        "a/lake/truth.json",
    ] {
        let lake = Lake::empty();
        lake.put(path, "{}");
        match lake.generate(&other(), 1, false) {
            Err(Error::LakeExists { path: found }) => assert_eq!(found, path),
            outcome => panic!("{path}: {outcome:?}"),
        }
        lake.generate(&other(), 1, true).unwrap();
        assert!(lake.objects() == Lake::of(&other(), 1).objects(), "{path}");
    }
}

#[test]
fn a_bad_config_is_refused() {
    let config = Config { days: 0, ..small() };
    let error = Lake::empty().generate(&config, 1, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config: `days` is 0, but must be 1 to 36,600"
    );
}

fn begun(config: &Config, clearing: bool) -> String {
    let version = rankmill_datagen::truth::VERSION;
    serde_json::json!({ "version": version, "config": config, "clearing": clearing }).to_string()
}

#[test]
fn an_interrupted_generation_is_continued() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    // As a kill leaves it: the note, some data, no truth.
    lake.delete("a/lake/truth.json");
    lake.put("a/lake/_generating.json", begun(&other(), false));
    let error = lake.generate(&small(), 2, false).unwrap_err();
    assert!(matches!(error, Error::LakeExists { .. }), "{error:?}");
    lake.put("a/lake/_generating.json", begun(&small(), false));
    let paths: Vec<&String> = whole.keys().filter(|p| p.ends_with(".parquet")).collect();
    let gone = |path: &str| path.contains("part-00001") || path.contains("date=2026-06-02");
    for path in paths.iter().filter(|path| gone(path)) {
        lake.delete(path);
    }
    let left = paths.iter().filter(|path| !gone(path)).count();
    assert!(left > 3);
    let report = lake.generate(&small(), 2, false).unwrap();
    assert!(!report.already_there);
    assert_eq!(report.kept_files, left as u64);
    assert!(lake.objects() == whole);
}

#[test]
fn parts_that_are_not_whole_are_made_anew() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    lake.delete("a/lake/truth.json");
    lake.put("a/lake/_generating.json", begun(&small(), false));
    let paths: Vec<&String> = whole.keys().filter(|p| p.ends_with(".parquet")).collect();
    // Half of one, nothing of another, and one in the place of a third.
    let bytes = &whole[paths[0]];
    lake.put(paths[0], bytes.slice(..bytes.len() / 2));
    lake.put(paths[1], "");
    lake.put(paths[2], whole[paths[paths.len() - 1]].clone());
    let report = lake.generate(&small(), 2, false).unwrap();
    assert_eq!(report.kept_files, paths.len() as u64 - 3);
    assert!(lake.objects() == whole);
}

#[test]
fn what_was_there_before_a_clearing_is_not_kept() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    lake.delete("a/lake/truth.json");
    lake.put("a/lake/_generating.json", begun(&small(), true));
    let report = lake.generate(&small(), 2, false).unwrap();
    assert_eq!(report.kept_files, 0);
    assert!(lake.objects() == whole);
}

#[test]
fn what_is_foreign_is_not_mixed_with_on_resuming() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    lake.delete("a/lake/truth.json");
    lake.put("a/lake/_generating.json", begun(&small(), false));
    let foreign = "a/lake/stage/ticket_clicks/date=2026-06-01/foreign.parquet";
    lake.put(foreign, "not ours");
    match lake.generate(&small(), 2, false) {
        Err(Error::LakeExists { path }) => assert_eq!(path, foreign),
        outcome => panic!("{outcome:?}"),
    }
    let report = lake.generate(&small(), 2, true).unwrap();
    assert_eq!(report.kept_files, whole.len() as u64 - 1);
    assert!(lake.objects() == whole);
}

#[test]
fn a_note_that_stayed_beside_a_whole_lake_means_nothing() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    lake.put("a/lake/_generating.json", begun(&small(), false));
    assert!(lake.generate(&small(), 2, false).unwrap().already_there);
    assert!(lake.objects() == whole);
}

#[test]
fn a_lake_of_another_version_is_not_taken_for_right() {
    let lake = Lake::of(&small(), 2);
    let truth = String::from_utf8(lake.objects()["a/lake/truth.json"].to_vec()).unwrap();
    let older = truth.replacen("\"version\":2", "\"version\":1", 1);
    assert_ne!(truth, older);
    lake.put("a/lake/truth.json", older);
    let error = lake.verify(false).unwrap_err();
    assert!(matches!(error, Error::Truth { .. }), "{error:?}");
    let error = lake.generate(&small(), 2, false).unwrap_err();
    assert!(matches!(error, Error::LakeExists { .. }), "{error:?}");
}

#[test]
fn a_damaged_lake_is_mended_when_it_is_to_be_replaced() {
    let lake = Lake::of(&small(), 2);
    let whole = lake.objects();
    let paths: Vec<&String> = whole.keys().filter(|p| p.ends_with(".parquet")).collect();
    lake.delete(paths[0]);
    lake.put(
        paths[1],
        whole[paths[1]].slice(..whole[paths[1]].len() - 100),
    );
    lake.put("a/lake/stage/web_logs/date=2026-06-01/foreign", "not ours");
    assert!(lake.generate(&small(), 2, false).unwrap().already_there);
    let report = lake.generate(&small(), 2, true).unwrap();
    assert_eq!(report.kept_files, paths.len() as u64 - 2);
    assert!(lake.objects() == whole);
}
