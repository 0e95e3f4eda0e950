//! Segments of the index: many runs that have ended, in one object.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::folder::{Folder, Written, encode};
use super::index::Indexed;
use super::layout::Layout;
use crate::error::{Error, Result};

/// Runs in one segment, at most.
pub(crate) const SEGMENT_RUNS: usize = 1_000;

/// Ended runs of one month. Written once; a run may be in several, always the same.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) runs: Vec<Indexed>,
}

/// Writes a segment of a month.
pub(crate) async fn write_segment(
    folder: &Folder,
    layout: &Layout,
    month: &str,
    runs: Vec<Indexed>,
) -> Result<()> {
    let path = layout.segment(month, &Uuid::now_v7().to_string());
    let bytes = encode(&path, &Segment { runs })?;
    match folder.write(&path, bytes, None).await? {
        Written::Done(_) => Ok(()),
        Written::Conflict(_) => Err(Error::Conflict {
            reason: format!("{path} exists already"),
        }),
    }
}
