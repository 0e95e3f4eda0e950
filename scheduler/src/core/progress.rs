//! How far runs have come: in memory only, told to those who watch.

use std::sync::PoisonError;

use chrono::Utc;
use tokio::sync::watch;

use super::Core;
use super::runs::RunCell;
use crate::error::Result;
use crate::model::{Progress, RunId, RunView};

impl RunCell {
    /// How far it has come.
    pub(crate) fn progress(&self) -> Option<Progress> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of it.
    pub(crate) fn advance(&self, change: impl FnOnce(&mut Progress)) {
        {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            change(progress.get_or_insert_default());
        }
        if self.view.receiver_count() > 0 {
            self.view.send_modify(|view| *view = self.now());
        }
    }

    /// The run as it is now.
    pub(crate) fn now(&self) -> RunView {
        self.run().view(self.progress(), Utc::now())
    }
}

impl Core {
    /// A run as the API shows it.
    pub(crate) async fn view(&self, id: RunId) -> Result<RunView> {
        match self.active(id) {
            Some(cell) => Ok(cell.now()),
            None => Ok(self.read_run(id).await?.view(None, Utc::now())),
        }
    }

    /// The run now and at each change.
    pub(crate) async fn watch(&self, id: RunId) -> Result<watch::Receiver<RunView>> {
        if let Some(cell) = self.active(id) {
            let receiver = cell.view.subscribe();
            // It may have gone on unwatched.
            cell.view.send_modify(|view| *view = cell.now());
            return Ok(receiver);
        }
        let view = self.view(id).await?;
        Ok(watch::channel(view).1)
    }
}
