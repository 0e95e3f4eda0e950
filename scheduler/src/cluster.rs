//! Computing on executors: Ballista's scheduler inside this process, and what it lacks.
//!
//! Ballista distributes; it does not recover dependably when an executor is lost (a job may then
//! hang for ever, under both of its planners). So a computation is watched from outside: when
//! an executor that works for it is lost, or nothing moves for too long, the Ballista job is
//! cancelled and submitted anew. Only the leading scheduler opens Ballista's port.

mod collect;
mod compute;
mod executors;
mod shape;
mod skew;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::BallistaConfig;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_scheduler::cluster::{BallistaCluster, JobState};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use rankmill_engine::transport::{
    EndpointOverride, Front, NodeTls, endpoint_override, private_address,
};
use rankmill_engine::{Distributed, Session, codec};
use tokio::net::TcpListener;

use crate::error::{Error, Result};
use crate::model::Executor;

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Bytes of one gRPC message between nodes: a plan with the files of many days, or a batch.
const MAX_MESSAGE_BYTES: u32 = 256 << 20;
/// A dimension up to this size is sent to every executor; a larger one is shuffled with the log.
const BROADCAST_BYTES: usize = 1 << 30;

/// Which of Ballista's planners cuts a plan into stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planner {
    /// Once, before it begins. What it is given is the session's own physical plan, so that plans of
    /// a shape that goes wrong on executors are known before.
    #[default]
    Static,
    /// Again after each stage. It plans by itself from the logical plan, with its own physical rules
    /// in place of the session's. For comparison: runs are not better for it.
    Adaptive,
}

/// How a scheduler runs its cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where executors reach Ballista's scheduler; port 0 is any free one.
    pub bind: SocketAddr,
    /// What executors call this host, if not by the address it is bound to.
    pub advertise: Option<String>,
    /// An executor that was not heard of for this long is lost.
    pub executor_timeout: Duration,
    /// A computation in which no task ended for this long is submitted anew, with twice as long
    /// the next time.
    pub stall_timeout: Duration,
    /// A computation that finds no executor for this long fails, to be tried again later.
    pub no_executor_timeout: Duration,
    /// Partitions of a scan for each slot of the cluster: more even out tasks of unequal length
    /// and repeat less when one fails, fewer cost less.
    pub partitions_per_slot: usize,
    /// What cuts plans into stages.
    pub planner: Planner,
    /// Certificates for the connections between the nodes.
    pub tls: Option<NodeTls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 7450)),
            advertise: None,
            executor_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(600),
            no_executor_timeout: Duration::from_secs(60),
            partitions_per_slot: 2,
            planner: Planner::default(),
            tls: None,
        }
    }
}

/// A running Ballista scheduler.
pub struct Cluster {
    server: Server,
    /// Ballista's jobs that have ended.
    ended: Arc<dyn JobState>,
    options: Options,
    address: SocketAddr,
    endpoint: EndpointOverride,
    serving: tokio::task::JoinHandle<()>,
    front: Option<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("Cluster");
        f.field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
        if let Some(front) = &self.front {
            front.abort();
        }
    }
}

