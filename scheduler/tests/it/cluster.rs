//! Plans on executors give what they give in one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use datafusion::arrow::util::pretty::pretty_format_batches;
use rankmill_datagen::{Config, Part, Plan, Progress, generate};
use rankmill_engine::skew::{Role, SkewReport};
use rankmill_engine::store::LocalStore;
use rankmill_engine::{Location, ScanProgress, Session, SessionOptions};
use rankmill_jobs::shipped::{SHIPPED, Shipped};
use rankmill_jobs::spec::{Params, parse};
use rankmill_jobs::{DateReport, Error, Observer, RunReport, RunRequest, run};
use rankmill_scheduler::cluster::{Cluster, Options, Planner};

struct Quiet;

impl Progress for Quiet {
    fn part_done(&self, _: &Part, _: u64, _: u64) {}
}

impl Observer for Quiet {
    fn reading(&self, _: usize, _: Option<u64>, _: u64) {}
    fn progress(&self, _: ScanProgress) {}
    fn publishing(&self, _: NaiveDate) {}
    fn retrying(&self, _: &Error) {}
    fn date_done(&self, _: &DateReport) {}
}

pub(crate) async fn lake(folder: &Path) {
    let config = Config {
        click_rows: 200_000,
        web_rows: 50_000,
        users: 5_000,
        performances: 500,
        days: 3,
        ..Config::default()
    };
    let place = Location::parse(folder.to_str().unwrap()).unwrap();
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let plan = Plan::new(&config).unwrap();
        let store = Arc::new(LocalStore::new());
        generate(&plan, store, place.path(), 2, &handle, true, &Quiet).unwrap()
    })
    .await
    .unwrap();
}

/// Dimensions are looked up, and groups cut to their first rows.
const STAR: Shipped = Shipped {
    name: "star",
    yaml: "version: 1
name: star
sources:
  clicks: { path: '{lake}/stage/ticket_clicks/', date: { partition: date }, window_days: 2 }
  users: { path: '{lake}/dim/users/' }
  performances: { path: '{lake}/dim/performances/' }
sql: |
  SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY genre, gender ORDER BY n DESC) AS place FROM (
      SELECT p.genre, u.gender, c.platform, c.date, count(*) AS n, count(distinct c.user_id) AS visitors
      FROM clicks c JOIN performances p ON c.performance_id = p.performance_id
      LEFT JOIN users u ON c.user_id = u.user_id
      GROUP BY p.genre, u.gender, c.platform, c.date
    ) AS groups
  ) AS placed WHERE place <= 2
output: { path: '{lake}/rankings/star/' }
",
};

fn specs() -> impl Iterator<Item = Shipped> {
    SHIPPED.into_iter().chain([STAR])
}

/// What was skewed, for each spec.
async fn run_all(session: &Session, lake: &Path) -> Vec<SkewReport> {
    let mut reports = Vec::new();
    for shipped in specs() {
        let report = run_one(session, lake, shipped.name, shipped.yaml).await;
        reports.push(report.skew);
    }
    reports
}

async fn run_one(session: &Session, lake: &Path, name: &str, yaml: &str) -> RunReport {
    let params = Params::new(lake.to_str().unwrap(), BTreeMap::new());
    let first: NaiveDate = "2026-06-01".parse().unwrap();
    let spec = parse(yaml, name, &params).unwrap();
    let request = RunRequest {
        dates: first.iter_days().take(3).collect(),
        force: false,
        allow_empty: false,
        dates_per_pass: None,
    };
    let report = run(session, &spec, &params, &request, &Quiet).await;
    let report = report.unwrap_or_else(|e| panic!("{name}: {e:?}"));
    assert_eq!(report.dates.len(), 3, "{name}");
    report
}

