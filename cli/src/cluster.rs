//! The cluster as its user sees it: a client of its schedulers' API, and what it answers as text
//! and JSON.

mod address;
mod client;
mod connect;
mod error;
mod follow;
mod json;
mod text;
mod verdict;
mod watcher;

pub(crate) use client::{Cluster, Repeat};
pub(crate) use error::Error;
pub(crate) use follow::{Followed, follow, follow_aloud, is_final};
pub(crate) use json::{date_status_json, executor_json, job_json, run_json, summary_json};
pub(crate) use text::{
    dates_table, events_text, executors_table, job_text, jobs_table, run_text, runs_table,
    state_name, time,
};
pub(crate) use watcher::Watcher;