impl Cluster {
    /// Opens Ballista's port and begins to accept executors.
    pub async fn start(options: Options, session: &Session) -> Result<Arc<Self>> {
        let setup = |reason: String| Error::Setup {
            what: format!("the cluster's address {}", options.bind),
            reason,
        };
        if options.bind.ip().is_unspecified() && options.advertise.is_none() {
            return Err(setup(
                "say by which host name or address executors reach it (--advertise)".to_owned(),
            ));
        }
        let tls = options.tls.as_ref().map(NodeTls::load).transpose()?;
        let (listener, address, front) = match &tls {
            None => {
                let bound = TcpListener::bind(options.bind).await;
                let listener = bound.map_err(|e| setup(e.to_string()))?;
                let address = listener.local_addr().map_err(|e| setup(e.to_string()))?;
                (listener, address, None)
            }
            Some(tls) => {
                let front = Front::bind(tls.clone(), options.bind).await?;
                let private = private_address(front.address())?;
                let bound = TcpListener::bind(private).await;
                let listener = bound.map_err(|e| setup(format!("behind it, {private}: {e}")))?;
                let address = front.address();
                let forwarding = front.run(private, std::future::pending());
                (listener, address, Some(tokio::spawn(forwarding)))
            }
        };
        let host = options
            .advertise
            .clone()
            .unwrap_or_else(|| address.ip().to_string());
        let seconds = options.executor_timeout.as_secs().max(2);
        let session = session.clone();
        let endpoint = endpoint_override(tls);
        let config = SchedulerConfig {
            external_host: host,
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            scheduling_policy: ballista_core::config::TaskSchedulingPolicy::PushStaged,
            task_distribution: TaskDistributionPolicy::RoundRobin,
            executor_timeout_seconds: seconds,
            expire_dead_executor_interval_seconds: 1,
            no_executors_grace_period_seconds: options.no_executor_timeout.as_secs(),
            executor_termination_grace_period: 30,
            // Results are fetched at once, the largest within this time; then what is left on the
            // executors may go.
            finished_job_data_clean_up_interval_seconds: 60,
            finished_job_state_clean_up_interval_seconds: 120,
            grpc_server_max_decoding_message_size: MAX_MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: MAX_MESSAGE_BYTES,
            grpc_client_max_message_size: MAX_MESSAGE_BYTES,
            override_config_producer: Some(Arc::new(|| ballista_settings(SessionConfig::new()))),
            override_session_builder: Some(Arc::new(move |config| session.state_with(config))),
            override_physical_codec: Some(codec::physical(Arc::new(
                BallistaPhysicalExtensionCodec::default(),
            ))),
            override_create_grpc_client_endpoint: Some(Arc::clone(&endpoint)),
            ..SchedulerConfig::default()
        };
        let ballista = |e: ballista_core::error::BallistaError| Error::Cluster {
            reason: e.to_string(),
        };
        let config = Arc::new(config);
        let cluster = BallistaCluster::new_from_config(&config)
            .await
            .map_err(ballista)?;
        let ended = cluster.job_state();
        let server = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config)
            .await
            .map_err(ballista)?;
        let service = server.clone();
        let serving = tokio::spawn(async move {
            if let Err(error) = start_grpc_service_with_listener(listener, service).await {
                tracing::error!("the cluster's port is closed: {error}");
            }
        });
        Ok(Arc::new(Self {
            server,
            ended,
            options,
            address,
            endpoint,
            serving,
            front,
        }))
    }

    /// Where executors connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Those that were heard of within the time-out.
    pub async fn executors(&self) -> Vec<Executor> {
        executors::list(&self.server, self.options.executor_timeout).await
    }

    /// Whether there is an executor to compute on.
    pub fn is_ready(&self) -> bool {
        self.server.is_ready()
    }
}

/// Ballista's settings on top of a session's.
fn ballista_settings(config: SessionConfig) -> SessionConfig {
    Distributed::mark(config)
        .with_option_extension(BallistaConfig::default())
        .set_usize("ballista.scheduler.max_partitions_per_task", 1)
        .set_usize(
            "ballista.optimizer.broadcast_join_threshold_bytes",
            BROADCAST_BYTES,
        )
        .set_str("ballista.shuffle.compression.codec", "lz4")
        .set_usize(
            "ballista.client.grpc_max_message_size",
            MAX_MESSAGE_BYTES as usize,
        )
        // A connection to a host that is gone must not be waited for longer than the watchdog.
        .set_usize("ballista.client.grpc_connect_timeout_seconds", 5)
        .set_usize("ballista.client.grpc_tcp_keepalive_seconds", 5)
        .set_usize("ballista.client.grpc_http2_keepalive_interval_seconds", 5)
        // As Ballista's own sessions have it: what lives in one process doesn't cross stages.
        .with_round_robin_repartition(false)
        .set_bool(
            "datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery",
            false,
        )
        // A scan in one stage would wait for a filter from another, for ever (ballista #1375).
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
}
