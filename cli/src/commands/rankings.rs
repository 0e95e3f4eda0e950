//! `rankmill rankings`: what is published.

use anyhow::{Context, bail};
use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt, stream};
use rankmill_jobs::publication::{
    Commit, Outcome, RunId, Target, history, list_dates, read_current, rollback,
};
use rankmill_jobs::{Error, read_ranking, target_of};
use serde_json::json;

use crate::args::{Format, RankingsArgs, RankingsCommand};
use crate::environment::{Environment, Job};
use crate::outcome::{FAILED, Usage};
use crate::output;
use crate::table;

/// Commit points read at once.
const CONCURRENT_READS: usize = 16;

pub(crate) async fn run(environment: &Environment, args: RankingsArgs) -> anyhow::Result<u8> {
    let choice = match &args.command {
        RankingsCommand::Show { job, .. }
        | RankingsCommand::List { job }
        | RankingsCommand::History { job, .. }
        | RankingsCommand::Rollback { job, .. } => job,
    };
    let job = environment.job(choice)?;
    let session = environment.session()?;
    let target = target_of(&session, &job.spec, &job.params)?;
    let view = View {
        environment,
        job: &job,
        target: &target,
    };
    match &args.command {
        RankingsCommand::Show {
            date,
            filters,
            show,
            ..
        } => view.show(date.as_deref(), filters, *show).await,
        RankingsCommand::List { .. } => view.list().await,
        RankingsCommand::History { date, .. } => view.history(job.date(date)?).await,
        RankingsCommand::Rollback { date, to, .. } => view.rollback(job.date(date)?, *to).await,
    }
}

struct View<'a> {
    environment: &'a Environment,
    job: &'a Job,
    target: &'a Target,
}

impl View<'_> {
    async fn show(
        &self,
        date: Option<&str>,
        filters: &[(String, String)],
        show: Option<usize>,
    ) -> anyhow::Result<u8> {
        let date = match date {
            Some(date) => self.job.date(date)?,
            // Not the hint of latest.json: it may lag behind.
            None => self
                .dates()
                .await?
                .pop()
                .with_context(|| format!("{}: nothing is published yet", self.job.spec.name))?,
        };
        let name = &self.job.spec.name;
        let Some((commit, rows)) = read_ranking(self.target, name, date).await? else {
            bail!("{name}: {date} is not published");
        };
        let rows = table::filtered(rows, filters).map_err(|e| Usage(e.to_string()))?;
        let rows = match show {
            Some(show) => table::top(&rows, show)?,
            None => rows,
        };
        match self.environment.format {
            Format::Table => {
                output::line(format_args!(
                    "{name} {date}, generation {}",
                    commit.id.generation
                ))?;
                output::line(format_args!("{}", table::render(&rows)?))?;
            }
            Format::Json => output::line(format_args!(
                "{}",
                json!({
                    "job": name,
                    "date": date.to_string(),
                    "generation": commit.id.generation,
                    "rows": table::to_json(&rows)?,
                })
            ))?,
        }
        Ok(0)
    }

    async fn list(&self) -> anyhow::Result<u8> {
        let dates = self.dates().await?;
        let commits: Vec<Option<Commit>> = stream::iter(dates)
            .map(|date| read_current(self.target, date))
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await
            .map_err(|e| self.failed(e))?;
        let commits: Vec<Commit> = commits.into_iter().flatten().collect();
        self.print_commits(&commits)
    }

    async fn history(&self, date: NaiveDate) -> anyhow::Result<u8> {
        let commits = history(self.target, date)
            .await
            .map_err(|e| self.failed(e))?;
        if commits.is_empty() {
            bail!("{}: {date} is not published", self.job.spec.name);
        }
        self.print_commits(&commits)
    }

    async fn rollback(&self, date: NaiveDate, to: u64) -> anyhow::Result<u8> {
        let name = &self.job.spec.name;
        let rolled = rollback(self.target, date, to, RunId::new()).await;
        let (text, generation, code) = match rolled.map_err(|e| self.failed(e))? {
            Outcome::Committed { generation } => {
                let text =
                    format!("{name} {date}: generation {generation} is generation {to} again");
                (text, generation, 0)
            }
            Outcome::AlreadyCurrent { by } => {
                let text = format!(
                    "{name} {date}: generation {} is that already",
                    by.generation
                );
                (text, by.generation, 0)
            }
            Outcome::Fenced { by } => {
                let text = format!(
                    "{name} {date}: fenced: run {} published generation {} meanwhile",
                    by.run_id, by.generation
                );
                (text, by.generation, FAILED)
            }
        };
        match self.environment.format {
            Format::Table => output::line(format_args!("{text}"))?,
            Format::Json => output::line(format_args!(
                "{}",
                json!({ "generation": generation, "message": text })
            ))?,
        }
        Ok(code)
    }

    async fn dates(&self) -> anyhow::Result<Vec<NaiveDate>> {
        Ok(list_dates(self.target).await.map_err(|e| self.failed(e))?)
    }

    fn failed(&self, source: rankmill_jobs::publication::Error) -> Error {
        Error::Publication {
            job: self.job.spec.name.clone(),
            source: Box::new(source),
        }
    }

    fn print_commits(&self, commits: &[Commit]) -> anyhow::Result<u8> {
        match self.environment.format {
            Format::Json => output::line(format_args!("{}", json!(commits)))?,
            Format::Table => {
                output::line(format_args!(
                    "date        generation    rows  inputs  committed at          run"
                ))?;
                for commit in commits {
                    output::line(format_args!(
                        "{}  {:>10}  {:>6}  {:>6}  {}  {}{}",
                        commit.date,
                        commit.id.generation,
                        commit.rows,
                        commit.fingerprint.inputs.len(),
                        commit.committed_at.format("%Y-%m-%dT%H:%M:%SZ"),
                        commit.id.run_id,
                        match commit.rolled_back_to {
                            Some(generation) => format!("  is generation {generation} again"),
                            None => String::new(),
                        },
                    ))?;
                }
            }
        }
        Ok(0)
    }
}
