//! Ballista's executor, put together and joined to a scheduler.
//!
//! `start_executor_process` of Ballista would do most of this, but it takes the signals of the
//! process, leaves the scheduler before its tasks have ended, and hides what leaving in order
//! needs to know.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::ConfigProducer;
use ballista_core::config::{BallistaConfig, TaskSchedulingPolicy};
use ballista_core::error::BallistaError;
use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{
    BallistaCodec, BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec,
};
use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use ballista_executor::executor::Executor;
use ballista_executor::executor_process::{ExecutorProcessConfig, structure_executor_metadata};
use ballista_executor::executor_server;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use ballista_executor::shutdown::{Shutdown, ShutdownNotifier};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use rankmill_engine::transport::{EndpointOverride, Tls, endpoint_override};
use rankmill_engine::work::Workers;
use rankmill_engine::{codec, node};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};

use crate::cancel::{Engine, Stop};
use crate::client_pool::ClientPool;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::listen::{Ports, advertised, bracketed};
use crate::memory;
use crate::options::Options;
use crate::work_dir::WorkDir;

/// Bytes of one gRPC message between nodes: a plan with the files of many days, or a batch.
const MAX_MESSAGE_BYTES: u32 = 256 << 20;
const HEARTBEAT_SECONDS: u64 = 1;
/// Sessions whose runtime is remembered; all share one anyway.
const SESSIONS: usize = 16;

/// What lives as long as the process.
pub(crate) struct Process {
    pub(crate) options: Options,
    pub(crate) tls: Option<Tls>,
    pub(crate) work_dir: WorkDir,
    pub(crate) stop: Stop,
    runtime: Arc<RuntimeEnv>,
    memory: MemoryPoolPolicy,
    endpoint: EndpointOverride,
}

/// A member of a cluster.
pub(crate) struct Member {
    pub(crate) executor: Arc<Executor>,
    pub(crate) scheduler: SchedulerGrpcClient<Channel>,
    /// Listeners and what else runs beside; the end of one is the end of all.
    pub(crate) services: JoinSet<String>,
    /// The scheduler sends the executor away: it believes it dead.
    pub(crate) sent_away: mpsc::Receiver<bool>,
    /// Ballista gives up: the heartbeat failed several times.
    pub(crate) gave_up: broadcast::Receiver<()>,
    /// Ends Ballista's loops.
    pub(crate) shutdown: broadcast::Sender<()>,
}

impl Process {
    pub(crate) fn start(options: Options) -> Result<Self> {
        options.check()?;
        let tls = options.tls.as_ref().map(|tls| tls.load());
        let tls = tls.transpose().map_err(Error::Setup)?;
        let work_dir = WorkDir::open(&options.work_dir)?;
        let runtime = node::runtime(&work_dir.spill(), options.retry).map_err(Error::Setup)?;
        Ok(Self {
            memory: memory::policy(options.memory_bytes, options.slots),
            endpoint: endpoint_override(tls.clone()),
            options,
            tls,
            work_dir,
            stop: Stop::default(),
            runtime,
        })
    }

    /// Where Ballista keeps the files of jobs.
    pub(crate) fn shuffle(&self) -> PathBuf {
        self.work_dir.shuffle()
    }

    /// Joins the scheduler that `link` leads to.
    pub(crate) async fn join(&self, link: &Link) -> Result<Member> {
        let failed = |e: &BallistaError| Error::join(link.scheduler(), e);
        let ports = Ports::open(&self.options, self.tls.as_ref()).await?;
        let config = Arc::new(self.config(link, &ports));
        let executor = Arc::new(self.executor(&config));
        let scheduler = self.connect(link.scheduler()).await?;
        let notifier = ShutdownNotifier::new();
        let (send_away, sent_away) = mpsc::channel(1);
        let mut services = JoinSet::new();
        services.spawn(serve_flight(
            ports.flight,
            self.shuffle(),
            self.tls.clone(),
            config.grpc_server_config.clone(),
            notifier.subscribe_for_shutdown(),
        ));
        if let Some(front) = ports.front {
            services.spawn(async move {
                front.run(ports.tasks, std::future::pending()).await;
                "the port for tasks closed".to_owned()
            });
        }
        let started = executor_server::startup(
            scheduler.clone(),
            Arc::clone(&config),
            Arc::clone(&executor),
            ballista_codec(self.options.workers.clone()),
            send_away,
            &notifier,
            config.health.clone(),
        );
        let serving = match started.await {
            Ok(serving) => serving,
            Err(BallistaError::IoError(source)) if self.options.grpc_port != 0 => {
                let address = ports.tasks;
                return Err(Error::Listen { address, source });
            }
            Err(e) => return Err(failed(&e)),
        };
        services.spawn(async move {
            let _guard = AbortOnDrop(serving.abort_handle());
            format!("the port for tasks closed: {:?}", serving.await)
        });
        Ok(Member {
            executor,
            scheduler,
            services,
            sent_away,
            gave_up: notifier.notify_shutdown.subscribe(),
            shutdown: notifier.notify_shutdown,
        })
    }

