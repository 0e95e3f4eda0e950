//! A scheduler from its start to its end: the API first, then the competition for the lead.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rankmill_engine::store::{RetryPolicy, Stores};
use rankmill_engine::{Location, Session, store_error_is_transient};
use rankmill_jobs::publication::{Error as PublicationError, Target, probe};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::api::Api;
use crate::backend::{Backend, BackendOptions};
use crate::core::{Core, CoreOptions, RECORD_RETRY};
use crate::dispatch::{Dispatcher, Halt};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::lease::{Keeper, KeeperOptions, Standing};
use crate::metrics::Metrics;
use crate::options::{Addresses, LeaseOptions, Options, Stopped};
use crate::records::{Folder, Layout};
use crate::service::{Lead, Service};

/// How long requests that go on may take when the scheduler stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks for a lake that is away.
const LAKE_PAUSE: Duration = Duration::from_secs(2);
/// Shares of the time to live after which the lease's client gives up a request, and the
/// connection to begin with. A store may be slow and still be one to lead over, as long as an
/// answer comes before the leader must stop.
const LEASE_REQUEST: f64 = 0.5;
const LEASE_CONNECT: f64 = 0.25;

/// Runs a scheduler until `shutdown`, or until it has lost the lead. The API answers from the
/// start; what it answers before this scheduler leads is where the leader is.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Stopped> {
    let place = Location::parse(&options.lake)?;
    let session = Session::new(&options.session)?;
    let store = session.stores().of(&place)?;
    let layout = Layout::new(place.path());
    let target = Target::new(Arc::clone(&store), layout.root().clone());

    let prefixes = match options.allowed_prefixes.as_slice() {
        [] => vec![options.lake.clone()],
        prefixes => prefixes.to_vec(),
    };
    let metrics = Metrics::new();
    let service = Service::new(
        Access::new(&prefixes)?,
        Arc::clone(&options.generator),
        options.backend.is_embedded(),
        metrics.clone(),
    );
    let api = Api::bind(&options.api, service.clone()).await?;
    let address = api.address();
    if address.ip().is_unspecified() && options.advertise.is_none() {
        return Err(Error::Setup {
            what: format!("the API's address {address}"),
            reason: "say by which URL clients reach it (--advertise-url)".to_owned(),
        });
    }
    if let Some(announce) = options.announce {
        announce(Addresses { api: address });
    }
    let scheme = if options.api.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let api_url = options
        .advertise
        .unwrap_or_else(|| format!("{scheme}://{address}"));
    let (end_api, ending) = watch::channel(false);
    let api = tokio::spawn(api.serve(until_set(ending)));

    let halt = Shutdown::new(shutdown);
    let lease = options.lease;
    let keeper_options = KeeperOptions {
        instance: options.instance.clone(),
        api_url: Some(api_url),
        lease,
        path: layout.leader(),
    };
    let scheduler = Scheduler {
        service: service.clone(),
        metrics,
        halt: halt.receiver.clone(),
    };
    let led = async {
        tokio::select! {
            biased;
            () = until_set(halt.receiver.clone()) => return Ok(Stopped::Shutdown),
            probed = usable(&target, &options.lake) => probed?,
        }
        let keeper = Keeper::start(keeper_options, move || open_apart(&place, lease))?;
        let Some(epoch) = scheduler.wait_to_lead(&keeper).await? else {
            keeper.release().await;
            return Ok(Stopped::Shutdown);
        };
        let core_options = CoreOptions {
            folder: Folder::new(store, RECORD_RETRY),
            layout,
            lake: options.lake,
            instance: options.instance,
            epoch,
            limits: options.limits,
            metrics: scheduler.metrics.clone(),
            standing: keeper.standing(),
        };
        let work = Work {
            core: core_options,
            backend: options.backend,
            session: options.session,
            generator: options.generator,
        };
        let stopped = scheduler.lead(&keeper, work).await;
        scheduler.metrics.set_leader(false, epoch);
        if matches!(stopped, Ok(Stopped::Shutdown)) {
            keeper.release().await;
        }
        stopped
    };
    let stopped = Box::pin(led).await;
    let _ = end_api.send(true);
    drain(api).await;
    stopped
}

/// What a leader starts.
struct Work {
    core: CoreOptions,
    backend: BackendOptions,
    session: rankmill_engine::SessionOptions,
    generator: Arc<dyn crate::generate::LoadGenerator>,
}

struct Scheduler {
    service: Service,
    metrics: Metrics,
    halt: watch::Receiver<bool>,
}

impl Scheduler {
    /// The epoch once this scheduler leads; `None` if it is to stop first.
    async fn wait_to_lead(&self, keeper: &Keeper) -> Result<Option<u64>> {
        let mut standing = keeper.standing();
        loop {
            let now = standing.borrow_and_update().clone();
            match now {
                Standing::Standby { leader } => self.service.follow(leader),
                Standing::Leads { epoch, .. } => {
                    self.metrics.set_leader(true, epoch);
                    return Ok(Some(epoch));
                }
                Standing::Lost { .. } => return Ok(None),
                Standing::Broken { reason } => {
                    return Err(Error::Setup {
                        what: "the lease".to_owned(),
                        reason,
                    });
                }
            }
            tokio::select! {
                biased;
                () = until_set(self.halt.clone()) => return Ok(None),
                changed = standing.changed() => if changed.is_err() {
                    return Ok(None);
                },
            }
        }
    }

