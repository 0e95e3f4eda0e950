//! `rankmill jobs`: the jobs of a cluster.

use std::collections::HashMap;

use rankmill_scheduler::proto::{
    ApplyJobRequest, DeleteJobRequest, GetJobRequest, Job, ListJobsRequest, PauseJobRequest,
    ResumeJobRequest,
};
use serde_json::{Value, json};

use crate::args::{Format, JobsArgs, JobsCommand};
use crate::cluster::{Cluster, Repeat, job_json, job_text, jobs_table, time};
use crate::environment::{Environment, spec_text};
use crate::output;

pub(crate) async fn run(environment: &Environment, args: JobsArgs) -> anyhow::Result<u8> {
    let cluster = Cluster::new(&args.cluster, environment.quiet)?;
    match args.command {
        JobsCommand::Apply { specs, set } => {
            // All specs are read, and found to be ones, before the first is applied.
            let texts = specs
                .iter()
                .map(|choice| {
                    environment.parse(choice, &set)?;
                    spec_text(choice)
                })
                .collect::<anyhow::Result<Vec<String>>>()?;
            let set: HashMap<String, String> = set.into_iter().collect();
            let mut applied = Vec::new();
            for spec in texts {
                let set = set.clone();
                let job = apply(&cluster, ApplyJobRequest { spec, set }).await?;
                if environment.format == Format::Table {
                    output::line(applied_text(&job))?;
                }
                applied.push(job_json(&job));
            }
            if environment.format == Format::Json {
                output::line(Value::from(applied))?;
            }
        }
        JobsCommand::List => {
            let request = ListJobsRequest {};
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.list_jobs(request).await
            });
            let jobs = answer.await?.jobs;
            match environment.format {
                Format::Table => output::line(jobs_table(&jobs))?,
                Format::Json => output::line(jobs.iter().map(job_json).collect::<Value>())?,
            }
        }
        JobsCommand::Show { name } => {
            let request = GetJobRequest { name };
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.get_job(request).await
            });
            let job = answer.await?;
            print(environment, &job, job_text(&job))?;
        }
        JobsCommand::Pause { name } => {
            let request = PauseJobRequest { name };
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.pause_job(request).await
            });
            let job = answer.await?;
            print(environment, &job, format!("{}: paused", job.name))?;
        }
        JobsCommand::Resume { name } => {
            let request = ResumeJobRequest { name };
            let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
                client.resume_job(request).await
            });
            let job = answer.await?;
            let next = time(job.next_at).map_or("on demand only".to_owned(), |at| {
                format!("the next run is at {at}")
            });
            print(environment, &job, format!("{}: resumed; {next}", job.name))?;
        }
        JobsCommand::Delete { name } => {
            let request = DeleteJobRequest { name: name.clone() };
            let answer = cluster.call(Repeat::Unsafe, request, async |mut client, request| {
                client.delete_job(request).await
            });
            answer.await?;
            match environment.format {
                Format::Table => {
                    output::line(format_args!("{name}: deleted; its runs and rankings stay"))?
                }
                Format::Json => output::line(json!({ "name": name, "deleted": true }))?,
            }
        }
    }
    Ok(0)
}

/// Applying the same spec twice only counts one revision more.
async fn apply(cluster: &Cluster, request: ApplyJobRequest) -> anyhow::Result<Job> {
    let answer = cluster.call(Repeat::Safe, request, async |mut client, request| {
        client.apply_job(request).await
    });
    Ok(answer.await?)
}

fn applied_text(job: &Job) -> String {
    let next = match (job.paused, time(job.next_at)) {
        (true, _) => "; it is paused".to_owned(),
        (false, Some(at)) => format!("; the next run is at {at}"),
        (false, None) => "; it runs on demand only".to_owned(),
    };
    format!("{}: applied, revision {}{next}", job.name, job.revision)
}

fn print(environment: &Environment, job: &Job, text: String) -> anyhow::Result<()> {
    match environment.format {
        Format::Table => output::line(text),
        Format::Json => output::line(job_json(job)),
    }
}
