//! Where a leading scheduler computes.

use std::sync::Arc;

use rankmill_engine::{Session, SessionOptions};

use crate::cluster::{self, Cluster};
use crate::error::Result;
use crate::model::Executor;

/// Where to compute.
#[derive(Debug)]
pub enum BackendOptions {
    /// In this process.
    Embedded,
    /// On executors.
    Cluster(cluster::Options),
}

/// Where a leading scheduler computes.
#[derive(Clone)]
pub(crate) enum Backend {
    /// In this process.
    Embedded,
    /// On executors.
    Cluster(Arc<Cluster>),
}

impl BackendOptions {
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded)
    }
}

impl Backend {
    /// Begins to listen for executors, if there are to be any.
    pub(crate) async fn start(options: BackendOptions, session: &SessionOptions) -> Result<Self> {
        match options {
            BackendOptions::Embedded => Ok(Self::Embedded),
            BackendOptions::Cluster(options) => {
                let session = Session::new(session)?;
                Ok(Self::Cluster(Cluster::start(options, &session).await?))
            }
        }
    }

    /// The session whose plans are computed here.
    pub(crate) fn session(&self, options: &SessionOptions) -> Result<Session> {
        let session = Session::new(options)?;
        match self {
            Self::Embedded => Ok(session),
            Self::Cluster(cluster) => Ok(session.with_compute(Arc::clone(cluster) as _)),
        }
    }

    /// The executors there are.
    pub(crate) async fn executors(&self) -> Vec<Executor> {
        match self {
            Self::Embedded => Vec::new(),
            Self::Cluster(cluster) => cluster.executors().await,
        }
    }

    /// Whether a plan would be computed now.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Cluster(cluster) => cluster.is_ready(),
        }
    }
}
