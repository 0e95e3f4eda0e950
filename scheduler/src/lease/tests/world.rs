//! A store with one object, some processes, and what may go wrong between them.

use std::collections::BTreeSet;
use std::time::Duration;

use object_store::UpdateVersion;
use proptest::prelude::*;

use super::{me, seconds, version};
use crate::lease::decide::{Found, Held, Me, Next, Renewal, Watch};
use crate::lease::document::Leader;

/// A conditional write on its way.
#[derive(Debug, Clone)]
struct Put {
    document: Leader,
    against: Option<UpdateVersion>,
}

/// What a process waits for.
#[derive(Debug)]
enum Doing {
    Nothing,
    /// A read: when it began, and what it found, once it has.
    Reads {
        asked: Duration,
        found: Option<Found>,
    },
    /// A write: when it began, and how the store answered, once it has.
    Writes {
        put: Put,
        begun: Duration,
        answer: Option<Option<UpdateVersion>>,
    },
    /// Finding out what became of a write.
    Checks {
        sent: Leader,
        begun: Duration,
        found: Option<Found>,
    },
}

#[derive(Debug)]
struct Process {
    me: Me,
    watch: Watch,
    held: Option<Held>,
    doing: Doing,
    lives: usize,
    /// It does nothing until then.
    sleeps_until: Duration,
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    now: Duration,
    object: Found,
    versions: u64,
    processes: Vec<Process>,
    /// Writes that their clients have given up, and that may still take effect.
    late: Vec<Put>,
    epochs: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(processes: usize) -> Self {
        let process = |number: usize| Process {
            me: me(&format!("{number}.0")),
            watch: Watch::default(),
            held: None,
            doing: Doing::Nothing,
            lives: 0,
            sleeps_until: Duration::ZERO,
        };
        Self {
            now: Duration::ZERO,
            object: None,
            versions: 0,
            processes: (0..processes).map(process).collect(),
            late: Vec::new(),
            epochs: BTreeSet::new(),
        }
    }

    /// Something happens.
    pub(super) fn step(&mut self, choice: u16) -> Result<(), TestCaseError> {
        let choice = usize::from(choice);
        self.now += Duration::from_millis([0, 100, 300, 1_000][choice % 4]);
        let choice = choice / 4;
        let who = choice % self.processes.len();
        let choice = choice / self.processes.len();
        match choice % 16 {
            0 if !self.late.is_empty() => {
                let put = self.late.swap_remove(choice / 16 % self.late.len());
                self.apply(&put);
            }
            1 => self.replace(who),
            2 => self.give_up(who),
            3 => {
                let pause = seconds(1 + choice as u64 / 16 % 15);
                self.processes[who].sleeps_until = self.now + pause;
            }
            _ if self.processes[who].sleeps_until > self.now => {}
            _ => {
                // Several things at once, as long as no time passes.
                for _ in 0..=choice / 16 % 4 {
                    self.go_on(who)?;
                    self.check()?;
                }
            }
        }
        self.check()
    }

    /// Without faults, somebody leads before long.
    pub(super) fn calm_down(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..400 {
            self.now += Duration::from_millis(100);
            for who in 0..self.processes.len() {
                self.go_on(who)?;
                self.check()?;
            }
        }
        let leaders = self.leaders();
        prop_assert_eq!(leaders.len(), 1, "{:?}", self);
        Ok(())
    }

    /// A process dies, and another starts in its place.
    fn replace(&mut self, who: usize) {
        self.give_up(who);
        let process = &mut self.processes[who];
        let lives = process.lives + 1;
        *process = Process {
            me: me(&format!("{who}.{lives}")),
            watch: Watch::default(),
            held: None,
            doing: Doing::Nothing,
            lives,
            sleeps_until: Duration::ZERO,
        };
    }

