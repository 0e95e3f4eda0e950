//! Calls to whichever scheduler leads.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::{Response, Status};

use super::address::Address;
use super::connect::{Client, Connector};
use super::error::Error;
use super::verdict::{Verdict, judge};
use crate::args::ClusterChoice;

/// A standby needs some seconds to take over; so long a leader is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds over the addresses.
const ROUND: Duration = Duration::from_secs(1);

/// Whether a request may be sent again when its answer got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Asking twice is asking once.
    Safe,
    /// It might be done twice.
    Unsafe,
}

/// The schedulers of a cluster.
pub(crate) struct Cluster {
    addresses: Vec<Address>,
    connector: Connector,
    quiet: bool,
    /// The scheduler that answered last.
    leader: Mutex<Option<(Address, Client)>>,
}

impl Cluster {
    /// Opens no connection yet.
    pub(crate) fn new(choice: &ClusterChoice, quiet: bool) -> anyhow::Result<Self> {
        let addresses = choice.cluster.iter().map(|text| Address::parse(text));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            connector: Connector::new(choice, &addresses)?,
            addresses,
            quiet,
            leader: Mutex::new(None),
        })
    }

    /// Calls the scheduler that leads, looking for it if need be.
    pub(crate) async fn call<Q: Clone, A>(
        &self,
        repeat: Repeat,
        request: Q,
        call: impl AsyncFn(Client, Q) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let begun = Instant::now();
        // One that was here a moment ago may be on its way back.
        let mut hopeful = self.known_leader().is_some();
        let mut told = false;
        loop {
            let mut tried = Vec::new();
            match self.round(repeat, &request, &call, &mut tried).await? {
                Round::Answered(answer) => return Ok(answer),
                Round::Standby => hopeful = true,
                Round::Silence => {}
            }
            if !hopeful {
                return Err(Error::Unreachable { tried });
            }
            if begun.elapsed() >= PATIENCE {
                return Err(Error::NoLeader { tried });
            }
            if !told && !self.quiet {
                told = true;
                let why = tried.last().map_or("", |(_, reason)| reason.as_str());
                eprintln!("no scheduler can do this at the moment; waiting for one: {why}");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Asks every address once, and the leader that any of them names.
    async fn round<Q: Clone, A>(
        &self,
        repeat: Repeat,
        request: &Q,
        call: &impl AsyncFn(Client, Q) -> Result<Response<A>, Status>,
        tried: &mut Vec<(String, String)>,
    ) -> Result<Round<A>, Error> {
        let mut standby = false;
        let known = self.known_leader();
        let mut queue: VecDeque<Address> = self.addresses.iter().cloned().collect();
        if let Some((address, _)) = &known {
            queue.push_front(address.clone());
        }
        while let Some(address) = queue.pop_front() {
            if tried.iter().any(|(done, _)| done == address.as_str()) {
                continue;
            }
            let connected = match &known {
                Some((leader, client)) if *leader == address => Ok(client.clone()),
                _ => self.connector.connect(&address).await,
            };
            let client = match connected {
                Ok(client) => client,
                Err(reason) => {
                    tried.push((address.to_string(), reason));
                    continue;
                }
            };
            let status = match call(client.clone(), request.clone()).await {
                Ok(answer) => {
                    self.remember(Some((address, client)));
                    return Ok(Round::Answered(answer.into_inner()));
                }
                Err(status) => status,
            };
            let reason = status.message().to_owned();
            match judge(&status) {
                Verdict::Elsewhere { leader } => {
                    standby = true;
                    if let Some(leader) = leader.and_then(|named| address.of_leader(&named)) {
                        queue.push_front(leader);
                    }
                }
                Verdict::Lost { told } if repeat == Repeat::Safe => standby |= told,
                Verdict::Lost { .. } => {
                    let address = address.to_string();
                    return Err(Error::Lost { address, reason });
                }
                Verdict::Final => {
                    self.remember(Some((address, client)));
                    let status = Box::new(status);
                    return Err(Error::Refused { status });
                }
            }
            self.remember(None);
            tried.push((address.to_string(), reason));
        }
        Ok(match standby {
            true => Round::Standby,
            false => Round::Silence,
        })
    }

    fn known_leader(&self) -> Option<(Address, Client)> {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.clone()
    }

    fn remember(&self, leader: Option<(Address, Client)>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }
}

enum Round<A> {
    Answered(A),
    /// Somebody answered, but doesn't lead.
    Standby,
    /// Nobody answered.
    Silence,
}
