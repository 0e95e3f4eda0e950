//! Gives each row of one side its key and a salt to be joined by.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array,
};
use datafusion::arrow::compute::take_arrays;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::{Column, in_list, lit};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::ChildStats;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, SendableRecordBatchStream, StatisticsArgs,
};
use futures::{TryStreamExt, stream};

use crate::fused::column_name;
use crate::operator::only_input;
use crate::skew::{ColumnSketch, HotColumn, Role, TOLD_KEYS, tell};

/// The column of the key, in the type that both sides have.
pub(super) const KEY: &str = "__join_key";
/// The column of the salt.
pub(super) const SALT: &str = "__join_salt";

/// Whether an expression is the salt of a side.
pub(crate) fn is_salt(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>()
        .is_some_and(|column| column.name() == SALT)
}

/// What both sides of a join must agree on.
#[derive(Debug, PartialEq)]
pub(super) struct Salting {
    /// Keys that have salts other than 0, in the type of [`KEY`].
    pub(super) hot: Vec<ScalarValue>,
    /// Salts of a hot key.
    pub(super) salts: u32,
    /// What a table of the dimension would take.
    pub(super) table_bytes: u64,
}

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Rows of hot keys, and rows without a key, take turns at the salts.
    Log,
    /// The row of a hot key is copied for each salt; rows without a key are left out.
    Dimension,
}

/// Adds the columns of key and salt to a side of a salted join: see [`super`].
#[derive(Debug)]
pub struct SaltExec {
    input: Arc<dyn ExecutionPlan>,
    key: Arc<dyn PhysicalExpr>,
    salting: Arc<Salting>,
    side: Side,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SaltExec {
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        key: Arc<dyn PhysicalExpr>,
        salting: Arc<Salting>,
        side: Side,
    ) -> Result<Self> {
        let before = input.schema();
        let key_field = Field::new(KEY, key.data_type(&before)?, true);
        let salt_field = Field::new(SALT, DataType::UInt32, false);
        let added = [Arc::new(key_field), Arc::new(salt_field)];
        let fields: Vec<_> = before.fields().iter().cloned().chain(added).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            input,
            key,
            salting,
            side,
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(super) fn key(&self) -> &Arc<dyn PhysicalExpr> {
        &self.key
    }

    pub(super) fn salting(&self) -> &Arc<Salting> {
        &self.salting
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// What the plan does about skew, and why; said once for both sides.
    pub(crate) fn decision(&self) -> Option<String> {
        if self.side == Side::Dimension {
            return None;
        }
        let copied = match self.salting.hot.len() {
            0 => "; no key is hot".to_owned(),
            1 => "; the row of 1 hot key is copied to all tasks".to_owned(),
            hot => format!("; the rows of {hot} hot keys are copied to all tasks"),
        };
        Some(format!(
            "{}: the dimension's table would take {}: log and dimension are shuffled by key{copied}",
            column_name(&self.key),
            in_units(self.salting.table_bytes)
        ))
    }
}

fn in_units(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((unit, bits)) => format!("{:.1} {unit}", bytes as f64 / f64::from(1u32 << bits)),
        None => format!("{bytes} bytes"),
    }
}

impl DisplayAs for SaltExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "SaltExec: side={:?}, key={}, hot keys={}, salts={}",
            self.side,
            self.key,
            self.salting.hot.len(),
            self.salting.salts
        )
    }
}

impl ExecutionPlan for SaltExec {
    fn name(&self) -> &str {
        "SaltExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.key)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_input(self.name(), children)?;
        let salting = Arc::clone(&self.salting);
        let exec = Self::try_new(input, Arc::clone(&self.key), salting, self.side)?;
        Ok(Arc::new(exec))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = input_stats[0].as_ref().clone();
        statistics.total_byte_size = Precision::Absent;
        if self.side == Side::Dimension {
            statistics = statistics.to_inexact();
        }
        let added = [(); 2].map(|()| ColumnStatistics::new_unknown());
        statistics.column_statistics.extend(added);
        Ok(Arc::new(statistics))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let key_type = self.key.data_type(&self.input.schema())?;
        let salter = Salter {
            schema: Arc::clone(&self.schema),
            key: Arc::clone(&self.key),
            hot: Hot::new(&self.salting.hot, &key_type)?,
            salts: self.salting.salts.max(1),
            side: self.side,
            turn: 0,
            batch_rows: context.session_config().batch_size(),
            sketch: match self.side {
                Side::Log => ColumnSketch::new(&column_name(&self.key), Role::JoinKey, &key_type),
                Side::Dimension => None,
            },
            measured: BaselineMetrics::new(&self.metrics, partition),
        };
        let metrics = self.metrics.clone();
        let state = (input, salter);
        let batches = stream::try_unfold(state, move |(mut input, mut salter)| {
            let metrics = metrics.clone();
            async move {
                if let Some(batch) = input.try_next().await? {
                    let salted = salter.salt(&batch)?;
                    return Ok::<_, DataFusionError>(Some((salted, (input, salter))));
                }
                if let Some(found) = salter.found()? {
                    tell(&metrics, partition, &found);
                }
                Ok(None)
            }
        });
        let batches = batches.map_ok(|batches| stream::iter(batches.into_iter().map(Ok)));
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            batches.try_flatten(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Tells which keys are hot.
struct Hot {
    schema: SchemaRef,
    /// Over the key alone; none if no key is hot.
    test: Option<Arc<dyn PhysicalExpr>>,
}

impl Hot {
    fn new(keys: &[ScalarValue], key_type: &DataType) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![Field::new(KEY, key_type.clone(), true)]));
        let test = match keys.is_empty() {
            true => None,
            false => {
                let keys = keys.iter().map(|key| lit(key.clone())).collect();
                let key = Arc::new(Column::new(KEY, 0));
                Some(in_list(key, keys, &false, &schema)?)
            }
        };
        Ok(Self { schema, test })
    }