    async fn connect(&self, scheduler: &str) -> Result<SchedulerGrpcClient<Channel>> {
        let failed = |reason: String| Error::Join {
            scheduler: scheduler.to_owned(),
            reason,
        };
        let endpoint =
            Endpoint::new(format!("http://{scheduler}")).map_err(|e| failed(e.to_string()))?;
        let endpoint = (self.endpoint)(endpoint).map_err(|e| failed(e.to_string()))?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| failed(e.to_string()))?;
        Ok(SchedulerGrpcClient::new(channel)
            .max_encoding_message_size(MAX_MESSAGE_BYTES as usize)
            .max_decoding_message_size(MAX_MESSAGE_BYTES as usize))
    }

    fn config(&self, link: &Link, ports: &Ports) -> ExecutorProcessConfig {
        ExecutorProcessConfig {
            executor_id: self.work_dir.id().to_owned(),
            bind_host: bracketed(ports.tasks.ip()),
            external_host: Some(advertised(&self.options, link.local())),
            port: ports.flight_port,
            grpc_port: ports.tasks.port(),
            vcores: self.options.slots,
            task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
            work_dir: Some(self.shuffle().to_string_lossy().into_owned()),
            grpc_max_decoding_message_size: MAX_MESSAGE_BYTES,
            grpc_max_encoding_message_size: MAX_MESSAGE_BYTES,
            grpc_server_config: GrpcServerConfig {
                timeout_seconds: 20,
                tcp_keepalive_seconds: 5,
                http2_keepalive_interval_seconds: 5,
                http2_keepalive_timeout_seconds: 10,
            },
            executor_heartbeat_interval_seconds: HEARTBEAT_SECONDS,
            override_create_grpc_client_endpoint: Some(Arc::clone(&self.endpoint)),
            ..ExecutorProcessConfig::default()
        }
    }

    fn executor(&self, config: &Arc<ExecutorProcessConfig>) -> Executor {
        let runtime = Arc::clone(&self.runtime);
        let base = Arc::new(move |_: &_| Ok(Arc::clone(&runtime)));
        let runtimes =
            DefaultSessionRuntimeCache::new(base.clone(), Arc::clone(&self.memory), SESSIONS);
        Executor::new(
            structure_executor_metadata(config, self.options.slots as u32),
            &self.shuffle().to_string_lossy(),
            base,
            self.config_producer(),
            Arc::new(functions()),
            Arc::new(LoggingMetricsCollector::default()),
            self.options.slots,
            Arc::new(Engine::new(
                Arc::new(ClientPool::default()),
                self.stop.clone(),
            )),
        )
        .with_session_runtime_cache(Some(Arc::new(runtimes)))
    }

    /// What tasks' sessions start from. The settings of a job go over it; how to connect to
    /// other executors is this node's matter.
    fn config_producer(&self) -> ConfigProducer {
        let (endpoint, tls) = (Arc::clone(&self.endpoint), self.tls.is_some());
        Arc::new(move || {
            node::session_config()
                .with_option_extension(BallistaConfig::default())
                .set_bool("ballista.client.use_tls", tls)
                .set_usize(
                    "ballista.client.grpc_max_message_size",
                    MAX_MESSAGE_BYTES as usize,
                )
                .with_ballista_override_create_grpc_client_endpoint(Arc::clone(&endpoint))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.all();
    }
}

/// Ends a listener of Ballista's, which otherwise waits for its clients to go.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn ballista_codec(workers: Workers) -> BallistaCodec<LogicalPlanNode, PhysicalPlanNode> {
    let inner = Arc::new(BallistaPhysicalExtensionCodec::default());
    let physical = codec::physical_with(inner, workers);
    BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), physical)
}

/// DataFusion's functions and rankmill's, each by its own name only: a plan says `exact_sum`
/// where it means rankmill's, and `sum` where a rule put DataFusion's.
fn functions() -> BallistaFunctionRegistry {
    let mut registry = BallistaFunctionRegistry::default();
    let nested = datafusion::functions_nested::all_default_nested_functions();
    for function in nested.into_iter().chain(node::scalar_functions()) {
        let name = function.name().to_owned();
        registry.scalar_functions.insert(name, function);
    }
    for function in node::aggregate_functions() {
        let name = function.name().to_owned();
        registry.aggregate_functions.insert(name, function);
    }
    registry
}

/// Serves shuffle files; returns why it ended.
async fn serve_flight(
    listener: TcpListener,
    shuffle: PathBuf,
    tls: Option<Tls>,
    config: GrpcServerConfig,
    mut shutdown: Shutdown,
) -> String {
    let service = BallistaFlightService::new(shuffle.to_string_lossy().into_owned());
    let service = FlightServiceServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES as usize)
        .max_encoding_message_size(MAX_MESSAGE_BYTES as usize);
    let mut server = create_grpc_server(&config);
    if let Some(tls) = tls {
        server = match server.tls_config(tls.grpc_server()) {
            Ok(server) => server,
            Err(e) => return e.to_string(),
        };
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = server
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, shutdown.recv())
        .await;
    format!("the port for shuffle files closed: {served:?}")
}
