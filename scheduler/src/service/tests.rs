//! What may be asked, and by whom.

mod allowed;
mod backfills;
mod keys;
