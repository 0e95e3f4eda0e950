//! Connections to other executors, kept for a while: a shuffle of many files would otherwise
//! open one for each and run out of ports. Ballista's own pool is private to its crate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;

/// An idle connection is closed after this long.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept for one executor; a shuffle doesn't use more at once.
const MAX_IDLE: usize = 64;

type Key = (String, u16, GrpcClientConfig);
type Idle = HashMap<Key, Vec<(Instant, BallistaClient)>>;

/// Idle connections by executor.
#[derive(Default)]
pub(crate) struct ClientPool {
    idle: Arc<Mutex<Idle>>,
}

impl std::fmt::Debug for ClientPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPool").finish_non_exhaustive()
    }
}

impl ClientPool {
    fn take(&self, key: &Key) -> Option<BallistaClient> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        evict(&mut idle);
        idle.get_mut(key)?.pop().map(|(_, client)| client)
    }
}

fn evict(idle: &mut Idle) {
    idle.retain(|_, clients| {
        clients.retain(|(since, _)| since.elapsed() < IDLE);
        !clients.is_empty()
    });
}

#[async_trait]
impl BallistaClientPool for ClientPool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_owned(), port, config.clone());
        let client = match self.take(&key) {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize_endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let idle = Arc::clone(&self.idle);
        let give_back = move |client| {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            let clients = idle.entry(key).or_default();
            if clients.len() < MAX_IDLE {
                clients.push((Instant::now(), client));
            }
        };
        Ok(PooledClient::new(client, Box::new(give_back)))
    }

    async fn evict_idle(&self) {
        evict(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
