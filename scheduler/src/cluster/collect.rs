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

/// Tries of one partition, and milliseconds between them.
const TRIES: u8 = 3;
const WAIT_MS: u64 = 200;

/// The batches of all partitions, in their order.
pub(super) async fn fetch(
    locations: Vec<PartitionLocation>,
    endpoint: &EndpointOverride,
) -> Result<Vec<RecordBatch>, BallistaError> {
    let mut batches = Vec::new();
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
        let stream = client
            .fetch_partition(
                &executor.id,
                &partition.into(),
                location.file_id,
                layout,
                true,
            )
            .await?;
        let fetched: Vec<RecordBatch> = stream.try_collect().await?;
        batches.extend(fetched);
    }
    Ok(batches)
}
