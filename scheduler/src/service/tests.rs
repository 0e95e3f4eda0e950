//! What the API promises, over a small lake.

mod keys;
mod lists;
mod requests;
