//! Which jobs' shuffle files are still needed.
//!
//! Ballista removes the files of a job that ends. Those of a job whose scheduler died, or whose
//! removal didn't get through, would stay for ever.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::{
    GetJobStatusParams, scheduler_grpc_client::SchedulerGrpcClient,
};
use tonic::transport::Channel;

/// How often old files are looked for.
const INTERVAL: Duration = Duration::from_secs(10);
/// Files of an ended job may still be fetched for this long after they were last written.
const KEEP: Duration = Duration::from_secs(300);
/// Those of a failed job are of no use; a task of it that still writes is given time to stop, as
/// what it writes after the removal stays behind. A disk that is full is waiting for it.
const KEEP_FAILED: Duration = Duration::from_secs(5);
/// The scheduler is asked about a job for at most this long.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the scheduler says of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Queued or running: its files are needed.
    Unfinished,
    /// Failed or cancelled: nobody reads its files.
    Failed,
    /// Done, or not known at all.
    Over,
    /// The scheduler did not answer.
    Unclear,
}

/// Asks the scheduler about the job whose folder this is.
pub(crate) async fn job_of(scheduler: &mut SchedulerGrpcClient<Channel>, folder: &Path) -> Job {
    let job_id = folder.file_name().unwrap_or_default();
    let question = GetJobStatusParams {
        job_id: job_id.to_string_lossy().into_owned(),
    };
    let asked = tokio::time::timeout(ASK_TIMEOUT, scheduler.get_job_status(question)).await;
    let Ok(Ok(answer)) = asked else {
        return Job::Unclear;
    };
    match answer.into_inner().status.and_then(|status| status.status) {
        Some(Status::Queued(_) | Status::Running(_)) => Job::Unfinished,
        Some(Status::Failed(_)) => Job::Failed,
        Some(Status::Successful(_)) | None => Job::Over,
    }
}

/// Removes, once in a while and for ever, the files of jobs that are over.
pub(crate) async fn run(mut scheduler: SchedulerGrpcClient<Channel>, shuffle: PathBuf) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        for (folder, age) in folders(shuffle.clone()).await {
            if age < KEEP_FAILED {
                continue;
            }
            match job_of(&mut scheduler, &folder).await {
                Job::Failed => {}
                Job::Over if age >= KEEP => {}
                _ => continue,
            }
            match tokio::fs::remove_dir_all(&folder).await {
                Ok(()) => {
                    tracing::info!(folder = %folder.display(), "removed files of a job that is over")
                }
                Err(e) => {
                    tracing::warn!(folder = %folder.display(), error = %e, "cannot remove files of a job that is over");
                }
            }
        }
    }
}

/// The folders of jobs, and how long ago something was written in each.
pub(crate) async fn folders(shuffle: PathBuf) -> Vec<(PathBuf, Duration)> {
    let listing = tokio::task::spawn_blocking(move || list(&shuffle));
    listing.await.unwrap_or_default()
}

fn list(shuffle: &Path) -> Vec<(PathBuf, Duration)> {
    let Ok(entries) = std::fs::read_dir(shuffle) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| {
            let age = SystemTime::now().duration_since(written(&entry.path()));
            (entry.path(), age.unwrap_or_default())
        })
        .collect()
}

/// When something was last written at a path or below it. What is gone meanwhile counts as new.
fn written(path: &Path) -> SystemTime {
    let Ok(metadata) = path.symlink_metadata() else {
        return SystemTime::now();
    };
    let own = metadata.modified().unwrap_or_else(|_| SystemTime::now());
    if !metadata.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold(own, |last, entry| last.max(written(&entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_counts() {
        let shuffle = tempfile::tempdir().unwrap();
        let stage = shuffle.path().join("job-1/2");
        std::fs::create_dir_all(&stage).unwrap();
        let old = SystemTime::now() - Duration::from_secs(1000);
        for path in [shuffle.path().join("job-1"), stage.clone()] {
            std::fs::File::open(path)
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        std::fs::write(shuffle.path().join("not-a-folder"), b"").unwrap();
        let age = |listed: Vec<(PathBuf, Duration)>| {
            assert_eq!(listed.len(), 1);
            assert!(listed[0].0.ends_with("job-1"));
            listed[0].1
        };
        assert!(age(list(shuffle.path())) >= Duration::from_secs(1000));
        std::fs::write(stage.join("data.arrow"), b"rows").unwrap();
        assert!(age(list(shuffle.path())) < Duration::from_secs(900));
    }
}
