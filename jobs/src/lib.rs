//! What rankmill computes: the [job spec](spec), its compilation to a logical plan, the
//! [run](run()) of a job for some dates, and the [publication] of what comes out.
//!
//! How things are computed is `rankmill-engine`'s business; when and where, the scheduler's.

mod compile;
mod error;
mod inputs;
mod inspect;
pub mod publication;
mod result;
mod run;
pub mod shipped;
pub mod spec;

pub use error::{Error, Result};
pub use inspect::{Change, Inspection, Inspector, Round, Status};
pub use run::{
    DateOutcome, DateReport, Observer, RunReport, RunRequest, Unmatched, explain, read_ranking,
    run, target_of,
};

/// The version that is part of every published ranking's identity.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");
