//! Fetches the result of a Ballista job from the executors that hold it.

use std::sync::Arc;

use ballista_core::client::BallistaClient;
use ballista_core::error::BallistaError;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf::PartitionLocation;
use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use rankmill_engine::transport::EndpointOverride;

use super::MAX_MESSAGE_BYTES;

/// Bytes of a result that the scheduler takes into its memory. Rankings have some thousand rows;
/// what is larger is a query that was not meant as a ranking.
const MAX_RESULT_BYTES: usize = 1 << 30;
/// Tries of one partition, and milliseconds between them.
const TRIES: u8 = 3;
const WAIT_MS: u64 = 200;

/// Why there is no result.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The executors that have it don't give it.
    Lost(BallistaError),
    /// It has more bytes than this.
    TooLarge(usize),
}

impl From<BallistaError> for FetchError {
    fn from(error: BallistaError) -> Self {
        Self::Lost(error)
    }
}

/// The batches of all partitions, in their order.
pub(super) async fn fetch(
    locations: Vec<PartitionLocation>,
    endpoint: &EndpointOverride,
) -> Result<Vec<RecordBatch>, FetchError> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    for location in locations {
        let layout = location.layout();
        let missing = || BallistaError::Internal("a result without a place".to_owned());
        let executor = location.executor_meta.ok_or_else(missing)?;
        let partition = location.partition_id.ok_or_else(missing)?;
        let mut client = BallistaClient::try_new(
            &executor.host,
            executor.port as u16,
            MAX_MESSAGE_BYTES as usize,
            // The override speaks TLS where it is asked for.
            false,
            Some(Arc::new(BallistaConfigGrpcEndpoint::new(Arc::clone(
                endpoint,
            )))),
            TRIES,
            WAIT_MS,
            0,
            0,
        )
        .await?;
        let mut stream = client
            .fetch_partition(
                &executor.id,
                &partition.into(),
                location.file_id,
                layout,
                true,
            )
            .await?;
        while let Some(batch) = stream.try_next().await.map_err(BallistaError::from)? {
            bytes += batch.get_array_memory_size();
            if bytes > MAX_RESULT_BYTES {
                return Err(FetchError::TooLarge(MAX_RESULT_BYTES));
            }
            batches.push(batch);
        }
    }
    Ok(batches)
}
