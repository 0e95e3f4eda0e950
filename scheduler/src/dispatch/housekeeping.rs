//! Keeps records in order: shortens the reading of ended runs, finds what others have written.

use std::time::Duration;

use chrono::Utc;

use super::Dispatcher;
use crate::core::{Core, STRAY_AGE};
use crate::error::Result;
use crate::model::RunId;
use crate::records::{SEGMENT_RUNS, new_runs, write_segment};

/// How often.
const TICK: Duration = Duration::from_secs(60);
/// Runs of this month that have ended are put into a segment of the index when there are so many;
/// those of a month before, once all of it has ended.
const INDEX_FROM: usize = 200;

impl Dispatcher {
    pub(super) async fn keep_house(&self) {
        loop {
            self.core.count_late();
            let result = async {
                self.core.index_ended().await?;
                self.core.find_strays().await
            };
            if let Err(error) = result.await {
                tracing::warn!("{}", error.describe());
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Core {
    /// Writes segments of the index where many runs have ended.
    pub(crate) async fn index_ended(&self) -> Result<()> {
        let this_month = RunId::first_at(Utc::now()).month();
        let take = || self.take_unindexed(&this_month, INDEX_FROM, SEGMENT_RUNS);
        while let Some((month, runs)) = take() {
            let ids = runs.iter().map(|run| run.summary.id).collect();
            let written = write_segment(&self.folder, &self.layout, &month, runs).await;
            if let Err(error) = written {
                self.put_unindexed(month, ids);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Finds runs that another scheduler queued while it lost its place, and jobs that were
    /// changed by other hands.
    pub(crate) async fn find_strays(&self) -> Result<()> {
        let mut corrupt = Vec::new();
        let since = Utc::now() - STRAY_AGE;
        let known = |id| self.with_index(|index| index.contains(id));
        let runs = new_runs(&self.folder, &self.layout, since, known, &mut corrupt).await?;
        for run in runs {
            // It may have been queued here since the listing.
            if !known(run.value.id) {
                self.adopt(run).await?;
            }
        }
        self.refresh_jobs(&mut corrupt).await?;
        for error in corrupt {
            self.report_corrupt(&error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
