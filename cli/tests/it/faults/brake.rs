//! S3 behind a proxy that holds the requests that a test wants held.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::until;
use crate::http::{Message, Moment, proxy};

/// A proxy before S3.
#[derive(Clone)]
pub(crate) struct Brake {
    pub(crate) port: u16,
    rules: Arc<(Mutex<Vec<Rule>>, Condvar)>,
}

type Matches = dyn FnMut(Moment, &Message) -> bool + Send;

struct Rule {
    matches: Box<Matches>,
    /// Requests that it held so far.
    held: usize,
    /// Whether those may go on, once that is decided.
    verdict: Option<bool>,
    /// Whether it holds nothing any more.
    over: bool,
}

/// One of the rules of a brake.
#[derive(Clone, Copy)]
pub(crate) struct Hold(usize);

impl Brake {
    /// Before the S3 server at this port; every request takes `delay` longer.
    pub(crate) fn before(port: u16, delay: Duration) -> Self {
        let rules: Arc<(Mutex<Vec<Rule>>, Condvar)> = Arc::default();
        let shared = Arc::clone(&rules);
        let hook = move |moment, request: &Message| {
            if moment == Moment::Before {
                std::thread::sleep(delay);
            }
            let (rules, decided) = &*shared;
            let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
            let applies = |rule: &mut Rule| !rule.over && (rule.matches)(moment, request);
            let Some(index) = rules.iter_mut().position(applies) else {
                return true;
            };
            rules[index].held += 1;
            loop {
                match rules[index].verdict {
                    Some(verdict) => return verdict,
                    None => rules = decided.wait(rules).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        Self {
            port: proxy(port, Arc::new(hook)),
            rules,
        }
    }

    /// Its address, as the nodes are told it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Holds requests at a moment from now on.
    pub(crate) fn hold(
        &self,
        at: Moment,
        matches: impl Fn(&Message) -> bool + Send + 'static,
    ) -> Hold {
        self.hold_if(move |moment, request| moment == at && matches(request))
    }

    /// Holds requests from now on.
    pub(crate) fn hold_if(
        &self,
        matches: impl FnMut(Moment, &Message) -> bool + Send + 'static,
    ) -> Hold {
        let mut rules = self.rules.0.lock().unwrap();
        rules.push(Rule {
            matches: Box::new(matches),
            held: 0,
            verdict: None,
            over: false,
        });
        Hold(rules.len() - 1)
    }

    /// Waits until one is held.
    pub(crate) fn until_held(&self, hold: Hold) {
        until("a request to be held", || {
            (self.rules.0.lock().unwrap()[hold.0].held > 0).then_some(())
        });
    }

    /// Lets go: those that are held go on, or their connections end; later ones pass.
    pub(crate) fn release(&self, hold: Hold, go_on: bool) {
        self.rules.0.lock().unwrap()[hold.0].over = true;
        self.decide(hold, go_on);
    }

    /// Holds nothing any longer than it takes to say whether it goes on.
    pub(crate) fn decide(&self, hold: Hold, go_on: bool) {
        self.rules.0.lock().unwrap()[hold.0].verdict = Some(go_on);
        self.rules.1.notify_all();
    }
}
