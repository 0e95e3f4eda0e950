//! What the scheduler keeps in the lake, below `{lake}/_rankmill/`:
//!
//! ```text
//! leader.json                      who leads (see `lease`)
//! jobs/{name}.json                 a Job
//! keys/{digest}.json               what a request under an idempotency key has led to
//! runs/{yyyy-mm}/{run_id}.json     a Run; the month is that of its id
//! index/{yyyy-mm}/{name}.json      what lists need of many runs that have ended
//! ```
//!
//! A run that has ended never changes, so the index is only a shorter way to read what the
//! records say, and nothing is lost with it. Records are written by conditional PUT against the
//! version seen last; what can't be parsed is reported and left alone.

mod folder;
mod index;
mod layout;
mod load;
mod segment;

pub(crate) use folder::{Folder, Stored, Written, encode, parse};
pub(crate) use index::{Index, Indexed};
pub(crate) use layout::Layout;
pub(crate) use load::{Loaded, highest_epoch, load, new_jobs, new_runs};
pub(crate) use segment::{SEGMENT_RUNS, write_segment};
