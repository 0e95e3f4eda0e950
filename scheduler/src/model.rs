//! What the scheduler keeps and serves: jobs, runs, dates. Written as JSON to the lake's records
//! and to `/api/v1`; the gRPC face translates.

mod backfill;
mod executor;
mod job;
mod run;

pub use backfill::{BackfillId, BackfillOnly, BackfillOrder, BackfillPlan, BackfillRequest};
pub use executor::Executor;
pub(crate) use job::JobRecord;
pub use job::{Job, JobView};
pub(crate) use run::GENERATE;
pub use run::{
    Attempt, DateResult, Event, Interruption, Priority, Progress, Run, RunId, RunKind, RunState,
    RunSummary, RunView, SubmitRun, Trigger,
};

pub use crate::gaps::{DateState, DateStatus, StaleReason};
