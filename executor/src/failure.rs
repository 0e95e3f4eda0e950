//! What is said of a failed task. Ballista tries a task again only after an I/O error, so errors
//! that may pass are told as such.

use std::io;
use std::path::Path;

use ballista_core::error::BallistaError;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use rankmill_engine::store_error_is_transient;

/// The same error, or an I/O error in its place where another try may succeed: the disk of this
/// executor is full, or the object store did not answer.
pub(crate) fn told(error: DataFusionError, work_dir: &Path) -> DataFusionError {
    if is_disk_full(&error) {
        let text = format!("no space left in '{}': {error}", work_dir.display());
        return DataFusionError::IoError(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    match error.find_root() {
        DataFusionError::ObjectStore(e) if store_error_is_transient(e) => {
            DataFusionError::IoError(io::Error::other(error.to_string()))
        }
        _ => error,
    }
}

fn is_disk_full(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::IoError(e) => io_is_disk_full(e),
        DataFusionError::ArrowError(e, _) => arrow_is_disk_full(e),
        DataFusionError::External(e) => e
            .downcast_ref::<BallistaError>()
            .is_some_and(ballista_is_disk_full),
        _ => false,
    }
}

fn ballista_is_disk_full(error: &BallistaError) -> bool {
    match error {
        BallistaError::IoError(e) => io_is_disk_full(e),
        BallistaError::ArrowError(e) => arrow_is_disk_full(e),
        BallistaError::DataFusionError(e) => is_disk_full(e),
        _ => false,
    }
}

fn arrow_is_disk_full(error: &ArrowError) -> bool {
    match error {
        ArrowError::IoError(_, e) => io_is_disk_full(e),
        ArrowError::ExternalError(e) => e.downcast_ref::<io::Error>().is_some_and(io_is_disk_full),
        _ => false,
    }
}

fn io_is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::protobuf::FailedTask;

    use super::*;

    fn full() -> io::Error {
        io::Error::from_raw_os_error(28)
    }

    fn task(error: DataFusionError) -> FailedTask {
        FailedTask::from(BallistaError::from(told(
            error,
            Path::new("/scratch/executor-1"),
        )))
    }

    #[test]
    fn a_full_disk_is_named_and_tried_again_elsewhere() {
        for error in [
            DataFusionError::IoError(full()),
            DataFusionError::from(ArrowError::IoError("writing".into(), full())),
            BallistaError::from(ArrowError::from(full())).into_datafusion(),
            BallistaError::IoError(full())
                .into_datafusion()
                .context("shuffle"),
        ] {
            let text = error.to_string();
            let task = task(error);
            assert!(task.retryable, "{text}");
            assert!(task.error.contains("/scratch/executor-1"), "{}", task.error);
        }
    }

    #[test]
    fn a_store_that_does_not_answer_is_tried_again() {
        let away = object_store::Error::Generic {
            store: "S3",
            source: "connection refused".into(),
        };
        let task = task(DataFusionError::ObjectStore(Box::new(away)));
        assert!(task.retryable);
        assert!(task.error.contains("connection refused"), "{}", task.error);
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let missing = object_store::Error::NotFound {
            path: "part-0.parquet".into(),
            source: "gone".into(),
        };
        for error in [
            DataFusionError::ObjectStore(Box::new(missing)),
            DataFusionError::ResourcesExhausted("memory".into()),
            DataFusionError::Execution("division by zero".into()),
        ] {
            let text = error.to_string();
            let task = task(error);
            assert!(!task.retryable, "{text}");
        }
        let fetch = BallistaError::FetchFailed("e".into(), 1, 2, "gone".into());
        let fetch = task(fetch.into_datafusion());
        assert!(format!("{:?}", fetch.failed_reason).contains("FetchPartitionError"));
    }
}
