//! One module for each verb.

pub(crate) mod explain;
pub(crate) mod generate;
pub(crate) mod quickstart;
pub(crate) mod rankings;
pub(crate) mod run;
pub(crate) mod spec;
