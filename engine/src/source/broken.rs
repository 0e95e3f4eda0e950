//! Finds the file behind a decoding error, which does not say where it happened.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::DataFrame;
use futures::StreamExt;

use super::Format;
use super::listing::{SourceFile, SourcePath};
use super::table::SourceTable;
use crate::error::Error;
use crate::session::Session;

/// Decodes each file on its own and names the first that can't be; `None` if all can. Reads
/// everything: for use after a failure only.
pub async fn find_broken_file(
    session: &Session,
    source: &SourcePath,
    format: Format,
    files: &[SourceFile],
) -> Option<Error> {
    for file in files {
        let table = SourceTable::open(session, source, format, vec![file.clone()]).await;
        let decoded = match table {
            Err(error @ Error::BrokenFile { .. }) => return Some(error),
            Err(_) => continue,
            Ok(table) => decode(session, table).await,
        };
        if let Err(cause) = decoded {
            return Some(Error::BrokenFile {
                path: source.base().display(&file.meta.location),
                format: format.name(),
                source: Box::new(cause),
            });
        }
    }
    None
}

async fn decode(session: &Session, table: SourceTable) -> datafusion::error::Result<()> {
    let frame: DataFrame = session.context().read_table(Arc::new(table))?;
    let plan: Arc<dyn ExecutionPlan> = frame.create_physical_plan().await?;
    let mut batches = execute_stream(plan, session.context().task_ctx())?;
    while let Some(batch) = batches.next().await {
        batch?;
    }
    Ok(())
}
