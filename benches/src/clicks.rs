//! Shipped jobs over days of skewed clicks.

use anyhow::Context;
use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use rankmill_datagen::Config;
use rankmill_engine::{Session, SessionOptions};
use rankmill_jobs::spec::{Params, Spec, parse};
use rankmill_jobs::{RunRequest, read_ranking, target_of};

use crate::bench_lake;

const DAYS: u32 = 4;

/// A lake with clicks of four days and a million users.
#[derive(Debug)]
pub struct Clicks {
    /// Path of its folder.
    pub lake: String,
    /// Clicks over all days.
    pub rows: u64,
    /// Its days, in order.
    pub dates: Vec<NaiveDate>,
}

impl Clicks {
    /// Generates it with so many clicks, or with those that `RANKMILL_BENCH_ROWS` says.
    pub async fn generate(default_rows: u64) -> anyhow::Result<Self> {
        let rows = match std::env::var("RANKMILL_BENCH_ROWS") {
            Ok(rows) => rows.parse().context("RANKMILL_BENCH_ROWS")?,
            Err(_) => default_rows,
        };
        let config = Config {
            click_rows: rows,
            web_rows: 0,
            days: DAYS,
            users: 1_000_000,
            ..Config::default()
        };
        let dates = config.from.iter_days().take(DAYS as usize).collect();
        let folder = bench_lake(config).await?;
        let lake = folder.to_str().context("the lake's path is not UTF-8")?;
        Ok(Self {
            lake: lake.to_owned(),
            rows,
            dates,
        })
    }

    /// A shipped job over these clicks.
    pub fn job(&self, name: &str, dates: &[NaiveDate]) -> anyhow::Result<Job> {
        let shipped = rankmill_jobs::shipped::find(name).context("not a shipped job")?;
        let params = Params::new(&self.lake, Default::default());
        Ok(Job {
            spec: parse(shipped.yaml, shipped.name, &params)?,
            params,
            request: RunRequest {
                dates: dates.to_vec(),
                force: true,
                allow_empty: false,
                dates_per_pass: None,
            },
        })
    }
}

/// A job, and a run of it that publishes whatever is current.
#[derive(Debug)]
pub struct Job {
    /// What it computes.
    pub spec: Spec,
    /// Where.
    pub params: Params,
    /// For which dates.
    pub request: RunRequest,
}

impl Job {
    /// What it has published for the dates of its run.
    pub async fn published(&self) -> anyhow::Result<Vec<RecordBatch>> {
        let session = Session::new(&SessionOptions::default())?;
        let target = target_of(&session, &self.spec, &self.params)?;
        let mut all = Vec::new();
        for date in &self.request.dates {
            let ranking = read_ranking(&target, &self.spec.name, *date).await?;
            all.push(ranking.context("not published")?.1);
        }
        Ok(all)
    }

    /// What it is called in results.
    pub fn title(&self) -> String {
        format!("{}, {} dates", self.spec.name, self.request.dates.len())
    }
}
