//! Time as publication sees it: for backing off and for a timestamp that nothing depends on.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

/// A clock. No decision depends on it: it may jump.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock. Its `sleep` needs a tokio runtime with time enabled.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// How often and how long to try again. No jitter: few runs ever meet at one date, and the clients
/// of remote stores add their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// The wait after the first try; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for Retry {
    /// Ten tries over some 20 seconds.
    fn default() -> Self {
        Self {
            attempts: 10,
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl Retry {
    /// How long to wait after `tries` failed tries, or `None` to give up.
    pub fn wait_after(&self, tries: u32) -> Option<Duration> {
        let doublings = tries.saturating_sub(1).min(20);
        let wait = self.first_wait.saturating_mul(1 << doublings);
        (tries < self.attempts).then(|| wait.min(self.longest_wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let retry = Retry::default();
        let waits: Vec<u128> = (1..)
            .map_while(|tries| retry.wait_after(tries))
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