    async fn lead(&self, keeper: &Keeper, work: Work) -> Result<Stopped> {
        let lost = until_lost(keeper.standing());
        tokio::pin!(lost);
        let session_options = work.session;
        let start = async {
            let backend = Backend::start(work.backend, &session_options).await?;
            let session = backend.session(&session_options)?;
            let core = Core::take_over(work.core).await?;
            Ok::<_, Error>((backend, session, core))
        };
        let (backend, session, core) = tokio::select! {
            biased;
            () = &mut lost => return Ok(Stopped::LostLeadership),
            () = until_set(self.halt.clone()) => return Ok(Stopped::Shutdown),
            started = start => match started {
                Ok(started) => started,
                // The store is away, or somebody else has it: both end as a standby.
                Err(error @ (Error::Store { .. } | Error::Fenced { .. })) => {
                    tracing::warn!("{}", error.describe());
                    return Ok(Stopped::LostLeadership);
                }
                Err(error) => return Err(error),
            },
        };
        let gaps = Gaps::new(session.clone());
        self.service.lead(Lead {
            core: Arc::clone(&core),
            gaps: gaps.clone(),
            backend: backend.clone(),
        });
        let dispatcher = Dispatcher {
            core: Arc::clone(&core),
            session,
            generator: work.generator,
            gaps,
        };
        let (halt, halting) = watch::channel(None);
        let working = tokio::spawn(Box::pin(dispatcher.work(halting)));
        let watching = tokio::spawn(watch_executors(backend, self.metrics.clone()));
        let mut fenced = core.fenced();
        let why = tokio::select! {
            biased;
            () = &mut lost => Halt::Lost,
            _ = fenced.wait_for(Option::is_some) => Halt::Lost,
            () = until_set(self.halt.clone()) => Halt::Shutdown,
        };
        tracing::info!(?why, "stops");
        watching.abort();
        let _ = halt.send(Some(why));
        tokio::select! {
            biased;
            _ = working => {}
            // Losing the lead ends everything at once.
            () = &mut lost, if why == Halt::Shutdown => {}
        }
        self.service.follow(None);
        core.forget_runs();
        Ok(match why {
            Halt::Shutdown => Stopped::Shutdown,
            Halt::Lost => Stopped::LostLeadership,
        })
    }
}

/// Comes back once the lake is found to honour conditional writes. S3 may be away for longer than
/// requests to it are tried again, also when a scheduler starts anew because of that.
async fn usable(target: &Target, lake: &str) -> Result<()> {
    loop {
        let Err(error) = probe(target).await else {
            return Ok(());
        };
        let reason = crate::error::describe(&error);
        let away = matches!(&error, PublicationError::Store { source, .. }
            if store_error_is_transient(source) && lake.starts_with("s3://"));
        if !away {
            let what = format!("the lake '{lake}'");
            return Err(Error::Setup { what, reason });
        }
        tracing::warn!("waits for the lake '{lake}': {reason}");
        tokio::time::sleep(LAKE_PAUSE).await;
    }
}

/// The lease's own client: nothing that computes shares its connections, and it gives up early
/// enough to try again.
fn open_apart(place: &Location, lease: LeaseOptions) -> Result<Arc<dyn object_store::ObjectStore>> {
    let stores = Stores::new(RetryPolicy {
        max_retries: 1,
        retry_timeout: lease.ttl.mul_f64(LEASE_CONNECT),
        request_timeout: lease.ttl.mul_f64(LEASE_REQUEST),
        connect_timeout: lease.ttl.mul_f64(LEASE_CONNECT),
    });
    Ok(stores.of(place)?)
}

async fn watch_executors(backend: Backend, metrics: Metrics) {
    loop {
        metrics.set_executors(&backend.executors().await);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Until this process doesn't lead any more, by its own clock if by nothing else.
async fn until_lost(mut standing: watch::Receiver<Standing>) {
    loop {
        let until = match &*standing.borrow_and_update() {
            Standing::Leads { until, .. } => *until,
            _ => return,
        };
        tokio::select! {
            biased;
            changed = standing.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep_until(until.into()) => {
                // The keeper may have renewed in the same moment.
                if !standing.has_changed().unwrap_or(false) {
                    return;
                }
            }
        }
    }
}

/// A shutdown that many can wait for.
struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    fn new(shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        let (tell, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown => drop(tell.send(true)),
                () = tell.closed() => {}
            }
        });
        Self { receiver }
    }
}

async fn until_set(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        // Whoever would set it is gone.
        std::future::pending::<()>().await;
    }
}

async fn drain(api: JoinHandle<Result<()>>) {
    let abort = api.abort_handle();
    match tokio::time::timeout(DRAIN_TIMEOUT, api).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!("{}", error.describe()),
        Ok(Err(error)) => tracing::warn!(%error, "the API ended badly"),
        Err(_) => abort.abort(),
    }
}
