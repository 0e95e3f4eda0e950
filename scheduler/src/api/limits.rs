//! How much a caller may ask for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::Problem;

/// Watches at once, of everybody.
const MAX_WATCHES: usize = 512;
/// Watches at once, of one caller.
const MAX_WATCHES_PER_CALLER: usize = 64;

/// Whom a limit counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The holder of a token.
    Token(String),
    /// An address without a token, or with a wrong one.
    Address(IpAddr),
    /// An address that asks how this scheduler is. Counted apart: whoever tries tokens from
    /// behind the same proxy must not make a scheduler look ill.
    Probe(IpAddr),
}

impl Key {
    pub(super) fn address(ip: IpAddr) -> Self {
        Self::Address(network(ip))
    }

    pub(super) fn probe(ip: IpAddr) -> Self {
        Self::Probe(network(ip))
    }
}

/// One host may have a whole /64 of addresses.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let prefix = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(prefix.into())
        }
        v4 => v4,
    }
}

/// Requests a second, for each key.
pub(super) struct Throttle(Option<DefaultKeyedRateLimiter<Key>>);

impl Throttle {
    /// 0: no limit.
    pub(super) fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|rate| {
            let burst = rate.saturating_add(rate.get());
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        }))
    }

    pub(super) fn admit(&self, key: &Key) -> Result<(), Problem> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(limiter.clock().now());
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            Problem::too_many("requests come too fast", seconds)
        })
    }

    /// Forgets those who have not asked for a while.
    pub(super) fn forget(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
        }
    }
}

/// Answers that go on until a run ends.
#[derive(Debug, Clone)]
pub(super) struct Watches(Arc<Mutex<HashMap<Option<String>, usize>>>);

/// The right to one of them, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Watch {
    watches: Watches,
    caller: Option<String>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// `caller` is the name of a token.
    pub(super) fn begin(&self, caller: Option<&str>) -> Result<Watch, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = caller.map(str::to_owned);
        let of_caller = open.get(&caller).copied().unwrap_or_default();
        let of_all: usize = open.values().sum();
        if of_caller >= MAX_WATCHES_PER_CALLER || of_all >= MAX_WATCHES {
            let detail = format!(
                "up to {MAX_WATCHES_PER_CALLER} runs may be watched at once by one caller, \
                 and {MAX_WATCHES} by all"
            );
            return Err(Problem::too_many(detail, 5));
        }
        *open.entry(caller.clone()).or_default() += 1;
        Ok(Watch {
            watches: self.clone(),
            caller,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let open = &self.watches.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_rate_of_its_own() {
        let throttle = Throttle::new(3);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let burst = |key: &Key| {
            let admitted = (0..100).take_while(|_| throttle.admit(key).is_ok());
            admitted.count()
        };
        for key in [
            Key::Token("ada".into()),
            Key::Token("bob".into()),
            Key::address(ip("10.0.0.1")),
            Key::probe(ip("10.0.0.1")),
            Key::address(ip("2001:db8::1")),
        ] {
            // A slow machine may let one more in while it counts.
            assert!((6..=8).contains(&burst(&key)), "{key:?}");
        }
        // The same network, and the same address written otherwise.
        assert!(burst(&Key::address(ip("2001:db8::2"))) <= 1);
        assert!(burst(&Key::address(ip("::ffff:10.0.0.1"))) <= 1);
        let free = Throttle::new(0);
        assert!((0..10_000).all(|_| free.admit(&Key::Token("ada".into())).is_ok()));
    }

    #[test]
    fn watches_are_bounded_and_given_back() {
        let watches = Watches::new();
        let mut open: Vec<Watch> = (0..MAX_WATCHES_PER_CALLER)
            .map(|_| watches.begin(Some("ada")).unwrap())
            .collect();
        assert!(watches.begin(Some("ada")).is_err());
        drop(open.pop());
        open.push(watches.begin(Some("ada")).unwrap());
        for i in open.len()..MAX_WATCHES {
            open.push(watches.begin(Some(&i.to_string())).unwrap());
        }
        assert!(watches.begin(None).is_err());
        drop(open);
        assert!(watches.begin(None).is_ok());
        assert!(watches.0.lock().unwrap().is_empty());
    }
}