/// Both saw the same rows and the same hot keys, and where work was done.
fn assert_alike(here: &SkewReport, there: &SkewReport, name: &str) {
    let columns = |report: &SkewReport| {
        let columns = report.columns.iter();
        let columns = columns.map(|c| (c.column.clone(), c.role, c.rows));
        columns.collect::<Vec<_>>()
    };
    assert_eq!(columns(here), columns(there), "{name}");
    assert!(!here.columns.is_empty(), "{name}");
    for (here, there) in here.columns.iter().zip(&there.columns) {
        let ((here_share, a), (there_share, b)) =
            (here.share(&here.keys[0]), there.share(&there.keys[0]));
        let off = (here_share - there_share).abs();
        assert!(off <= a + b, "{name} {}: {off}", here.column);
    }
    for report in [here, there] {
        assert!(!report.decisions.is_empty(), "{name}");
        // These read the log; a filter may leave rows out.
        let reads = [
            "aggregate: single",
            "aggregate: gathered",
            "aggregate: partial",
        ];
        let stages = report.stages.iter();
        let reading = stages.filter(|stage| reads.iter().any(|name| stage.name.starts_with(name)));
        let tasks: Vec<_> = reading.flat_map(|stage| &stage.tasks).collect();
        let rows: u64 = tasks.iter().map(|task| task.rows).sum();
        let most = report.columns.iter().map(|column| column.rows).max();
        assert!(Some(rows) >= most, "{name}: {report:?}");
        assert!(tasks.iter().any(|task| task.us > 0), "{name}: {report:?}");
    }
}

