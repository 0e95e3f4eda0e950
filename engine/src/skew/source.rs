//! The hot keys of any dataset.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::physical_plan::{ExecutionPlanProperties, execute_stream_partitioned};
use futures::TryStreamExt;

use super::advice::{Advice, Circumstances};
use super::{ColumnSketch, HotColumn, Role};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::source::{Format, SourceFile, SourcePath, SourceTable, list_files};

/// What was found in a dataset.
#[derive(Debug, Clone)]
pub struct SourceSkew {
    /// The column's hot keys, in the files that were read.
    pub found: HotColumn,
    /// Files that were read.
    pub files_read: usize,
    /// Files that the dataset has.
    pub files: usize,
    /// What rankmill would do with the column.
    pub advice: Advice,
}

/// Looks for the hot keys of a column in files of a dataset, at most `max_files` of them, evenly
/// chosen in the order of their names.
///
/// # Errors
/// If there are no files, or no such column, if its values are neither integers nor texts, dates or
/// timestamps, or if a file can't be read.
pub async fn skew_of_source(
    session: &Session,
    source: &SourcePath,
    format: Format,
    column: &str,
    max_files: usize,
) -> Result<SourceSkew> {
    let all = list_files(session, source, format, None, None).await?;
    let files = all.len();
    let step = files.div_ceil(max_files.max(1)).max(1);
    let chosen: Vec<SourceFile> = all.into_iter().step_by(step).collect();
    let files_read = chosen.len();
    let table = SourceTable::open(session, source, format, chosen).await?;
    let range = table.range(column);
    let frame = session.context().read_table(Arc::new(table))?;
    let schema = frame.schema().clone();
    let unfit = |reason: String| Error::Column {
        path: source.base().to_string(),
        reason,
    };
    let field = schema.field_with_unqualified_name(column).map_err(|_| {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        unfit(format!(
            "has no column '{column}'; it has {}",
            names.join(", ")
        ))
    })?;
    let sketch = || {
        ColumnSketch::new(column, Role::Column, field.data_type()).ok_or_else(|| {
            let data_type = field.data_type();
            unfit(format!(
                "has '{column}' as {data_type}; hot keys are found among integers, texts, dates and timestamps"
            ))
        })
    };
    let plan = frame.select_columns(&[column])?;
    let plan = plan.create_physical_plan().await?;
    let mut sketches = Vec::new();
    for _ in 0..plan.output_partitioning().partition_count() {
        sketches.push(sketch()?);
    }
    let streams = execute_stream_partitioned(plan, session.context().task_ctx())?;
    let mut tasks = tokio::task::JoinSet::new();
    for (mut stream, mut sketch) in streams.into_iter().zip(sketches) {
        tasks.spawn(async move {
            while let Some(batch) = stream.try_next().await? {
                sketch.add(batch.column(0))?;
            }
            sketch.finish(usize::MAX)
        });
    }
    let mut found: Option<HotColumn> = None;
    while let Some(task) = tasks.join_next().await {
        let task = task.map_err(|e| DataFusionError::External(Box::new(e)))?;
        match (&mut found, task?) {
            (Some(found), Some(more)) => found.add(more, usize::MAX),
            (None, more) => found = more,
            (Some(_), None) => {}
        }
    }
    let found = found.unwrap_or_else(|| HotColumn::empty(column, Role::Column));
    let advice = Advice::new(
        &found,
        &Circumstances {
            data_type: field.data_type(),
            range: range.as_ref(),
            table_limit: session.table_limit(),
            tasks: session.context().copied_config().target_partitions(),
        },
    );
    Ok(SourceSkew {
        found,
        files_read,
        files,
        advice,
    })
}
