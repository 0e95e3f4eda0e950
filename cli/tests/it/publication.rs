//! The commit, with real processes: killed around it, two at once, and on a store that can't
//! keep its promises.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Message, Moment, careless_store, proxy};
use crate::oracle::Oracle;
use crate::s3;
use crate::shipped::{DAYS, add_clicks, check, lake, lake_on_s3, oracle};
use crate::support::{Lake, Outcome, Table, day, scratch};

const DATE: &str = DAYS[1];
const JOB: &str = "age-date-ranking";
/// Longer than any retry; only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The spec of [`JOB`] as a job of another name, which publishes elsewhere.
fn spec(name: &str) -> String {
    let yaml = include_str!("../../../jobs/specs/age-date-ranking.yaml").replace(JOB, name);
    let file = scratch().join(format!("{name}.yaml"));
    std::fs::write(&file, yaml).unwrap();
    file.to_str().unwrap().to_owned()
}

fn expected(oracle: &Oracle) -> Table {
    oracle.table(JOB, day(DATE))
}

/// The generation that is current, whose rows must be `rows`; 0 if nothing is published.
fn generation(lake: &Lake, job: &str, rows: &Table) -> u64 {
    lake.published(job, DATE).map_or(0, |published| {
        published.rows.assert_eq(rows, job);
        published.generation
    })
}

pub(crate) fn wait(child: &Mutex<Option<Child>>) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.lock().unwrap().as_mut().unwrap().try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the run hangs");
        sleep(Duration::from_millis(2));
    }
}

/// Runs a job, sends it `signal` when a write of `part` has come so far, and returns how it ended.
fn interrupted(
    lake: &Lake,
    arguments: &[&str],
    signal: &str,
    moment: Moment,
    part: &str,
) -> ExitStatus {
    let child: Arc<Mutex<Option<Child>>> = Arc::default();
    let (shared, wanted, signal) = (Arc::clone(&child), part.to_owned(), signal.to_owned());
    let port = proxy(
        s3::server().port,
        Arc::new(move |now, request: &Message| {
            if now != moment || !request.puts(&wanted) {
                return true;
            }
            let id = shared.lock().unwrap().as_ref().unwrap().id().to_string();
            let kill = format!("kill {signal} {id}");
            Command::new("sh").args(["-c", &kill]).status().unwrap();
            // Nothing is let through any more while it dies.
            wait(&shared);
            false
        }),
    );
    let mut command = lake.command(arguments);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    {
        // Held until the child can be found there.
        let mut place = child.lock().unwrap();
        *place = Some(command.spawn().unwrap());
    }
    let status = wait(&child);
    assert!(
        status.signal().is_some(),
        "no write of {part} came: {status}"
    );
    status
}

#[test]
fn killed_around_the_commit() {
    // Where it is killed, and whether that is after the commit.
    let points = [
        ("data", Moment::Acted, "/data/", false),
        ("manifest", Moment::Acted, "/manifests/", false),
        ("before", Moment::Before, "/current.json", false),
        ("during", Moment::Acted, "/current.json", true),
        ("after", Moment::Answered, "/current.json", true),
    ];
    let lake = lake_on_s3();
    // First there is nothing; then there is a ranking, and its input has changed.
    let mut before = expected(oracle());
    for already in [0, 1] {
        let now = match already {
            0 => expected(oracle()),
            _ => {
                add_clicks(&lake, DATE);
                expected(&Oracle::of(&lake))
            }
        };
        for (name, moment, part, committed) in points {
            let job = format!("killed-{name}");
            let spec = spec(&job);
            let run = ["run", &spec, "--date", DATE];
            assert_eq!(generation(&lake, &job, &before), already, "{job}");
            interrupted(&lake, &run, "-KILL", moment, part);
            // What readers meanwhile see is whole.
            let left = generation(&lake, &job, if committed { &now } else { &before });
            assert_eq!(left, already + u64::from(committed), "{job}");

            let again = lake.json(&run);
            let outcome = if committed {
                "already_current"
            } else {
                "published"
            };
            assert_eq!(again["dates"][0]["outcome"], outcome, "{job}");
            assert_eq!(generation(&lake, &job, &now), already + 1, "{job}");
            let history = lake.json(&["rankings", "history", &spec, "--date", DATE]);
            assert_eq!(
                history.as_array().unwrap().len() as u64,
                already + 1,
                "{job}"
            );
        }
        before = now;
    }
}

