//! Work that isn't a query, spread over a cluster like one: each row of an input is an order, done by a worker of the
//! process that the row's task runs in. Its files are cut into tasks as any scan's are, so Ballista's scheduling,
//! retries and cancelling hold for the work too.
//!
//! The worker must do an order as well the second time as the first: a task may be repeated.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use futures::future::BoxFuture;
use object_store::ObjectStore;

use crate::location::Location;

mod exec;
mod node;

pub use exec::WorkExec;
pub use node::WorkNode;

/// The column of orders, in the input and in the output (Utf8).
pub const ORDER_COLUMN: &str = "order";
/// The column of what came out (Utf8).
pub const RESULT_COLUMN: &str = "result";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Work {
    /// The name that the worker is known by.
    pub worker: String,
    /// What holds for all orders; the worker's matter.
    pub options: String,
    /// Where it is to be done: the worker gets the store of it.
    pub place: String,
}

/// Does orders.
pub trait Worker: Send + Sync {
    /// Does an order, and says what came out. `place` is that of the [`Work`], in `store`. Dropping the future stops
    /// it, soon.
    ///
    /// # Errors
    /// Whatever the work failed of; the store's transient errors so that the task is tried again
    /// ([`store_error_is_transient`](crate::store_error_is_transient)).
    fn work<'a>(
        &'a self,
        options: &'a str,
        order: &'a str,
        place: &'a Location,
        store: Arc<dyn ObjectStore>,
    ) -> BoxFuture<'a, Result<String, DataFusionError>>;
}

/// The workers of a process, by their names.
#[derive(Clone, Default)]
pub struct Workers {
    by_name: HashMap<String, Arc<dyn Worker>>,
}

impl Workers {
    /// These and another one.
    #[must_use]
    pub fn with(mut self, name: &str, worker: Arc<dyn Worker>) -> Self {
        self.by_name.insert(name.to_owned(), worker);
        self
    }

    fn get(&self, name: &str) -> Option<Arc<dyn Worker>> {
        self.by_name.get(name).cloned()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

fn output_schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(vec![
        column(ORDER_COLUMN),
        column(RESULT_COLUMN),
    ]))
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.worker, self.place)
    }
}
