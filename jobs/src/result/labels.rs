//! Labels: columns of dimensions for the ranked items only.

use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Column;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, JoinType};
use rankmill_engine::Session;

use super::shape::{Columns, column};
use crate::compile::Compiler;
use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::spec::Spec;

const ROW: &str = "__row";
const ITEM: &str = "__item";
const KEY: &str = "__key";

/// Adds the label columns to ranked rows; an item that a dimension doesn't have gets nulls.
pub(crate) async fn attach_labels(
    session: &Session,
    spec: &Spec,
    item: &str,
    inputs: &Inputs,
    dates: &[NaiveDate],
    mut rows: RecordBatch,
) -> Result<RecordBatch> {
    let context = session.context();
    let compiler = Compiler {
        job: &spec.name,
        context,
    };
    let failed = |e: DataFusionError| Error::Engine {
        job: spec.name.clone(),
        source: Box::new(e.into()),
    };
    for (labels, input) in spec.labels.iter().zip(&inputs.labels) {
        let table = input.open(session, &spec.name, dates).await?;
        let dimension = compiler.frame(input, table)?;
        let field = &input.field;
        let key_name = labels.on.dimension();
        let key = compiler.column(&format!("{field}.on"), key_name, &dimension)?;
        let mut wanted = vec![key.clone().alias(KEY)];
        for (i, name) in labels.columns.iter().enumerate() {
            let column = compiler.column(&format!("{field}.columns[{i}]"), name, &dimension)?;
            wanted.push(column.alias(name));
        }
        let chosen = dimension.clone().select(wanted).map_err(failed)?;
        let items = numbered_items(&column(&rows, item).map_err(failed)?).map_err(failed)?;
        let items = context.read_table(Arc::new(items)).map_err(failed)?;
        let named = |name: &str| Expr::Column(Column::new_unqualified(name));
        let joined = items
            .join_on(chosen, JoinType::Left, [named(ITEM).eq(named(KEY))])
            .and_then(|frame| frame.sort(vec![named(ROW).sort(true, false)]))
            .map_err(failed)?;
        let schema = Arc::clone(joined.schema().inner());
        let batches = joined.collect().await.map_err(failed)?;
        let joined = concat_batches(&schema, &batches).map_err(|e| failed(e.into()))?;
        if joined.num_rows() != rows.num_rows() {
            compiler
                .check_unique(field, input, &dimension, &key, key_name)
                .await?;
        }
        let mut columns = Columns::of(&rows);
        for name in &labels.columns {
            columns.push(name, column(&joined, name).map_err(failed)?);
        }
        rows = columns.into_batch().map_err(failed)?;
    }
    Ok(rows)
}

fn numbered_items(items: &ArrayRef) -> std::result::Result<MemTable, DataFusionError> {
    let numbers = Int64Array::from_iter_values(0..items.len() as i64);
    let schema = Arc::new(Schema::new(vec![
        Field::new(ROW, DataType::Int64, false),
        Field::new(ITEM, items.data_type().clone(), true),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::clone(items)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    MemTable::try_new(schema, vec![vec![batch]])
}
