//! Changing the records of jobs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::UpdateVersion;
use rankmill_jobs::spec::{Params, Spec, parse as parse_spec};

use super::Core;
use crate::error::{Error, Result};
use crate::model::{Job, JobRecord};
use crate::records::{Stored, Written, encode, new_jobs, parse};

/// A job, with its spec parsed.
#[derive(Debug)]
pub(crate) struct JobEntry {
    pub(crate) job: Job,
    version: UpdateVersion,
    /// What is wrong with the spec, if this version of rankmill doesn't take it any more.
    spec: Result<(Spec, Params), String>,
}

impl JobEntry {
    /// Its spec and the values of its placeholders.
    pub(crate) fn spec(&self) -> Result<(&Spec, &Params)> {
        match &self.spec {
            Ok((spec, params)) => Ok((spec, params)),
            Err(reason) => Err(Error::invalid("spec", reason)),
        }
    }
}

impl Core {
    /// Adds or replaces a job as it was found in the lake.
    pub(crate) fn know_job(&self, stored: Stored<JobRecord>) -> Arc<JobEntry> {
        let job = stored.value.job;
        let params = Params::new(&self.lake, job.set.clone());
        let spec = match parse_spec(&job.spec, &job.name, &params) {
            Ok(spec) => Ok((spec, params)),
            Err(error) => {
                tracing::error!(job = job.name, %error, "a job's spec is not taken any more");
                Err(error.to_string())
            }
        };
        let entry = Arc::new(JobEntry {
            job,
            version: stored.version,
            spec,
        });
        let name = entry.job.name.clone();
        self.state().jobs.insert(name, Arc::clone(&entry));
        entry
    }

    /// By name.
    pub(crate) fn jobs(&self) -> Vec<Arc<JobEntry>> {
        self.state().jobs.values().cloned().collect()
    }

    /// One job.
    pub(crate) fn job(&self, name: &str) -> Result<Arc<JobEntry>> {
        let entry = self.state().jobs.get(name).cloned();
        entry.ok_or_else(|| no_job(name))
    }

    /// Reads the records of jobs that other hands have changed.
    pub(crate) async fn refresh_jobs(&self, corrupt: &mut Vec<Error>) -> Result<()> {
        let _no_other_writes = self.job_writes.lock().await;
        let version = |name: &str| {
            let state = self.state();
            state.jobs.get(name).and_then(|e| e.version.e_tag.clone())
        };
        let (jobs, names) = new_jobs(&self.folder, &self.layout, version, corrupt).await?;
        for job in jobs {
            self.check_epoch(&job.value)?;
            self.know_job(job);
        }
        self.state().jobs.retain(|name, _| names.contains(name));
        Ok(())
    }

    /// Changes a job's record: `change` is given what it says, if it is there, and may be called
    /// several times.
    pub(crate) async fn write_job(
        &self,
        name: &str,
        change: impl Fn(Option<&Job>) -> Result<Job>,
    ) -> Result<Arc<JobEntry>> {
        self.check_open()?;
        let _one_at_a_time = self.job_writes.lock().await;
        let path = self.layout.job(name);
        let mut seen = self.job(name).ok().map(|entry| Stored {
            value: entry.job.clone(),
            version: entry.version.clone(),
        });
        loop {
            let value = JobRecord {
                job: change(seen.as_ref().map(|seen| &seen.value))?,
                epoch: self.epoch,
            };
            let bytes = encode(&path, &value)?;
            let version = seen.as_ref().map(|seen| &seen.version);
            let written = self.folder.write(&path, bytes, version).await;
            match written.map_err(Error::perhaps_done)? {
                Written::Done(version) => {
                    // Only now is it sure that a successor reads it.
                    self.check_leads().map_err(Error::unsure)?;
                    return Ok(self.know_job(Stored { value, version }));
                }
                Written::Conflict(None) => seen = None,
                Written::Conflict(Some((bytes, version))) => {
                    let found: JobRecord = parse(&path, &bytes)?;
                    self.check_epoch(&found)?;
                    let value = found.job;
                    seen = Some(Stored { value, version });
                }
            }
        }
    }

    /// Removes a job.
    pub(crate) async fn remove_job(&self, name: &str) -> Result<()> {
        self.check_open()?;
        let _one_at_a_time = self.job_writes.lock().await;
        self.job(name)?;
        let path = self.layout.job(name);
        if let Some(found) = self.folder.read_record::<JobRecord>(&path).await? {
            self.check_epoch(&found.value)?;
        }
        let deleted = self.folder.delete(&path).await;
        deleted.map_err(Error::perhaps_done)?;
        self.check_leads().map_err(Error::unsure)?;
        self.state().jobs.remove(name);
        Ok(())
    }

    /// Whether a record was not written by a later leader.
    fn check_epoch(&self, found: &JobRecord) -> Result<()> {
        match found.epoch > self.epoch {
            true => Err(self.lost_to(found.epoch)),
            false => Ok(()),
        }
    }

    /// Remembers that the schedule of a job has been followed up to a time.
    pub(crate) async fn fired(&self, name: &str, until: DateTime<Utc>) -> Result<()> {
        self.write_job(name, |job| {
            let mut job = job.ok_or_else(|| no_job(name))?.clone();
            job.fired_until = job.fired_until.max(until);
            Ok(job)
        })
        .await
        .map(drop)
    }
}

/// There is no such job.
pub(crate) fn no_job(name: &str) -> Error {
    Error::NotFound {
        what: "job",
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
