//! Places that can't be written or reached: said so, in time, and nothing is half-published.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::http::stubborn_store;
use crate::s3;
use crate::small::{DATE, JOB, SPEC, assert_sound, fill, published, run, written};
use crate::support::{Lake, Outcome, scratch};

const FAILED: i32 = 1;
/// The retries of S3 end well before; only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sound spec with its output elsewhere.
fn publishing_to(place: &str) -> String {
    SPEC.replace("{lake}/rankings", place)
}

#[test]
fn places_that_take_no_files() {
    let lake = published();
    // Tests may run as root, to whom no folder is read-only.
    let file = lake.folder().join("a-file");
    std::fs::write(&file, "").unwrap();
    for place in [
        file.to_str().unwrap(),
        "/proc/rankings",
        "/dev/null/rankings",
    ] {
        run(&lake, &publishing_to(place), &[]).fails(FAILED, &["publishing failed", place]);
    }
    let nowhere = Lake {
        address: "/proc/lake".to_owned(),
        ..Lake::local()
    };
    nowhere
        .run(&["generate", "--rows", "10"])
        .fails(FAILED, &["/proc/lake"]);
    assert_sound(&lake);
}

/// A file system of so many bytes; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(name: &str, bytes: u32) -> Option<Self> {
        let folder = scratch().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&folder)
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    fn fill(&self, leave_bytes: usize) {
        let mut size = 1 << 20;
        // As much as there is room for, page by page at the end.
        while size >= 4096 {
            let filler = self.0.join(format!("filler-{size}"));
            if std::fs::write(&filler, vec![1; size]).is_err() {
                let _ = std::fs::remove_file(&filler);
            }
            size /= 2;
        }
        let spare = self.0.join("filler-4096");
        if leave_bytes > 0 {
            let _ = std::fs::remove_file(spare);
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_previous_ranking() {
    let Some(disk) = SmallDisk::mount("small-disk", 1 << 20) else {
        println!("skipped: mounting a small file system is not permitted here");
        return;
    };
    let lake = published();
    // The whole lake moves there, with what is published.
    let copied = Command::new("cp")
        .arg("-r")
        .arg(lake.folder())
        .arg(disk.0.join("lake"))
        .status();
    assert!(copied.unwrap().success());
    let full = Lake::at(&disk.0.join("lake"));
    for leave_bytes in [0, 4096] {
        disk.fill(leave_bytes);
        run(&full, SPEC, &["--force"]).fails(FAILED, &["the disk is full"]);
        assert_sound(&full);
    }
    // With room again the next run does its work.
    for filler in std::fs::read_dir(&disk.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if filler.is_file() {
            std::fs::remove_file(filler).unwrap();
        }
    }
    run(&full, SPEC, &["--force"]).ok();
    assert_eq!(full.published(JOB, DATE).unwrap().generation, 2);
}

/// Groups with much in each: of 200,000 clicks they don't fit the smallest memory.
const MANY_GROUPS: &str = r#"
version: 1
name: sessions
source: { path: "{lake}/stage/ticket_clicks/", date: { partition: date } }
ranking:
  item: session_id
  per: [date]
  measures:
    clicks: "count(*)"
    performances: "count(distinct performance_id)"
    users: "count(distinct user_id)"
    median: "approx_percentile_cont(click_id, 0.5)"
    mean: "avg(user_id)"
  order_by: [clicks desc]
  top: 10
output: { path: "{lake}/rankings/sessions/" }
"#;

/// Both sides are larger than the smallest memory.
const WIDE_JOIN: &str = r#"
version: 1
name: sessions
sources:
  clicks: { path: "{lake}/stage/ticket_clicks/", date: { partition: date } }
sql: |
  WITH wide AS (SELECT session_id, action, click_id, repeat(platform, 30) AS text FROM clicks)
  SELECT a.action, count(*) AS pairs, max(a.text) AS widest, max(b.text) AS other
  FROM wide a JOIN wide b ON a.click_id = b.click_id GROUP BY a.action
output: { path: "{lake}/rankings/sessions/", key: [action] }
"#;

#[test]
fn a_full_disk_of_temporary_files_leaves_the_previous_ranking() {
    let no_space = "No space left on device";
    let folder = "folder for temporary files";
    without_room_for_temporary_files(MANY_GROUPS, "groups went to disk", &[folder, no_space]);
    // Of a join what DataFusion exchanges goes to disk too, and doesn't say where.
    without_room_for_temporary_files(WIDE_JOIN, "written to disk", &[no_space]);
}

fn without_room_for_temporary_files(spec: &str, says: &str, words: &[&str]) {
    let Some(disk) = SmallDisk::mount("small-temporary-disk", 1 << 20) else {
        println!("skipped: mounting a small file system is not permitted here");
        return;
    };
    let lake = Lake::local();
    let rows = ["--rows", "200k", "--web-rows", "10", "--users", "50k"];
    let days = ["--days", "1", "--from", DATE];
    let generated = lake.run(&[&["generate"][..], &rows, &days].concat());
    generated.ok();
    let (_folder, spec) = written(spec);
    let short = ["run", &spec, "--date", DATE, "--force", "--memory", "60MB"];
    let first = lake.run(&short).ok();
    assert!(first.stderr.contains(says), "{}", first.stderr);
    let published = || lake.published("sessions", DATE).unwrap();
    let before = published();
    let full = lake.command(&short).env("TMPDIR", &disk.0).output();
    Outcome::of(&short, full.unwrap()).fails(FAILED, words);
    assert_eq!(published().generation, 1);
    // What was there of the temporary files is gone.
    assert_eq!(std::fs::read_dir(&disk.0).unwrap().count(), 0);
    let roomy = ["run", &spec, "--date", DATE, "--force"];
    lake.run(&roomy).ok();
    assert_eq!(published().generation, 2);
    let rows = published().rows;
    rows.assert_eq(&before.rows, "the ranking with memory enough");
}

#[test]
fn buckets_that_are_missing() {
    let lake = published();
    // As S3 says it, whatever is asked; SeaweedFS makes a bucket that is written to.
    let port = stubborn_store("404 Not Found", "NoSuchBucket");
    let lake = Lake {
        variables: s3::variables(&format!("http://127.0.0.1:{port}")),
        ..lake
    };
    let words = ["no-such-bucket", "NoSuchBucket"];
    for place in [
        "{lake}/logs",
        "{lake}/users",
        "{lake}/items",
        "{lake}/rankings",
    ] {
        let folder = place.rsplit('/').next().unwrap();
        let spec = SPEC.replace(place, &format!("s3://no-such-bucket/{folder}"));
        run(&lake, &spec, &["--force"]).fails(FAILED, &words);
        assert_sound(&lake);
    }
    let missing = s3::server().lake("no-such-bucket");
    run(&missing, SPEC, &[]).fails(FAILED, &words);
}

#[test]
fn credentials_that_are_refused() {
    let lake = s3::bucket();
    fill(&lake);
    run(&lake, SPEC, &[]).ok();
    assert_sound(&lake);
    let secret = ("AWS_SECRET_ACCESS_KEY", "wrong");
    let (address, variables) = (lake.address.clone(), lake.variables.clone());
    let closed = lake.with_variable(secret.0, secret.1);
    let words = ["SignatureDoesNotMatch"];
    run(&closed, SPEC, &["--force"]).fails(FAILED, &words);
    let (_folder, file) = written(SPEC);
    closed
        .run(&["rankings", "show", &file])
        .fails(FAILED, &words);
    closed
        .run(&["generate", "--rows", "10"])
        .fails(FAILED, &words);
    assert_sound(&closed);
    // Only the input is closed.
    let local = Lake {
        variables,
        ..published()
    }
    .with_variable(secret.0, secret.1);
    for place in ["{lake}/logs", "{lake}/users", "{lake}/items"] {
        let folder = place.rsplit('/').next().unwrap();
        let spec = SPEC.replace(place, &format!("{address}/{folder}"));
        run(&local, &spec, &["--force"]).fails(FAILED, &[&address, words[0]]);
        assert_sound(&local);
    }
}

#[test]
fn a_server_that_fails_is_given_up() {
    let port = stubborn_store("503 Slow Down", "SlowDown");
    let variables = s3::variables(&format!("http://127.0.0.1:{port}"));
    let lake = Lake {
        variables,
        ..published()
    };
    let begun = Instant::now();
    let outcome = run(&lake, &publishing_to("s3://bucket/rankings"), &[]);
    outcome.fails(FAILED, &["retry 1 of", "503", "SlowDown"]);
    assert!(begun.elapsed() < PATIENCE);
    assert_sound(&lake);
}

#[test]
fn an_endpoint_that_is_down_is_given_up() {
    let lake = published();
    // Port 1 is nobody's.
    let down = Lake {
        variables: s3::variables("http://127.0.0.1:1"),
        ..lake
    };
    let begun = Instant::now();
    let (output, input) = (
        "s3://bucket/rankings",
        SPEC.replace("{lake}/logs", "s3://bucket/logs"),
    );
    let specs = [publishing_to(output), input];
    std::thread::scope(|scope| {
        for spec in &specs {
            let down = &down;
            scope.spawn(move || {
                let outcome = run(down, spec, &["--force"]);
                // The reason shows while it is retried, and at the end.
                let retries = outcome
                    .stderr
                    .lines()
                    .filter(|line| line.contains("retry"))
                    .count();
                assert!(retries > 2, "{}", outcome.stderr);
                outcome.fails(FAILED, &["Connect", "retry 1 of", "Connection refused"]);
            });
        }
    });
    assert!(begun.elapsed() < PATIENCE);
    assert_sound(&down);
}

#[test]
fn a_damaged_publication_is_not_served() {
    let lake = published();
    let (_folder, file) = written(SPEC);
    let data = lake.list(&format!("rankings/{JOB}/date={DATE}/data"));
    let parquet = data.iter().find(|path| path.ends_with(".parquet")).unwrap();
    let mut bytes = lake.get(parquet).unwrap().to_vec();
    bytes[20] ^= 1;
    lake.put(parquet, bytes);
    lake.run(&["rankings", "show", &file, "--date", DATE])
        .fails(FAILED, &["damaged", "sha256"]);
    let commit = format!("rankings/{JOB}/date={DATE}/current.json");
    lake.put(&commit, "{");
    lake.run(&["rankings", "show", &file])
        .fails(FAILED, &["current.json", "not what rankmill writes"]);
    // It is not overwritten either: somebody has to look.
    run(&lake, SPEC, &["--force"]).fails(FAILED, &["current.json", "repair or remove it"]);
    assert!(Path::new(&lake.folder().join(commit)).is_file());
}