    /// An answer is lost, or a request; a write may take effect later.
    fn give_up(&mut self, who: usize) {
        let process = &mut self.processes[who];
        let doing = std::mem::replace(&mut process.doing, Doing::Nothing);
        if let Doing::Writes { put, begun, answer } = doing {
            if process.held.is_some() {
                process.doing = Doing::Checks {
                    sent: put.document.clone(),
                    begun,
                    found: None,
                };
            }
            if answer.is_none() {
                self.late.push(put);
            }
        }
    }

    fn go_on(&mut self, who: usize) -> Result<(), TestCaseError> {
        let now = self.now;
        let ttl = seconds(10);
        let process = &mut self.processes[who];
        if process
            .held
            .as_ref()
            .is_some_and(|held| now >= held.until(ttl))
        {
            // It stops by itself; the process starts anew.
            self.replace(who);
            return Ok(());
        }
        match std::mem::replace(&mut process.doing, Doing::Nothing) {
            Doing::Nothing => match &process.held {
                None => {
                    process.doing = Doing::Reads {
                        asked: now,
                        found: None,
                    }
                }
                Some(held) => {
                    let (epoch, against) = (held.epoch, Some(held.version.clone()));
                    process.doing = Doing::Writes {
                        put: Put {
                            document: process.me.document(epoch, false),
                            against,
                        },
                        begun: now,
                        answer: None,
                    };
                }
            },
            Doing::Reads { asked, found: None } => {
                let found = Some(self.object.clone());
                process.doing = Doing::Reads { asked, found };
            }
            Doing::Reads {
                asked,
                found: Some(found),
            } => {
                let next = process.watch.judge(&process.me, &found, asked, now);
                if let Next::Take { epoch, against } = next {
                    let document = process.me.document(epoch, false);
                    process.doing = Doing::Writes {
                        put: Put { document, against },
                        begun: now,
                        answer: None,
                    };
                }
            }
            Doing::Writes {
                put,
                begun,
                answer: None,
            } => {
                let answer = Some(self.apply(&put));
                self.processes[who].doing = Doing::Writes { put, begun, answer };
            }
            Doing::Writes {
                put,
                begun,
                answer: Some(answer),
            } => self.answered(who, put, begun, answer)?,
            Doing::Checks {
                sent,
                begun,
                found: None,
            } => {
                let found = Some(self.object.clone());
                process.doing = Doing::Checks { sent, begun, found };
            }
            Doing::Checks {
                sent,
                begun,
                found: Some(found),
            } => {
                let renewal = process
                    .held
                    .as_mut()
                    .map(|h| h.refused(&sent, &found, begun));
                if let Some(Renewal::Lost(_)) = renewal {
                    self.replace(who);
                }
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        who: usize,
        put: Put,
        begun: Duration,
        answer: Option<UpdateVersion>,
    ) -> Result<(), TestCaseError> {
        let now = self.now;
        let process = &mut self.processes[who];
        match (answer, &mut process.held) {
            (Some(version), Some(held)) => held.renewed(version, begun),
            (Some(version), None) => {
                let held = Held {
                    epoch: put.document.epoch,
                    version,
                    renewed_at: begun,
                };
                if now < held.until(process.me.ttl) {
                    prop_assert!(self.epochs.insert(held.epoch), "epoch {} twice", held.epoch);
                    process.held = Some(held);
                }
            }
            (None, Some(_)) => {
                let sent = put.document;
                process.doing = Doing::Checks {
                    sent,
                    begun,
                    found: None,
                };
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// The store's part.
    fn apply(&mut self, put: &Put) -> Option<UpdateVersion> {
        let current = self.object.as_ref().map(|(_, version)| version);
        if current != put.against.as_ref() {
            return None;
        }
        self.versions += 1;
        let new = version(self.versions);
        self.object = Some((put.document.clone(), new.clone()));
        Some(new)
    }

    fn leaders(&self) -> Vec<u64> {
        let held = self.processes.iter().filter_map(|p| p.held.as_ref());
        let leads = held.filter(|held| self.now < held.until(seconds(10)));
        leads.map(|held| held.epoch).collect()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let leaders = self.leaders();
        prop_assert!(leaders.len() <= 1, "{leaders:?} lead at once: {self:?}");
        Ok(())
    }
}