/// The published files of a lake but the ids of runs: job, date and name → bytes.
fn published(lake: &Path, jobs: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in jobs {
        let job = lake.join("rankings").join(name);
        for date in std::fs::read_dir(&job).unwrap().map(Result::unwrap) {
            let data = date.path().join("data");
            if !data.is_dir() {
                continue;
            }
            for run in std::fs::read_dir(data).unwrap().map(Result::unwrap) {
                for file in std::fs::read_dir(run.path()).unwrap().map(Result::unwrap) {
                    if file.file_name() == ".rankmill.lock" {
                        continue;
                    }
                    let name = format!(
                        "{} {} {}",
                        name,
                        date.file_name().display(),
                        file.file_name().display()
                    );
                    files.insert(name, std::fs::read(file.path()).unwrap());
                }
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn specs_give_the_same_bytes_embedded_and_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    lake(&here).await;
    lake(&there).await;
    let session = Session::new(&SessionOptions::default()).unwrap();
    let skew_here = run_all(&session, &here).await;

    let cluster = cluster_of_two(&session, folder.path(), Planner::Static).await;
    let skew_there = run_all(&session.with_compute(cluster), &there).await;
    for ((here, there), shipped) in skew_here.iter().zip(&skew_there).zip(SHIPPED) {
        // In one process the days of a window are read once for all dates.
        if shipped.name != "frequent-visitors" {
            assert_alike(here, there, shipped.name);
        }
    }
    let names: Vec<&str> = specs().map(|spec| spec.name).collect();
    let (here, there) = (published(&here, &names), published(&there, &names));
    assert_eq!(here.len(), 5 * 3 * 2);
    assert_eq!(
        here.keys().collect::<Vec<_>>(),
        there.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &here {
        assert!(there[name] == *bytes, "{name} differs");
    }
}

/// The operators don't depend on which of Ballista's planners cuts their plans into stages, nor on
/// the session's physical rules, which the adaptive one replaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn specs_give_the_same_bytes_under_the_adaptive_planner() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    lake(&here).await;
    lake(&there).await;
    let session = Session::new(&SessionOptions::default()).unwrap();
    run_all(&session, &here).await;
    let cluster = cluster_of_two(&session, folder.path(), Planner::Adaptive).await;
    let skew = run_all(&session.with_compute(cluster), &there).await;
    assert!(skew.iter().all(|report| !report.stages.is_empty()));
    let names: Vec<&str> = specs().map(|spec| spec.name).collect();
    let (here, there) = (published(&here, &names), published(&there, &names));
    assert_eq!(here.len(), there.len());
    for (name, bytes) in &here {
        assert!(there[name] == *bytes, "{name} differs");
    }
}

/// By addresses of clients, which are texts; some addresses are not in the dimension.
const BY_NETWORK: &str = r#"
version: 1
name: by-network
source: { path: "{lake}/stage/web_logs/", date: { partition: date } }
lookups:
  - { path: "{lake}/dim/networks.parquet", on: client_ip, attributes: { network: network } }
ranking:
  item: status
  per: [date, network]
  measures: { requests: "count(*)", clients: "count(distinct client_ip)" }
  order_by: [requests desc]
  top: 50
output: { path: "{lake}/rankings/by-network/" }
"#;

async fn write_networks(lake: &Path) {
    let session = Session::new(&SessionOptions::default()).unwrap();
    let path = |place: &str| lake.join(place).to_str().unwrap().to_owned();
    let read =
        session
            .context()
            .register_parquet("logs", path("stage/web_logs"), Default::default());
    read.await.unwrap();
    let sql = format!(
        "COPY (SELECT client_ip, 'network ' || substr(client_ip, 1, 2) AS network FROM logs
         GROUP BY client_ip HAVING substr(client_ip, 1, 1) <> '1') TO '{}'",
        path("dim/networks.parquet")
    );
    let copied = session.context().sql(&sql).await.unwrap();
    copied.collect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dimensions_too_large_for_tables_are_joined_on_a_cluster() {
    dimensions_are_joined(Planner::Static).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dimensions_too_large_for_tables_are_joined_under_the_adaptive_planner() {
    dimensions_are_joined(Planner::Adaptive).await;
}

async fn dimensions_are_joined(planner: Planner) {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let by_age = SHIPPED
        .iter()
        .find(|shipped| shipped.name == "age-date-ranking");
    let by_age = by_age.unwrap();
    let jobs = [(by_age.name, by_age.yaml), ("by-network", BY_NETWORK)];
    let options = SessionOptions {
        table_bytes: Some(0),
        ..SessionOptions::default()
    };
    let tables = Session::new(&SessionOptions::default()).unwrap();
    let joins = Session::new(&options).unwrap();
    let cluster = cluster_of_two(&joins, folder.path(), planner).await;
    let joins = joins.with_compute(cluster);
    let mut reports = Vec::new();
    for (place, session) in [(&here, &tables), (&there, &joins)] {
        lake(place).await;
        write_networks(place).await;
        for (name, yaml) in jobs {
            reports.push(run_one(session, place, name, yaml).await);
        }
    }
    let (of_tables, of_joins) = reports.split_at(2);
    for (with_table, joined) in of_tables.iter().zip(of_joins) {
        assert_eq!(with_table.rows, joined.rows);
        let unmatched = |report: &RunReport| report.unmatched[0].rows;
        assert_eq!(unmatched(with_table), unmatched(joined));
        let says = |words: &str| {
            joined
                .skew
                .decisions
                .iter()
                .any(|said| said.contains(words))
        };
        assert!(
            says("the dimension's table would take"),
            "{:?}",
            joined.skew
        );
        assert!(says("hot key"), "{:?}", joined.skew);
        // Not in the scheduler's process.
        let exchanged = "distinct values go to the tasks by their own hash";
        assert!(says(exchanged), "{:?}", joined.skew);
        let joins = joined.skew.columns.iter();
        assert_eq!(
            joins.filter(|column| column.role == Role::JoinKey).count(),
            1
        );
    }
    assert!(of_joins[1].unmatched[0].rows > 0);
    let names = jobs.map(|(name, _)| name);
    let (here, there) = (published(&here, &names), published(&there, &names));
    assert_eq!(here.len(), 2 * 3 * 2);
    for (name, bytes) in &here {
        assert!(there[name] == *bytes, "{name} differs");
    }
}

/// Two executors with a slot each, in this process.
pub(crate) async fn cluster_of_two(
    session: &Session,
    folder: &Path,
    planner: Planner,
) -> Arc<Cluster> {
    cluster_with_memory(session, folder, planner, 1 << 30).await
}

/// Two executors, with so much memory each.
pub(crate) async fn cluster_with_memory(
    session: &Session,
    folder: &Path,
    planner: Planner,
    memory_bytes: u64,
) -> Arc<Cluster> {
    let options = Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        planner,
        ..Options::default()
    };
    let cluster = Cluster::start(options, session).await.unwrap();
    let port = cluster.address().port();
    for i in 0..2 {
        let work_dir = folder.join(format!("executor{i}"));
        tokio::spawn(executor_with_memory(port, work_dir, memory_bytes));
    }
    while cluster.executors().await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster
}

/// Queries of the shapes that are known to go wrong where a plan is cut into stages.
const QUERIES: [&str; 15] = [
    "SELECT count(*) AS n, count(DISTINCT user_id) AS u, sum(session_id % 7) AS s FROM clicks",
    "SELECT action, count(*) AS n, avg(session_id % 10) AS a, approx_percentile_cont(session_id % 1000, 0.95) AS p
     FROM clicks GROUP BY action",
    // The left side is the smaller one, and has rows without a match.
    "SELECT p.genre, count(u.user_id) AS n FROM performances p
     LEFT JOIN users u ON p.performance_id = u.user_id GROUP BY p.genre",
    "SELECT u.region, count(*) AS n FROM users u LEFT JOIN clicks c ON u.user_id = c.user_id
     WHERE c.click_id IS NULL GROUP BY u.region",
    "SELECT count(*) AS n, count(p.performance_id) AS m, count(u.user_id) AS k FROM performances p
     FULL JOIN users u ON p.performance_id = u.user_id",
    // A self-join on an aggregate.
    "WITH d AS (SELECT performance_id AS p, count(*) AS n FROM clicks GROUP BY performance_id)
     SELECT a.n, count(*) AS pairs FROM d a JOIN d b ON a.n = b.n AND a.p < b.p GROUP BY a.n",
    "SELECT count(*) AS n FROM clicks a JOIN clicks b
     ON a.session_id = b.session_id AND a.click_id < b.click_id WHERE a.performance_id <> b.performance_id",
    "SELECT count(*) AS n FROM users WHERE user_id IN (SELECT user_id FROM clicks WHERE action = 'like')",
    "SELECT count(*) AS n FROM users
     WHERE user_id NOT IN (SELECT user_id FROM clicks WHERE user_id IS NOT NULL)",
    "SELECT count(*) AS n FROM clicks WHERE session_id > (SELECT avg(session_id) FROM clicks)",
    "SELECT action, platform, n FROM (SELECT action, platform, count(*) AS n,
       row_number() OVER (PARTITION BY action ORDER BY count(*) DESC, platform) AS r
     FROM clicks GROUP BY action, platform) WHERE r <= 2",
    "SELECT 'a' AS t, count(*) AS n FROM clicks UNION ALL SELECT 'b', count(*) FROM users
     UNION ALL SELECT genre, price_krw FROM (SELECT genre, max(price_krw) AS price_krw FROM performances GROUP BY genre)",
    // Each task sends the first clicks of an action on.
    "SELECT action, click_id, platform FROM (SELECT *, row_number() OVER (PARTITION BY action ORDER BY clicked_at DESC, click_id) AS r
     FROM clicks) WHERE r <= 3 AND platform <> 'yes24'",
    "SELECT performance_id, title FROM performances ORDER BY performance_id DESC LIMIT 7",
    // No equality: a nested loop, with rows of the left side that match nothing.
    "SELECT p.performance_id % 50 AS k, count(q.performance_id) AS n FROM performances p
     LEFT JOIN performances q ON p.price_krw > q.price_krw + 100000 GROUP BY p.performance_id % 50",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queries_give_the_same_rows_embedded_and_on_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    lake(folder.path()).await;
    let session = Session::new(&SessionOptions::default()).unwrap();
    for (name, place) in [
        ("clicks", "stage/ticket_clicks"),
        ("users", "dim/users"),
        ("performances", "dim/performances"),
    ] {
        let path = folder.path().join(place);
        let read =
            session
                .context()
                .register_parquet(name, path.to_str().unwrap(), Default::default());
        read.await.unwrap();
    }
    let cluster = cluster_of_two(&session, folder.path(), Planner::Static).await;
    let there = session.clone().with_compute(cluster);
    for query in QUERIES {
        let plan = session
            .context()
            .sql(query)
            .await
            .unwrap()
            .into_unoptimized_plan();
        let mut found = Vec::new();
        for session in [&session, &there] {
            let rows = session.execute("a query", &plan, &|_| {}).await;
            let rows = rows.unwrap_or_else(|e| panic!("{query}: {e:?}"));
            let text = pretty_format_batches(&rows.batches).unwrap().to_string();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            found.push(lines);
        }
        assert_eq!(found[0], found[1], "{query}");
    }
}

pub(crate) async fn executor(scheduler: u16, work_dir: PathBuf) {
    executor_with_memory(scheduler, work_dir, 1 << 30).await;
}

async fn executor_with_memory(scheduler: u16, work_dir: PathBuf, memory_bytes: u64) {
    let options = rankmill_executor::Options {
        schedulers: vec![format!("127.0.0.1:{scheduler}")],
        slots: 1,
        port: 0,
        grpc_port: 0,
        work_dir,
        bind: [127, 0, 0, 1].into(),
        advertise: None,
        memory_bytes: Some(memory_bytes),
        tls: None,
        drain_timeout: Duration::from_secs(5),
        retry: Default::default(),
        workers: Default::default(),
    };
    rankmill_executor::run_until(options, std::future::pending())
        .await
        .unwrap();
}
