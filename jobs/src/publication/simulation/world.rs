//! What the actors of one simulation share: the objects, virtual time, chance, the ghost log.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error as StoreError, PutMode, PutResult, Result as StoreResult};

use super::Tally;
use super::actors::Mutation;
use super::ghost::Ghost;
use super::rng::Rng;
use crate::publication::Clock;

#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) mutation: Mutation,
    /// Chance of a fault per operation, in thousandths.
    pub(super) faults: u64,
    /// ETags are digests of the content, as S3's, instead of version numbers.
    content_e_tags: bool,
    versions: u64,
    pub(super) objects: BTreeMap<Path, Object>,
    /// Writes under way that nobody waits for any more.
    pub(super) adrift: Vec<Write>,
    pub(super) now_ms: u64,
    /// The actor that runs now, and when each may run again.
    pub(super) actor: usize,
    pub(super) wake_at_ms: Vec<u64>,
    pub(super) ghost: Ghost,
    pub(super) tally: Tally,
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) e_tag: String,
}

#[derive(Debug)]
pub(super) struct Write {
    pub(super) path: Path,
    pub(super) bytes: Bytes,
    pub(super) mode: PutMode,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(super) fn new(seed: u64, mutation: Mutation, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let state = State {
            faults: rng.pick(&[0, 20, 60, 150, 300]),
            content_e_tags: rng.chance(500),
            rng,
            mutation,
            versions: 0,
            objects: BTreeMap::new(),
            adrift: Vec::new(),
            now_ms: 0,
            actor: 0,
            wake_at_ms: Vec::new(),
            ghost: Ghost::default(),
            tally: Tally::default(),
            violation: None,
            trace: traced.then(Vec::new),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = format!("{:>9} ms  actor {}  {}", self.now_ms, self.actor, what());
            trace.push(line);
        }
    }

    /// Records a violation; the first one counts.
    pub(super) fn fail(&mut self, violation: String) {
        self.note(|| format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }

    /// A write takes effect, if its condition holds.
    pub(super) fn apply(&mut self, write: Write) -> StoreResult<PutResult> {
        let Write { path, bytes, mode } = write;
        let is_commit = path.filename() == Some("current.json");
        let mode = match (self.mutation, mode) {
            (Mutation::StoreIgnoresIfMatch, PutMode::Update(_)) => PutMode::Overwrite,
            (Mutation::UnconditionalCommit, _) if is_commit => PutMode::Overwrite,
            (_, mode) => mode,
        };
        let existing = self.objects.get(&path).map(|object| object.e_tag.clone());
        match (&mode, existing) {
            (PutMode::Create, Some(_)) => {
                self.note(|| format!("refused to create {path}"));
                let source = "it exists".into();
                let path = path.to_string();
                return Err(StoreError::AlreadyExists { path, source });
            }
            (PutMode::Update(expected), existing) if existing != expected.e_tag => {
                self.note(|| format!("refused to update {path}"));
                return Err(precondition(&path));
            }
            (PutMode::Overwrite, Some(_)) if path.as_ref().contains("/data/") => {
                self.fail(format!("{path} was overwritten"));
            }
            _ => {}
        }
        self.versions += 1;
        let e_tag = match self.content_e_tags {
            true => digest(&bytes),
            false => self.versions.to_string(),
        };
        self.note(|| format!("wrote {path} ({} bytes)", bytes.len()));
        let object = Object {
            bytes,
            e_tag: e_tag.clone(),
        };
        self.objects.insert(path.clone(), object);
        self.witness(&path);
        Ok(PutResult {
            e_tag: Some(e_tag),
            version: None,
        })
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.note(|| format!("removed {path}"));
        self.objects.remove(path);
        if self.ghost.refers_to(path) {
            self.fail(format!("{path} was removed, but a commit refers to it"));
        }
    }
}

pub(super) fn precondition(path: &Path) -> StoreError {
    StoreError::Precondition {
        path: path.to_string(),
        source: "it has changed".into(),
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Lets the others run.
pub(super) fn step() -> Step {
    Step { passed: false }
}

pub(super) struct Step {
    passed: bool,
}

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.passed, true) {
            true => Poll::Ready(()),
            false => Poll::Pending, // the executor asks again, it needs no waking
        }
    }
}

/// Virtual time; what it says jumps back and forth by days.
#[derive(Debug)]
pub(super) struct JumpyClock(pub(super) World);

impl Clock for JumpyClock {
    fn now(&self) -> DateTime<Utc> {
        let mut state = self.0.state();
        let hours = state.rng.below(100) as i64 - 50;
        let passed = TimeDelta::milliseconds(state.now_ms as i64);
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + passed + TimeDelta::hours(hours)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let world = self.0.clone();
        Box::pin(async move {
            {
                let mut state = world.state();
                let (actor, until) = (state.actor, state.now_ms + duration.as_millis() as u64);
                state.wake_at_ms[actor] = until;
            }
            step().await;
        })
    }
}
