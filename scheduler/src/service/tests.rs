//! What the API promises, over a small lake: what may be asked, by whom, and how often.

mod allowed;
mod backfills;
mod keys;
mod lists;
mod requests;
mod twice;
