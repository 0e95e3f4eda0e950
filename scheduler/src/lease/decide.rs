//! The decisions about leadership, apart from any I/O. Times are of one process's steady clock.

use std::time::Duration;

use object_store::UpdateVersion;

use super::document::Leader;

/// The part of the time to live after which a leader that could not renew stops.
const LEADS_FOR: f64 = 0.8;

/// What `leader.json` says, and its version.
pub(super) type Found = Option<(Leader, UpdateVersion)>;

/// Who this process is.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub(super) instance: String,
    pub(super) process: String,
    pub(super) api_url: Option<String>,
    pub(super) ttl: Duration,
    /// Writes so far.
    pub(super) writes: u64,
}

impl Me {
    /// What to write next.
    pub(super) fn document(&mut self, epoch: u64, released: bool) -> Leader {
        self.writes += 1;
        Leader {
            instance: self.instance.clone(),
            process: self.process.clone(),
            epoch,
            api_url: self.api_url.clone(),
            writes: self.writes,
            ttl_ms: self.ttl.as_millis() as u64,
            released,
        }
    }
}

/// A standby's memory.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The version seen last, and when it was seen first.
    seen: Option<(UpdateVersion, Duration)>,
}

/// What a standby does next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Somebody leads.
    Wait,
    /// Writes itself there as this epoch, if what was found still stands.
    Take {
        epoch: u64,
        against: Option<UpdateVersion>,
    },
}

impl Watch {
    /// Judges what was found by a read that began at `asked` and was answered at `now`.
    pub(super) fn judge(&mut self, me: &Me, found: &Found, asked: Duration, now: Duration) -> Next {
        let Some((leader, version)) = found else {
            self.seen = None;
            return Next::Take {
                epoch: 1,
                against: None,
            };
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == version => *since,
            _ => {
                // What is read may have been written until the answer.
                self.seen = Some((version.clone(), now));
                now
            }
        };
        // One that gives itself more time is given it.
        let ttl = me.ttl.max(Duration::from_millis(leader.ttl_ms));
        // Its own name means a write whose answer was lost: it never led as that epoch.
        let is_mine = leader.process == me.process;
        // The version stood when the read began, no longer.
        let silent = asked.checked_sub(since).is_some_and(|silent| silent >= ttl);
        if leader.released || is_mine || silent {
            Next::Take {
                epoch: leader.epoch + 1,
                against: Some(version.clone()),
            }
        } else {
            Next::Wait
        }
    }
}

/// What a leader holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) epoch: u64,
    /// What to write against.
    pub(super) version: UpdateVersion,
    /// When the write began that was acknowledged last.
    pub(super) renewed_at: Duration,
}

/// What the answer to a renewal means.
#[derive(Debug)]
pub(super) enum Renewal {
    /// Still the leader.
    Held,
    /// Nothing is known; try again while there is time.
    Unknown,
    /// Somebody else has written; the epoch that stands there.
    Lost(Option<u64>),
}

impl Held {
    /// Until when it may act as the leader.
    pub(super) fn until(&self, ttl: Duration) -> Duration {
        self.renewed_at + ttl.mul_f64(LEADS_FOR)
    }

    /// The write that began at `begun` was acknowledged.
    pub(super) fn renewed(&mut self, version: UpdateVersion, begun: Duration) {
        self.version = version;
        self.renewed_at = self.renewed_at.max(begun);
    }

    /// A write of `sent`, begun at `begun`, was refused or not answered, and this was found.
    pub(super) fn refused(&mut self, sent: &Leader, found: &Found, begun: Duration) -> Renewal {
        match found {
            Some((leader, version)) if leader == sent => {
                self.renewed(version.clone(), begun);
                Renewal::Held
            }
            // An earlier write of its own that took effect late, or the one before still stands.
            Some((leader, version))
                if leader.process == sent.process && leader.epoch == sent.epoch =>
            {
                self.version = version.clone();
                Renewal::Unknown
            }
            Some((leader, _)) => Renewal::Lost(Some(leader.epoch)),
            None => Renewal::Lost(None),
        }
    }
}
