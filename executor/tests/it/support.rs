//! A small table, a scheduler, and ways to wait.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::ParquetReadOptions;
use parquet::arrow::ArrowWriter;
use rankmill_engine::store::RetryPolicy;
use rankmill_engine::transport::NodeTls;
use rankmill_engine::{Compute, Result, Session, SessionOptions};
use rankmill_executor::Options;
use rankmill_scheduler::cluster::{self, Cluster};

const FILES: i64 = 6;
const ROWS: i64 = 20_000;

/// Aggregates, with a distinct count, rankmill's own functions, a shuffle and a total order.
pub(crate) const QUERY: &str = "
    SELECT page, count(*) AS hits, count(DISTINCT \"user\") AS users, sum(bytes) AS bytes,
           avg(bytes) AS mean, age_band(DATE '1990-05-01', DATE '2026-06-01') AS band
    FROM clicks GROUP BY page ORDER BY hits DESC, page";

/// Minutes of work in a few tasks that read and combine all rows.
pub(crate) const LONG_QUERY: &str = "
    SELECT a.page, sum(a.\"user\" % 7 + b.bytes % 11) AS v FROM clicks a JOIN clicks b
    ON a.bytes % 5 = b.bytes % 5 AND a.\"user\" + b.\"user\" % 3 > 0 GROUP BY 1";

/// A few seconds of work in each of some tasks.
pub(crate) const SLOW_QUERY: &str = "
    SELECT page, sum(n) AS n FROM (SELECT page, length(md5(repeat(page, 300 + bytes % 7))) AS n
    FROM clicks) GROUP BY page ORDER BY page";

/// A session that knows the table `clicks`, whose files lie in `folder`.
pub(crate) async fn session(folder: &Path) -> Session {
    let clicks = folder.join("clicks");
    if !clicks.exists() {
        std::fs::create_dir_all(&clicks).unwrap();
        (0..FILES).for_each(|file| write(&clicks, file));
    }
    let session = Session::new(&SessionOptions::default()).unwrap();
    session
        .context()
        .register_parquet(
            "clicks",
            clicks.to_str().unwrap(),
            ParquetReadOptions::new(),
        )
        .await
        .unwrap();
    session
}

fn write(folder: &Path, file: i64) {
    let rows = file * ROWS..(file + 1) * ROWS;
    let ints = |f: fn(i64) -> i64| Arc::new(rows.clone().map(f).collect::<Int64Array>());
    let pages: StringArray = rows
        .clone()
        .map(|i| Some(format!("/page/{}", (i * i) % 97)))
        .collect();
    let batch = RecordBatch::try_from_iter([
        ("user", ints(|i| (i * 31) % 5003) as _),
        ("page", Arc::new(pages) as _),
        ("bytes", ints(|i| i % 1009) as _),
    ])
    .unwrap();
    let out = std::fs::File::create(folder.join(format!("part-{file}.parquet"))).unwrap();
    let mut writer = ArrowWriter::try_new(out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

pub(crate) async fn plan(session: &Session, sql: &str) -> LogicalPlan {
    session
        .context()
        .sql(sql)
        .await
        .unwrap()
        .into_unoptimized_plan()
}

/// The rows of a query as text, computed wherever the session computes.
pub(crate) async fn rows(session: &Session, sql: &str) -> Result<String> {
    let plan = plan(session, sql).await;
    let computed = session.execute("test", &plan, &|_| {}).await?;
    Ok(pretty_format_batches(&computed.batches)
        .unwrap()
        .to_string())
}

/// A scheduler in this process, and the session that computes on its executors.
pub(crate) async fn cluster(session: &Session, tls: Option<NodeTls>) -> (Session, Arc<Cluster>) {
    let options = cluster::Options {
        bind: "127.0.0.1:0".parse().unwrap(),
        tls,
        ..cluster::Options::default()
    };
    let cluster = Cluster::start(options, session).await.unwrap();
    let compute: Arc<dyn Compute> = Arc::clone(&cluster) as _;
    (session.clone().with_compute(compute), cluster)
}

/// An executor for the scheduler at `scheduler`, working below `folder`.
pub(crate) fn options(scheduler: String, folder: &Path) -> Options {
    Options {
        schedulers: vec![scheduler],
        bind: IpAddr::from([127, 0, 0, 1]),
        advertise: None,
        port: 0,
        grpc_port: 0,
        slots: 2,
        memory_bytes: Some(1 << 30),
        work_dir: folder.join("work"),
        tls: None,
        drain_timeout: Duration::from_secs(120),
        retry: RetryPolicy::default(),
        workers: Default::default(),
    }
}

/// An executor in this process; it ends with the test's runtime.
pub(crate) fn spawn(options: Options) {
    tokio::spawn(async move {
        let stopped = rankmill_executor::run_until(options, std::future::pending()).await;
        panic!("an executor ended: {stopped:?}");
    });
}

/// Waits until that many executors take tasks.
pub(crate) async fn until_executors(cluster: &Cluster, count: usize) {
    until("executors", async || {
        cluster.executors().await.len() == count
    })
    .await;
}

/// Waits for a condition; a test that waits in vain fails with `what`.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
