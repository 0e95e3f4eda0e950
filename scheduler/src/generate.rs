//! Load-generation runs: what makes the logs is given to the scheduler from outside.

use futures::future::BoxFuture;
use rankmill_engine::Session;
use serde_json::Value;

use crate::model::Progress;

/// Why no logs were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGenerated {
    /// For people.
    pub reason: String,
    /// Whether another attempt may go better: the store was away.
    pub retryable: bool,
}

/// Makes skewed logs. The scheduler keeps the options as they came.
pub trait LoadGenerator: Send + Sync {
    /// Whether the options are ones; if not, what is wrong and what would be right.
    fn check(&self, options: &Value) -> Result<(), String>;

    /// Makes logs in a lake, where `session` computes: in this process, or on executors. Ends soon after `stop` says so; what it gives then doesn't count.
    /// Running again with the same options does what is left.
    fn generate<'a>(
        &'a self,
        session: &'a Session,
        lake: &'a str,
        options: &'a Value,
        progress: &'a (dyn Fn(Progress) + Sync),
        stop: &'a (dyn Fn() -> bool + Sync),
    ) -> BoxFuture<'a, Result<(), NotGenerated>>;
}
