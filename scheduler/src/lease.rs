//! Which of several schedulers leads: the one that `{lake}/_rankmill/leader.json` names.
//!
//! The leader replaces that object every few seconds by conditional PUT. A standby that has seen
//! the same version of it for the time to live, by its own steady clock, replaces it with the
//! next epoch; of several one succeeds. A leader that could not renew for most of the time to
//! live stops by itself, before any standby may begin. Should it sleep through that, its writes
//! to records are refused, which carry epochs, and its publications are fenced, which have
//! their own. No clock is ever compared with another machine's.

mod decide;
mod document;
mod keeper;
#[cfg(test)]
mod tests;

pub(crate) use keeper::{Keeper, KeeperOptions, Standing};
