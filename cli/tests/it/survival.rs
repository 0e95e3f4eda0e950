//! Killed at any moment on a local disk: readers always see a whole ranking.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::publication::wait;
use crate::shipped::{DAYS, check, lake, oracle};
use crate::support::day;

const JOB: &str = "age-date-ranking";
const KILLS: u64 = 20;
/// About as long as a run takes, so that the moments fall on all of it.
const LONGEST_RUN_MS: u64 = 500;

#[test]
fn killed_at_any_moment_on_disk() {
    let lake = Arc::new(lake());
    let all = ["run", JOB, "--from", DAYS[0], "--to", DAYS[3], "--force"];
    lake.run(&all).ok();

    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (lake, stop) = (Arc::clone(&lake), Arc::clone(&stop));
        thread::spawn(move || {
            let mut newest = [0; DAYS.len()];
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                for (date, newest) in DAYS.iter().zip(&mut newest) {
                    let published = lake.published(JOB, date).unwrap();
                    published
                        .rows
                        .assert_eq(&oracle().table(JOB, day(date)), date);
                    assert!(published.generation >= *newest, "{date} went back");
                    *newest = published.generation;
                    reads += 1;
                }
            }
            reads
        })
    };
    let mut seed = 20_260_601_u64;
    let mut killed = 0;
    for _ in 0..KILLS {
        // Any sequence does that is the same each time (Knuth's MMIX generator).
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let child = Mutex::new(Some(lake.command(&all).spawn().unwrap()));
        thread::sleep(Duration::from_millis((seed >> 33) % LONGEST_RUN_MS));
        let _ = child.lock().unwrap().as_mut().unwrap().kill();
        killed += u32::from(wait(&child).code().is_none());
    }
    assert!(
        killed > 3,
        "only {killed} of {KILLS} runs were killed in time"
    );
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 20);

    let left = DAYS.map(|date| lake.published(JOB, date).unwrap().generation);
    // What the killed runs left behind is in nobody's way.
    lake.run(&all).ok();
    for (date, left) in DAYS.iter().zip(left) {
        check(&lake, oracle(), JOB, date, left + 1);
        let history = lake.json(&["rankings", "history", JOB, "--date", date]);
        let generations = history
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["generation"].as_u64().unwrap());
        assert!(generations.rev().eq(1..=left + 1), "{date}: {history}");
    }
}

/// As a first publication there is nothing, or all of it.
#[test]
fn killed_at_any_moment_of_a_first_publication() {
    let lake = lake();
    for (kill, date) in DAYS.iter().cycle().take(12).enumerate() {
        let spec = include_str!("../../../jobs/specs/age-date-ranking.yaml");
        let job = format!("first-{kill}");
        let file = lake.folder().join(format!("{job}.yaml"));
        std::fs::write(&file, spec.replace(JOB, &job)).unwrap();
        let run = ["run", file.to_str().unwrap(), "--date", date];
        let child = Mutex::new(Some(lake.command(&run).spawn().unwrap()));
        thread::sleep(Duration::from_millis(kill as u64 * 25));
        let _ = child.lock().unwrap().as_mut().unwrap().kill();
        wait(&child);
        if let Some(published) = lake.published(&job, date) {
            assert_eq!(published.generation, 1);
        }
        lake.run(&run).ok();
        let published = lake.published(&job, date).unwrap();
        assert_eq!(published.generation, 1);
        published
            .rows
            .assert_eq(&oracle().table(JOB, day(date)), date);
    }
}
