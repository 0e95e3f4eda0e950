//! Work as an operator.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, SendableRecordBatchStream,
};
use futures::{TryStreamExt, stream};

use super::{ORDER_COLUMN, Work, Worker, Workers, output_schema};
use crate::location::Location;
use crate::operator::only_input;

/// Does the orders of its input, one after the other in each partition.
#[derive(Debug)]
pub struct WorkExec {
    input: Arc<dyn ExecutionPlan>,
    work: Work,
    /// Those of this process.
    workers: Workers,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl WorkExec {
    /// Fails if the input has no orders.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, work: Work, workers: Workers) -> Result<Self> {
        if input.schema().index_of(ORDER_COLUMN).is_err() {
            return plan_err!("work needs the column '{ORDER_COLUMN}', which is not there");
        }
        let schema = output_schema();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            work,
            workers,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// What is done.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }
}

impl DisplayAs for WorkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WorkExec: {}", self.work)
    }
}

impl ExecutionPlan for WorkExec {
    fn name(&self) -> &str {
        "WorkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // The files are cut as they shall be done.
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_input(self.name(), children)?;
        let exec = Self::try_new(input, self.work.clone(), self.workers.clone())?;
        Ok(Arc::new(exec))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let worker = self.workers.get(&self.work.worker).ok_or_else(|| {
            exec_datafusion_err!("nobody here does the work '{}'", self.work.worker)
        })?;
        let external = |e: crate::Error| DataFusionError::External(Box::new(e));
        let place = Location::parse(&self.work.place).map_err(external)?;
        let store = context
            .runtime_env()
            .object_store(place.object_store_url().map_err(external)?)?;
        let doing = Doing {
            worker,
            work: self.work.clone(),
            place,
            store,
            schema: Arc::clone(&self.schema),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let done = input
            .map_ok(orders)
            .and_then(|orders| async move { orders });
        let done = done
            .map_ok(|orders| stream::iter(orders.into_iter().map(Ok)))
            .try_flatten()
            // One after the other: a partition is a slot's work.
            .and_then(move |order| {
                let doing = doing.clone();
                async move { doing.order(order).await }
            });
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, done)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The texts of a batch of orders.
fn orders(batch: RecordBatch) -> Result<Vec<String>> {
    let missing = || exec_datafusion_err!("a batch without orders");
    let orders = batch.column_by_name(ORDER_COLUMN).ok_or_else(missing)?;
    let orders = cast(orders, &DataType::Utf8)?;
    let orders = orders.as_string::<i32>().iter();
    orders
        .map(|order| order.map(str::to_owned).ok_or_else(missing))
        .collect()
}

/// What the orders of a partition have in common.
#[derive(Clone)]
struct Doing {
    worker: Arc<dyn Worker>,
    work: Work,
    place: Location,
    store: Arc<dyn object_store::ObjectStore>,
    schema: SchemaRef,
    metrics: BaselineMetrics,
}

impl Doing {
    async fn order(self, order: String) -> Result<RecordBatch> {
        let timer = self.metrics.elapsed_compute().timer();
        let options = &self.work.options;
        let result = self
            .worker
            .work(options, &order, &self.place, self.store)
            .await?;
        drop(timer);
        self.metrics.record_output(1);
        let columns = [order, result].map(|text| Arc::new(StringArray::from(vec![text])) as _);
        Ok(RecordBatch::try_new(self.schema, columns.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::collect;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use object_store::ObjectStore;

    use super::*;
    use crate::session::{Session, SessionOptions};

    /// Says options and order, and fails of a certain one.
    #[derive(Default)]
    struct Echo {
        done: AtomicUsize,
    }

    impl Worker for Echo {
        fn work<'a>(
            &'a self,
            options: &'a str,
            order: &'a str,
            place: &'a Location,
            _store: Arc<dyn ObjectStore>,
        ) -> BoxFuture<'a, Result<String>> {
            self.done.fetch_add(1, Ordering::Relaxed);
            async move {
                match order {
                    "bad" => Err(exec_datafusion_err!("this one is bad")),
                    order => Ok(format!("{options} {order} at {place}")),
                }
            }
            .boxed()
        }
    }

    fn plan(orders: [&[&str]; 2], workers: Workers) -> Arc<dyn ExecutionPlan> {
        let batch = |orders: &[&str]| {
            let orders = Arc::new(StringArray::from(orders.to_vec())) as _;
            RecordBatch::try_from_iter([(ORDER_COLUMN, orders)]).unwrap()
        };
        let partitions = orders.map(|orders| vec![batch(orders)]);
        let schema = partitions[0][0].schema();
        let input = MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap();
        let work = Work {
            worker: "echo".to_owned(),
            options: "so".to_owned(),
            place: "/tmp/x".to_owned(),
        };
        Arc::new(WorkExec::try_new(input, work, workers).unwrap())
    }

    async fn results(plan: Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
        let session = Session::new(&SessionOptions::default()).unwrap();
        let batches = collect(plan, session.context().task_ctx()).await?;
        let texts = batches.iter().flat_map(|batch| {
            let results = batch.column(1).as_string::<i32>();
            (0..batch.num_rows()).map(|row| results.value(row).to_owned())
        });
        Ok(texts.collect())
    }

    #[tokio::test]
    async fn every_order_is_done_once() {
        let echo = Arc::new(Echo::default());
        let workers = Workers::default().with("echo", Arc::clone(&echo) as _);
        let mut done = results(plan([&["a", "b"], &["c"]], workers)).await.unwrap();
        done.sort_unstable();
        assert_eq!(done, ["so a at /tmp/x", "so b at /tmp/x", "so c at /tmp/x"]);
        assert_eq!(echo.done.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_failure_ends_it_and_is_told() {
        let workers = Workers::default().with("echo", Arc::new(Echo::default()));
        let error = results(plan([&["bad", "b"], &[]], workers))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("this one is bad"), "{error}");
        let error = results(plan([&["a"], &[]], Workers::default())).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("nobody here does the work 'echo'"),
            "{error}"
        );
    }
}
