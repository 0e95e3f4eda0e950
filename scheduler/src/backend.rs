//! Where a leading scheduler computes.

use rankmill_engine::{Session, SessionOptions};

use crate::error::Result;
use crate::model::Executor;

/// Where to compute.
pub enum BackendOptions {
    /// In this process.
    Embedded,
}

/// Where a leading scheduler computes.
#[derive(Clone)]
pub(crate) enum Backend {
    /// In this process.
    Embedded,
}

impl BackendOptions {
    pub(crate) fn is_embedded(&self) -> bool {
        match self {
            Self::Embedded => true,
        }
    }
}

impl Backend {
    /// Begins to listen for executors, if there are to be any.
    pub(crate) async fn start(options: BackendOptions, _session: &SessionOptions) -> Result<Self> {
        match options {
            BackendOptions::Embedded => Ok(Self::Embedded),
        }
    }

    /// The session whose plans are computed here.
    pub(crate) fn session(&self, options: &SessionOptions) -> Result<Session> {
        let session = Session::new(options)?;
        match self {
            Self::Embedded => Ok(session),
        }
    }

    /// The executors there are.
    pub(crate) fn executors(&self) -> Vec<Executor> {
        match self {
            Self::Embedded => Vec::new(),
        }
    }

    /// Whether a plan would be computed now.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Embedded => true,
        }
    }
}
