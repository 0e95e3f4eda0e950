//! Lookups in dimensions whose code tables are too large: the log is joined to them.

use chrono::NaiveDate;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use datafusion::logical_expr::{Expr, LogicalPlan, cast, lit, when};
use datafusion::prelude::DataFrame;
use rankmill_engine::Session;
use rankmill_engine::fused::{
    FusedNode, KeySpec, MeasureSpec, TableBytes, counts_distinct, table_bytes,
};
use rankmill_engine::salted::SaltedJoinNode;
use rankmill_engine::skew::{FILES_FOR_HOT_KEYS, hot_keys};
use rankmill_engine::source::SourceTable;

use super::lookup::CompiledLookup;
use super::{Compiler, is_text};
use crate::error::Result;
use crate::inputs::{Input, Inputs};

/// Bytes of a row of text files, which don't tell how many rows they have.
const TEXT_ROW_BYTES: u64 = 16;

/// The columns of counted keys.
const KEYS: &str = "__keys";
const DISTINCT_KEYS: &str = "__distinct_keys";

/// A lookup in a dimension that was joined.
pub(super) struct JoinedLookup {
    /// Attributes by their names.
    pub(super) attributes: Vec<(String, KeySpec)>,
    /// Counts the rows whose key the dimension doesn't have.
    pub(super) unmatched: MeasureSpec,
}

impl Compiler<'_> {
    /// About what a code table of a dimension takes.
    pub(super) fn table_bytes(&self, table: &SourceTable, key: &str) -> TableBytes {
        let schema = datafusion::catalog::TableProvider::schema(table);
        let Ok(field) = schema.field_with_name(key) else {
            return TableBytes { least: 0, most: 0 };
        };
        let rows = table.rows().unwrap_or(table.bytes() / TEXT_ROW_BYTES);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        table_bytes(field.data_type(), rows, table.range(key).as_ref())
    }

    /// The hot keys of a log, from a sample of its files.
    pub(super) async fn hot_keys(
        &self,
        session: &Session,
        input: &Input,
        dates: &[NaiveDate],
        key: &str,
    ) -> Result<Vec<ScalarValue>> {
        let table = input.open(session, self.job, dates).await?;
        let table = table.sample(FILES_FOR_HOT_KEYS);
        let log = self.log_frame(input, table, &input.days_of_all(dates))?;
        let column = self.column(&input.field, key, &log)?;
        let field = log.schema().field_with_unqualified_name(key);
        let data_type = field.map_err(|e| self.plan_error(e))?.data_type();
        let column = match data_type {
            t if is_text(t) => cast(column, DataType::Utf8View),
            _ => column,
        };
        let keys = log.select(vec![column]).map_err(|e| self.plan_error(e))?;
        let found = hot_keys(session, keys).await;
        found.map_err(Inputs::engine_error(self.job))
    }

    /// Fails if a key of the dimension number `index` occurs twice.
    pub(super) async fn check_keys(
        &self,
        session: &Session,
        dimension: &DataFrame,
        index: usize,
        key_name: &str,
        input: &Input,
    ) -> Result<()> {
        let name = format!("{}: keys of {}", self.job, input.field);
        let found = async |plan: &LogicalPlan| {
            let found = session.execute(&name, plan, &|_| {}).await;
            found.map_err(Inputs::engine_error(self.job))
        };
        // Distinct values are packed, and go to disk where they have to; a group for each key, which
        // tells the keys, takes many times as long.
        if let Some(counts) = self.key_counts(dimension, index)?
            && occur_once(&found(&counts).await?.batches)
        {
            return Ok(());
        }
        let duplicates = self.duplicates(dimension, &key_column(index))?;
        let duplicates = found(duplicates.logical_plan()).await?;
        self.check_duplicates(&input.field, input, key_name, &duplicates.batches)
    }

    /// One row: how many keys the dimension number `index` has, and how many different ones. None if
    /// they are of a type that would be counted in a set that doesn't go to disk.
    fn key_counts(&self, dimension: &DataFrame, index: usize) -> Result<Option<LogicalPlan>> {
        let log = dimension.clone().into_unoptimized_plan();
        let key = key_column(index);
        let distinct = count_distinct(key.clone());
        if !counts_distinct(&distinct, log.schema()).map_err(|e| self.plan_error(e))? {
            return Ok(None);
        }
        let counts = [(KEYS, count(key)), (DISTINCT_KEYS, distinct)];
        let counts = counts.map(|(name, count)| (name.to_owned(), MeasureSpec::Aggregate(count)));
        let all = vec![("__all".to_owned(), KeySpec::Log(lit(0i64)))];
        let counts = FusedNode::try_new(log, Vec::new(), all, counts.to_vec());
        Ok(Some(counts.map_err(|e| self.plan_error(e))?.into_plan()))
    }

    /// Joins a log with the dimension number `index`.
    pub(super) fn join(
        &self,
        log: DataFrame,
        compiled: CompiledLookup,
        hot: Vec<ScalarValue>,
        index: usize,
    ) -> Result<(DataFrame, JoinedLookup)> {
        let missing = key_column(index).is_null();
        let missing = compiled.fact_key.clone().is_not_null().and(missing);
        let unmatched = when(missing, lit(1i64)).end();
        let unmatched = count(unmatched.map_err(|e| self.plan_error(e))?);
        let join = SaltedJoinNode::try_new(
            log.into_unoptimized_plan(),
            compiled.dimension.into_unoptimized_plan(),
            (compiled.fact_key, key_name(index)),
            hot,
            compiled.table_bytes.most,
        );
        let join = join.map_err(|e| self.plan_error(e))?.into_plan();
        let attributes = compiled.attributes.into_iter();
        let joined = JoinedLookup {
            attributes: attributes
                .map(|(name, attribute)| (name, KeySpec::Log(attribute)))
                .collect(),
            unmatched: MeasureSpec::Aggregate(unmatched),
        };
        Ok((DataFrame::new(self.context.state(), join), joined))
    }
}

/// Whether the result of [`key_counts`](Compiler::key_counts) has as many different keys as keys.
fn occur_once(counts: &[RecordBatch]) -> bool {
    counts.iter().all(|counts| {
        let [keys, distinct] = [KEYS, DISTINCT_KEYS].map(|name| counts.column_by_name(name));
        keys.is_some() && keys == distinct
    })
}

/// The key of a dimension by the lookup's number.
fn key_column(index: usize) -> Expr {
    Expr::Column(key_name(index))
}

fn key_name(index: usize) -> Column {
    Column::new_unqualified(format!("__k{index}"))
}
