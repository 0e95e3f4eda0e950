//! The one place where a DataFusion session is built: embedded, on the scheduler and on an
//! executor alike, so that a plan means the same everywhere.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryLimit, MemoryPool, UnboundedMemoryPool,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::compute::{Compute, Computed, Embedded};
use crate::error::Result;
use crate::functions::{aggregate_functions, scalar_functions};
use crate::progress::ScanProgress;
use crate::rank::RankingQueryPlanner;
use crate::rules::{optimizer_rules, physical_optimizer_rules};
use crate::store::{RetryPolicy, Stores};

/// What a session may use.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Partitions worked on at once; by default the number of processors.
    pub threads: Option<usize>,
    /// Bytes that sorts, joins and aggregations may hold before they spill; by default no limit.
    pub memory_bytes: Option<usize>,
    /// Bytes that the code table of a dimension may take in each process: a larger dimension is
    /// joined by shuffling. By default half of the memory, or 4 GiB without a limit.
    pub table_bytes: Option<usize>,
    /// How hard to try on S3.
    pub retry: RetryPolicy,
}

/// In a configuration: plans are cut into stages for several processes. Without it, operators may
/// share what they have in memory.
#[derive(Debug, Clone, Copy)]
pub struct Distributed;

impl Distributed {
    /// The configuration of plans for several processes.
    pub fn mark(config: SessionConfig) -> SessionConfig {
        config.with_extension(Arc::new(Self))
    }

    pub(crate) fn is_set(config: &SessionConfig) -> bool {
        config.get_extension::<Self>().is_some()
    }
}

/// In a configuration: what the code table of a dimension may take.
#[derive(Debug, Clone, Copy)]
struct TableLimit(usize);

/// What the code table of a dimension may take where memory has no limit.
const MAX_TABLE_BYTES: usize = 4 << 30;

/// Sorts that a thread may have begun at once, in a plan with windows.
const SORTS_PER_THREAD: usize = 4;
/// A sort sets aside one of so many parts of its share, to merge what it has spilled.
const SORT_SHARE: usize = 4;

/// A DataFusion session with rankmill's functions, planner and stores.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    stores: Arc<Stores>,
    compute: Arc<dyn Compute>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// Builds a session; opens no file and no connection.
    pub fn new(options: &SessionOptions) -> Result<Self> {
        let stores = Arc::new(Stores::new(options.retry));
        let pool: Arc<dyn MemoryPool> = match options.memory_bytes {
            Some(bytes) => Arc::new(FairSpillPool::new(bytes)),
            None => Arc::new(UnboundedMemoryPool::default()),
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool)
            .with_object_store_registry(Arc::clone(&stores) as _)
            .build_arc()?;
        let state = state(config(options), runtime)?;
        Ok(Self {
            context: SessionContext::new_with_state(state),
            stores,
            compute: Arc::new(Embedded),
        })
    }

    /// A session with the same stores, memory and options, but no tables.
    pub fn without_tables(&self) -> Result<Self> {
        let state = state(self.context.copied_config(), self.context.runtime_env())?;
        Ok(Self {
            context: SessionContext::new_with_state(state),
            stores: Arc::clone(&self.stores),
            compute: Arc::clone(&self.compute),
        })
    }

    /// The same session, but its plans are computed elsewhere.
    pub fn with_compute(self, compute: Arc<dyn Compute>) -> Self {
        Self { compute, ..self }
    }

    /// Computes a plan of this session, wherever it computes; see [`Compute::execute`].
    pub async fn execute(
        &self,
        name: &str,
        plan: &LogicalPlan,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<Computed> {
        self.compute.execute(self, name, plan, progress).await
    }

    /// Whether plans are computed in this process.
    pub fn computes_here(&self) -> bool {
        self.compute.is_here()
    }

    /// Whether plans are computed in this process, with as much memory as they ask for.
    pub fn keeps_in_memory(&self) -> bool {
        let pool = &self.context.runtime_env().memory_pool;
        self.compute.is_here() && matches!(pool.memory_limit(), MemoryLimit::Infinite)
    }

    /// A state like this session's, without tables, under another configuration.
    pub fn state_with(&self, config: SessionConfig) -> Result<SessionState, DataFusionError> {
        state(config, self.context.runtime_env())
    }

    /// Bytes that the code tables of a job's dimensions may take in each process.
    pub fn table_limit(&self) -> usize {
        let config = self.context.copied_config();
        if let Some(TableLimit(bytes)) = config.get_extension::<TableLimit>().as_deref() {
            return *bytes;
        }
        match self.context.runtime_env().memory_pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 2,
            _ => MAX_TABLE_BYTES,
        }
    }

    /// The DataFusion side.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The object stores.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }
}

fn state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState, DataFusionError> {
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_query_planner(Arc::new(RankingQueryPlanner))
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rules(physical_optimizer_rules())
        .build();
    register_functions(&mut state)?;
    Ok(state)
}

/// The configuration of every session.
pub(crate) fn config(options: &SessionOptions) -> SessionConfig {
    let threads = options
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(false)
        // A scan that gets a filter while it runs leaves row groups out by what footers say, whatever
        // `source::condition` has switched off. By its name the option takes its parts along.
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    if let Some(bytes) = options.table_bytes {
        config = config.with_extension(Arc::new(TableLimit(bytes)));
    }
    if let Some(bytes) = options.memory_bytes {
        let execution = &mut config.options_mut().execution;
        let share = bytes / (threads.max(1) * SORTS_PER_THREAD * SORT_SHARE);
        let reserved = &mut execution.sort_spill_reservation_bytes;
        *reserved = share.min(*reserved);
    }
    let options = config.options_mut();
    // A column is called what the user's files call it.
    options.sql_parser.enable_ident_normalization = false;
    options.execution.parquet.pushdown_filters = false;
    // Files are shared out where they are listed, by what is read of them (`source::packing`): a rule
    // of DataFusion would cut them anew at equal bytes of the whole files.
    options.optimizer.repartition_file_scans = false;
    // A dimension is built once and shared by all partitions; repartitioning the fact instead
    // would move every row. Measured on 4 M users: see ARCHITECTURE.md, "Choices".
    options.optimizer.hash_join_single_partition_threshold = 1 << 30;
    options.optimizer.hash_join_single_partition_threshold_rows = 50_000_000;
    config
}

/// Registers rankmill's functions in any registry, over DataFusion's of the same name.
fn register_functions(
    registry: &mut dyn datafusion::execution::FunctionRegistry,
) -> Result<(), DataFusionError> {
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    Ok(())
}
