//! One module for each verb.

pub(crate) mod backfill;
pub(crate) mod dev;
pub(crate) mod executor;
pub(crate) mod executors;
pub(crate) mod explain;
pub(crate) mod gaps;
pub(crate) mod generate;
pub(crate) mod jobs;
pub(crate) mod quickstart;
pub(crate) mod rankings;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod scheduler;
pub(crate) mod skew;
pub(crate) mod spec;
pub(crate) mod submit;
