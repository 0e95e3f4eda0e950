//! Object stores: one client for each bucket, kept for the life of the process.
//!
//! Credentials come from the environment of each node (`AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …), never
//! from a session's options.

mod local;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

pub use local::LocalStore;

use crate::error::{Error, Result};
use crate::location::Location;

/// How hard to try before an S3 request counts as failed.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Retries of one request.
    pub max_retries: usize,
    /// No retry is started this long after the first try.
    pub retry_timeout: Duration,
    /// A try that takes longer counts as failed.
    pub request_timeout: Duration,
    /// Opening a connection that takes longer counts as failed.
    pub connect_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 8,
            retry_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// The stores of this process, by address; DataFusion asks here too.
#[derive(Debug)]
pub struct Stores {
    retry: RetryPolicy,
    open: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// No store is opened before it is asked for.
    pub fn new(retry: RetryPolicy) -> Self {
        Self {
            retry,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// The store of a place.
    pub fn of(&self, location: &Location) -> Result<Arc<dyn ObjectStore>> {
        self.by_url(location.store_url())
    }

    fn by_url(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = key_of(url);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => Arc::new(LocalStore::new()),
            "s3" => self.open_s3(url)?,
            scheme => {
                return Err(Error::Location {
                    path: url.to_string(),
                    reason: format!("'{scheme}' is not supported; use a local path or s3://"),
                });
            }
        };
        open.insert(key, Arc::clone(&store));
        Ok(store)
    }

    fn open_s3(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        };
        let client = ClientOptions::new()
            .with_timeout(self.retry.request_timeout)
            .with_connect_timeout(self.retry.connect_timeout);
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
            .iter()
            .find_map(|name| std::env::var(name).ok());
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(url.host_str().unwrap_or_default())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(client)
            .with_retry(RetryConfig {
                backoff,
                max_retries: self.retry.max_retries,
                retry_timeout: self.retry.retry_timeout,
            });
        if let Some(endpoint) = endpoint {
            let plain_http = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain_http);
        }
        let store = builder.build().map_err(|source| Error::StoreSetup {
            url: url.to_string(),
            source,
        })?;
        Ok(Arc::new(store))
    }
}

fn key_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

impl ObjectStoreRegistry for Stores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(key_of(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        self.by_url(url)
            .map_err(|e| exec_datafusion_err!("{e}: {}", source_of(&e)))
    }
}

fn source_of(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}
