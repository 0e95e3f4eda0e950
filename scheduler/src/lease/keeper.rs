//! Keeps this process's place: a thread with a runtime and connections of its own, so that no
//! computation delays a renewal.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, PutMode, UpdateVersion};
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

use super::decide::{Found, Held, Me, Next, Renewal, Watch};
use super::document::Leader;
use crate::error::{Error, Result, describe};
use crate::options::LeaseOptions;
use crate::records::{Folder, Layout, highest_epoch};

/// Whether this process leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Another one does, or nobody yet.
    Standby {
        /// Where that one's API is.
        leader: Option<String>,
    },
    /// As this epoch, until the time given, which moves on with each renewal.
    Leads { epoch: u64, until: Instant },
    /// Not any more, and never again; the epoch that took over, where it is known.
    Lost { epoch: Option<u64> },
    /// `leader.json` can't be used.
    Broken { reason: String },
}

/// What a keeper needs.
pub(crate) struct KeeperOptions {
    pub(crate) instance: String,
    pub(crate) api_url: Option<String>,
    pub(crate) lease: LeaseOptions,
    pub(crate) path: Path,
}

/// A running keeper.
pub(crate) struct Keeper {
    standing: watch::Receiver<Standing>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts to compete. `open` gives the store; it is called on the keeper's thread.
    pub(crate) fn start(
        options: KeeperOptions,
        open: impl FnOnce() -> Result<Arc<dyn ObjectStore>> + Send + 'static,
    ) -> Result<Self> {
        let failed = |reason: String| Error::Setup {
            what: "the thread that keeps the lease".to_owned(),
            reason,
        };
        let (tell, standing) = watch::channel(Standing::Standby { leader: None });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let body = move || match open() {
            Ok(store) => runtime.block_on(Seat::new(options, store, tell).keep(stopped)),
            Err(error) => drop(tell.send(Standing::Broken {
                reason: error.describe(),
            })),
        };
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(body)
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self {
            standing,
            stop,
            thread: Some(thread),
        })
    }

    /// Hears of each change.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Gives the place up, so that a standby need not wait, and ends.
    pub(crate) async fn release(mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The place at the table, from the thread's side.
struct Seat {
    me: Me,
    options: KeeperOptions,
    store: Arc<dyn ObjectStore>,
    tell: watch::Sender<Standing>,
    begun: Instant,
}

impl Seat {
    fn new(
        options: KeeperOptions,
        store: Arc<dyn ObjectStore>,
        tell: watch::Sender<Standing>,
    ) -> Self {
        let me = Me {
            instance: options.instance.clone(),
            process: Uuid::now_v7().to_string(),
            api_url: options.api_url.clone(),
            ttl: options.lease.ttl,
            writes: 0,
        };
        Self {
            me,
            options,
            store,
            tell,
            begun: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn keep(mut self, mut stopped: watch::Receiver<bool>) {
        let Some(held) = self.compete(&mut stopped).await else {
            return;
        };
        self.lead(held, stopped).await;
    }

    /// Until this process leads; `None` if it is to stop first.
    async fn compete(&mut self, stopped: &mut watch::Receiver<bool>) -> Option<Held> {
        let mut watch = Watch::default();
        loop {
            let asked = self.now();
            match self.read().await {
                Ok(found) => {
                    let leader = found
                        .as_ref()
                        .and_then(|(leader, _)| leader.api_url.clone());
                    let now = self.now();
                    match watch.judge(&self.me, &found, asked, now) {
                        Next::Wait => {
                            self.tell.send_if_modified(|told| {
                                let standing = Standing::Standby { leader };
                                let changed = *told != standing;
                                *told = standing;
                                changed
                            });
                        }
                        Next::Take { epoch, against } => match self.floor(&against).await {
                            Ok(floor) => {
                                let held = self.take(epoch.max(floor), against).await;
                                if held.is_some() {
                                    return held;
                                }
                            }
                            Err(error) => tracing::warn!("{}", error.describe()),
                        },
                    }
                }
                Err(error @ Error::Corrupt { .. }) => {
                    let reason = error.describe();
                    let _ = self.tell.send(Standing::Broken { reason });
                    return None;
                }
                Err(error) => tracing::warn!("{}", error.describe()),
            }
            if self.sleep(self.options.lease.renew_every, stopped).await {
                return None;
            }
        }
    }

    /// The lowest epoch to take. Where `leader.json` was removed, the records still tell which
    /// ones there were: a leader below them could change none of them.
    async fn floor(&self, against: &Option<UpdateVersion>) -> Result<u64> {
        if against.is_some() {
            return Ok(1);
        }
        let once = Folder::new(Arc::clone(&self.store), ONCE);
        let layout = Layout::beside(&self.options.path);
        Ok(highest_epoch(&once, &layout).await? + 1)
    }

    async fn take(&mut self, epoch: u64, against: Option<UpdateVersion>) -> Option<Held> {
        let begun = self.now();
        let document = self.me.document(epoch, false);
        match self.write(&document, against).await {
            Ok(version) => {
                let held = Held {
                    epoch,
                    version,
                    renewed_at: begun,
                };
                // An answer that took so long is worth nothing: the next look takes it again.
                (self.now() < held.until(self.me.ttl)).then_some(held)
            }
            // If it took effect after all, the next look finds this process's own name.
            Err(error) => {
                tracing::debug!(error = describe(&error), epoch, "did not take the lead");
                None
            }
        }
    }

    /// Until this process has lost its place or gives it up.
    async fn lead(&mut self, mut held: Held, mut stopped: watch::Receiver<bool>) {
        let LeaseOptions { ttl, renew_every } = self.options.lease;
        loop {
            self.told(&held);
            let pause = renew_every.min(held.until(ttl).saturating_sub(self.now()));
            if self.sleep(pause, &mut stopped).await {
                let document = self.me.document(held.epoch, true);
                if let Err(error) = self.write(&document, Some(held.version)).await {
                    tracing::warn!(
                        error = describe(&error),
                        "could not give up the lead; standbys will wait"
                    );
                }
                return;
            }
            let lost = match self.renew(&mut held).await {
                Renewal::Lost(epoch) => Some(epoch),
                Renewal::Held | Renewal::Unknown => None,
            };
            let late = self.now() >= held.until(ttl);
            if lost.is_some() || late {
                let epoch = lost.flatten();
                let _ = self.tell.send(Standing::Lost { epoch });
                return;
            }
        }
    }

    /// One renewal; it ends when the time as a leader does.
    async fn renew(&mut self, held: &mut Held) -> Renewal {
        let begun = self.now();
        let left = held.until(self.options.lease.ttl).saturating_sub(begun);
        let document = self.me.document(held.epoch, false);
        let attempt = async {
            match self.write(&document, Some(held.version.clone())).await {
                Ok(version) => {
                    held.renewed(version, begun);
                    Renewal::Held
                }
                Err(error) => {
                    tracing::warn!(error = describe(&error), "could not renew the lease");
                    match self.read().await {
                        Ok(found) => held.refused(&document, &found, begun),
                        Err(_) => Renewal::Unknown,
                    }
                }
            }
        };
        let answer = tokio::time::timeout(left, attempt).await;
        answer.unwrap_or(Renewal::Unknown)
    }

    fn told(&self, held: &Held) {
        let until = self.begun + held.until(self.options.lease.ttl);
        let epoch = held.epoch;
        let _ = self.tell.send(Standing::Leads { epoch, until });
    }

    async fn read(&self) -> Result<Found> {
        let once = Folder::new(Arc::clone(&self.store), ONCE);
        let read = once.read_record::<Leader>(&self.options.path).await?;
        Ok(read.map(|stored| (stored.value, stored.version)))
    }

    /// One conditional write, however it is answered.
    async fn write(
        &self,
        document: &Leader,
        against: Option<UpdateVersion>,
    ) -> Result<UpdateVersion, StoreError> {
        let bytes = serde_json::to_vec_pretty(document).map_err(|e| StoreError::Generic {
            store: "leader.json",
            source: Box::new(e),
        })?;
        let mode = against.map_or(PutMode::Create, PutMode::Update);
        let path = &self.options.path;
        let put = self
            .store
            .put_opts(path, Bytes::from(bytes).into(), mode.into())
            .await?;
        Ok(put.into())
    }

    /// Whether to stop.
    async fn sleep(&self, pause: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
        // A dropped keeper stops too.
        let told = stopped.wait_for(|stop| *stop);
        tokio::time::timeout(pause, told).await.is_ok()
    }
}

/// The lease has its own pace of trying again.
const ONCE: rankmill_jobs::publication::Retry = rankmill_jobs::publication::Retry {
    attempts: 1,
    first_wait: Duration::ZERO,
    longest_wait: Duration::ZERO,
};