    fn of(&self, keys: &ArrayRef) -> Result<BooleanArray> {
        let Some(test) = &self.test else {
            return Ok(BooleanArray::new(
                datafusion::arrow::buffer::BooleanBuffer::new_unset(keys.len()),
                None,
            ));
        };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::clone(keys)])?;
        let hot = test.evaluate(&batch)?.into_array(keys.len())?;
        Ok(hot.as_boolean().clone())
    }
}

/// Salts the batches of a partition.
struct Salter {
    schema: SchemaRef,
    key: Arc<dyn PhysicalExpr>,
    hot: Hot,
    salts: u32,
    side: Side,
    /// The salt that the next row takes whose turn it is.
    turn: u32,
    batch_rows: usize,
    sketch: Option<ColumnSketch>,
    measured: BaselineMetrics,
}

impl Salter {
    fn salt(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let compute = self.measured.elapsed_compute().clone();
        let _timer = compute.timer();
        let rows = batch.num_rows();
        let keys = self.key.evaluate(batch)?.into_array(rows)?;
        let hot = self.hot.of(&keys)?;
        let salted = match self.side {
            Side::Log => {
                if let Some(sketch) = &mut self.sketch {
                    sketch.add(&keys)?;
                }
                let salts = self.turns(&keys, &hot);
                let columns = batch.columns().iter().cloned();
                let columns = columns.chain([keys, Arc::new(salts)]).collect();
                vec![RecordBatch::try_new(Arc::clone(&self.schema), columns)?]
            }
            Side::Dimension => self.copies(batch, keys, &hot)?,
        };
        let rows = salted.iter().map(RecordBatch::num_rows).sum();
        self.measured.record_output(rows);
        Ok(salted)
    }

    fn turns(&mut self, keys: &ArrayRef, hot: &BooleanArray) -> UInt32Array {
        let nulls = keys.nulls();
        let salts = (0..keys.len()).map(|row| {
            let is_null = nulls.is_some_and(|nulls| nulls.is_null(row));
            if !is_null && !hot.value(row) {
                return 0;
            }
            self.turn = (self.turn + 1) % self.salts;
            self.turn
        });
        UInt32Array::from_iter_values(salts)
    }

    fn copies(
        &self,
        batch: &RecordBatch,
        keys: ArrayRef,
        hot: &BooleanArray,
    ) -> Result<Vec<RecordBatch>> {
        let mut of_rows: Vec<(u64, u32)> = Vec::with_capacity(keys.len());
        for row in (0..keys.len()).filter(|row| keys.is_valid(*row)) {
            let salts = if hot.value(row) { self.salts } else { 1 };
            of_rows.extend((0..salts).map(|salt| (row as u64, salt)));
        }
        let mut columns = batch.columns().to_vec();
        columns.push(keys);
        let chunks = of_rows.chunks(self.batch_rows.max(1)).map(|copies| {
            let rows = UInt64Array::from_iter_values(copies.iter().map(|(row, _)| *row));
            let salts = UInt32Array::from_iter_values(copies.iter().map(|(_, salt)| *salt));
            let mut taken = take_arrays(&columns, &rows, None)?;
            taken.push(Arc::new(salts));
            Ok(RecordBatch::try_new(Arc::clone(&self.schema), taken)?)
        });
        chunks.collect()
    }

    /// The hot keys that were met.
    fn found(&self) -> Result<Option<HotColumn>> {
        match &self.sketch {
            Some(sketch) => sketch.finish(TOLD_KEYS),
            None => Ok(None),
        }
    }
}