#[test]
fn a_killed_force_is_not_repeated_by_itself() {
    let lake = lake_on_s3();
    let run = ["run", JOB, "--date", DATE];
    lake.run(&run).ok();
    let forced = [&run[..], &["--force"]].concat();
    interrupted(&lake, &forced, "-KILL", Moment::Before, "/current.json");
    check(&lake, oracle(), JOB, DATE, 1);
    interrupted(&lake, &forced, "-KILL", Moment::Acted, "/current.json");
    check(&lake, oracle(), JOB, DATE, 2);
    lake.run(&run).ok();
    check(&lake, oracle(), JOB, DATE, 2);
    lake.run(&forced).ok();
    check(&lake, oracle(), JOB, DATE, 3);
}

#[test]
fn control_c_leaves_the_previous_ranking() {
    let lake = lake_on_s3();
    let run = ["run", JOB, "--date", DATE];
    lake.run(&run).ok();
    let forced = [&run[..], &["--force"]].concat();
    for part in ["/data/", "/current.json"] {
        let status = interrupted(&lake, &forced, "-INT", Moment::Before, part);
        assert_eq!(status.signal(), Some(2));
        check(&lake, oracle(), JOB, DATE, 1);
    }
    lake.run(&forced).ok();
    check(&lake, oracle(), JOB, DATE, 2);
}

/// A lost answer is no failure: the run finds out that it has committed.
#[test]
fn a_lost_answer_to_the_commit_is_found_out() {
    let lake = lake_on_s3();
    let lost = Mutex::new(0);
    let port = proxy(
        s3::server().port,
        Arc::new(move |moment, request: &Message| {
            let is_commit = moment == Moment::Acted && request.puts("/current.json");
            let mut lost = lost.lock().unwrap();
            *lost += u32::from(is_commit);
            !(is_commit && *lost == 1)
        }),
    );
    let endpoint = format!("http://127.0.0.1:{port}");
    let lake = lake.with_variable("AWS_ENDPOINT_URL", &endpoint);
    let run = lake.json(&["run", JOB, "--date", DATE]);
    assert_eq!(
        (&run["dates"][0]["outcome"], &run["dates"][0]["generation"]),
        (&"published".into(), &1.into())
    );
    check(&lake, oracle(), JOB, DATE, 1);
}

/// What came in while a run read the files is either all of its ranking or none.
#[test]
fn input_that_changes_meanwhile_is_read_anew() {
    let lake = Arc::new(lake_on_s3());
    let (writer, written) = (Arc::clone(&lake), AtomicBool::new(false));
    let port = proxy(
        s3::server().port,
        Arc::new(move |moment, request: &Message| {
            // The commit point comes after the listing, the data before the commit.
            let reads = request.gets(&format!("ticket_clicks/date={DATE}/part"));
            if moment == Moment::Acted && reads && !written.swap(true, Ordering::Relaxed) {
                add_clicks(&writer, DATE);
            }
            true
        }),
    );
    let mut command = lake.command(&["run", JOB, "--date", DATE]);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    let outcome = Outcome::of(&["run"], command.output().unwrap()).ok();
    assert!(
        outcome.stderr.contains("beginning anew"),
        "{}",
        outcome.stderr
    );
    check(&lake, &Oracle::of(&lake), JOB, DATE, 1);
}

#[test]
fn two_runs_at_once_publish_once() {
    for lake in [lake(), lake_on_s3()] {
        for round in 1..=4 {
            let job = format!("twice-{round}");
            let spec = spec(&job);
            let arguments = ["run", &spec, "--date", DATE, "--format", "json"];
            let runs = [(); 2].map(|()| lake.command(&arguments).spawn().unwrap());
            let mut outcomes = runs.map(|run| {
                let outcome = Outcome::of(&arguments, run.wait_with_output().unwrap()).ok();
                let said: Value = serde_json::from_str(&outcome.stdout).unwrap();
                assert_eq!(said["dates"][0]["generation"], 1, "{}", outcome.stderr);
                said["dates"][0]["outcome"].as_str().unwrap().to_owned()
            });
            outcomes.sort();
            let [other, published] = &outcomes;
            assert_eq!(published, "published");
            assert!(
                ["already_current", "fenced"].contains(&other.as_str()),
                "{other}"
            );
            assert_eq!(generation(&lake, &job, &expected(oracle())), 1);
            let history = lake.json(&["rankings", "history", &spec, "--date", DATE]);
            assert_eq!(history.as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let (port, objects) = careless_store();
    let mut lake = lake();
    lake.variables = s3::variables(&format!("http://127.0.0.1:{port}"));
    let yaml = include_str!("../../../jobs/specs/age-date-ranking.yaml");
    let yaml = yaml.replace("{lake}/rankings", "s3://careless/rankings");
    let spec = scratch().join("careless.yaml");
    std::fs::write(&spec, yaml).unwrap();
    lake.run(&["run", spec.to_str().unwrap(), "--date", DATE])
        .fails(2, &["ignores conditional writes", "careless"]);
    let left: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    assert!(left.is_empty(), "{left:?}");
}
