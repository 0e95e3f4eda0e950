//! Lookups: attributes of a dimension for each row of a log.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast as cast_expr, col, lit};
use datafusion::prelude::DataFrame;
use rankmill_engine::Session;
use rankmill_engine::fused::{
    KeySpec, LookupSpec, MeasureSpec, TableBytes, can_look_up, table_keys,
};
use rankmill_engine::source::{DATE_COLUMN, SourceTable};

use super::Compiler;
use super::measures::count_rows;
use crate::error::{Error, Result};
use crate::inputs::{Input, Inputs};
use crate::spec::{Lookup, Spec};

/// What an attribute is called that has no match or no value.
pub(crate) const UNKNOWN: &str = "unknown";

/// Duplicate keys to show in an error.
const EXAMPLES: usize = 3;

/// A dimension and what is taken from it.
pub(super) struct CompiledLookup {
    pub(super) fact_key: Expr,
    /// The log's date, where an attribute depends on it.
    date: Option<Expr>,
    /// The key, then the columns that attributes need.
    pub(super) dimension: DataFrame,
    /// By their names; over the dimension's columns, and the log's date.
    pub(super) attributes: Vec<(String, Expr)>,
    /// Rows of the dimension, as far as is known.
    rows: usize,
    /// About what a code table takes.
    pub(super) table_bytes: TableBytes,
}

/// A lookup as a part of the aggregation.
pub(super) struct TableLookup {
    pub(super) spec: LookupSpec,
    pub(super) dimension: LogicalPlan,
    /// Bytes of the table.
    bytes: usize,
}

/// A log and all of its lookups.
pub(super) struct LookedUp {
    /// With the columns of dimensions that were joined.
    pub(super) log: DataFrame,
    /// Those in code tables.
    pub(super) lookups: Vec<(LookupSpec, LogicalPlan)>,
    /// Attributes by their names.
    pub(super) attributes: BTreeMap<String, KeySpec>,
    /// For each lookup of the spec the count of its unmatched rows.
    pub(super) unmatched: Vec<(String, MeasureSpec)>,
}

impl Compiler<'_> {
    /// Compiles all lookups of a log: in code tables as long as these may take more memory.
    pub(super) async fn look_up(
        &self,
        session: &Session,
        spec: &Spec,
        inputs: &Inputs,
        dates: &[NaiveDate],
        log: DataFrame,
    ) -> Result<LookedUp> {
        let mut done = LookedUp {
            log,
            lookups: Vec::new(),
            attributes: BTreeMap::new(),
            unmatched: Vec::new(),
        };
        let mut table_bytes = session.table_limit();
        for (i, (lookup, input)) in spec.lookups.iter().zip(&inputs.lookups).enumerate() {
            let table = input.open(session, self.job, dates).await?;
            let compiled = self.lookup(&done.log, i, lookup, input, table)?;
            let key_name = lookup.on.dimension();
            let table = self.in_table(session, &compiled, key_name, input, table_bytes);
            let unmatched = if let Some(table) = table.await? {
                table_bytes = table_bytes.saturating_sub(table.bytes);
                let at = done.lookups.len();
                for (attribute, (name, _)) in compiled.attributes.iter().enumerate() {
                    let lookup = at;
                    let key = KeySpec::Attribute { lookup, attribute };
                    done.attributes.insert(name.clone(), key);
                }
                done.lookups.push((table.spec, table.dimension));
                MeasureSpec::Unmatched(at)
            } else {
                let log = &inputs.logs[0];
                let hot = self.hot_keys(session, log, dates, lookup.on.fact()).await?;
                self.check_keys(session, &compiled.dimension, i, key_name, input)
                    .await?;
                let (log, joined) = self.join(done.log, compiled, hot, i)?;
                done.log = log;
                done.attributes.extend(joined.attributes);
                joined.unmatched
            };
            done.unmatched.push((format!("__unmatched{i}"), unmatched));
        }
        Ok(done)
    }

    /// Compiles the lookup number `index` of a log that has a column `date`.
    pub(super) fn lookup(
        &self,
        log: &DataFrame,
        index: usize,
        lookup: &Lookup,
        input: &Input,
        table: SourceTable,
    ) -> Result<CompiledLookup> {
        let field = &input.field;
        let plan_error = |e| self.plan_error(e);
        let rows = table.rows().unwrap_or(0) as usize;
        let table_bytes = self.table_bytes(&table, lookup.on.dimension());
        let dimension = self.frame(input, table)?;
        let on = format!("{field}.on");
        let fact_key = self.column(&on, lookup.on.fact(), log)?;
        let key = self.column(&on, lookup.on.dimension(), &dimension)?;
        self.check_key_types(&on, log, &dimension, &lookup.on)?;
        let key_type = key.get_type(dimension.schema()).map_err(plan_error)?;
        if !can_look_up(&key_type) {
            let reason = format!(
                "'{}' is {key_type}; keys of a lookup are integers, texts, dates or timestamps",
                lookup.on.dimension()
            );
            return Err(self.field_error(&on, reason));
        }

        let schema = with_date(dimension.schema()).map_err(plan_error)?;
        let key_name = format!("__k{index}");
        let mut carried = vec![key.clone().alias(&key_name)];
        let mut carried_columns = BTreeSet::new();
        let mut attributes = Vec::new();
        let mut date = None;
        for (i, (name, sql)) in lookup.attributes.iter().enumerate() {
            let at = format!("{field}.attributes.{name}");
            let parsed = self.expr(&at, sql, &schema)?;
            let needs_date = parsed.column_refs().iter().any(|c| c.name == DATE_COLUMN);
            let value = if needs_date {
                date = Some(self.column(&on, DATE_COLUMN, log)?);
                // Depends on the row's date: the columns come along, the value after the join.
                let renamed = parsed.transform(|expr| {
                    Ok(match expr {
                        Expr::Column(c) if c.name == DATE_COLUMN => {
                            Transformed::yes(Expr::Column(Column::new_unqualified(DATE_COLUMN)))
                        }
                        Expr::Column(c) => {
                            let carried = format!("__d{index}_{}", c.name);
                            carried_columns.insert(c.name);
                            Transformed::yes(Expr::Column(Column::new_unqualified(carried)))
                        }
                        other => Transformed::no(other),
                    })
                });
                renamed.map_err(plan_error)?.data
            } else {
                let computed = format!("__a{index}_{i}");
                carried.push(parsed.alias(&computed));
                Expr::Column(Column::new_unqualified(computed))
            };
            let text = cast_expr(value, DataType::Utf8View);
            attributes.push((name.clone(), coalesce(vec![text, unknown()])));
        }
        for name in carried_columns {
            let column = self.column(field, &name, &dimension)?;
            carried.push(column.alias(format!("__d{index}_{name}")));
        }
        let dimension = dimension
            .filter(key.is_not_null())
            .and_then(|d| d.select(carried))
            .map_err(plan_error)?;
        Ok(CompiledLookup {
            fact_key,
            date,
            dimension,
            attributes,
            rows,
            table_bytes,
        })
    }

    /// A lookup in a code table, which is built now if this process doesn't have it yet; none if it
    /// takes more than `most` bytes. Where the keys' fewest bytes don't, building it shows: how much
    /// attributes repeat, and how long texts are, isn't known before.
    async fn in_table(
        &self,
        session: &Session,
        compiled: &CompiledLookup,
        key_name: &str,
        input: &Input,
        most: usize,
    ) -> Result<Option<TableLookup>> {
        if compiled.table_bytes.least > most {
            return Ok(None);
        }
        let rows = compiled.rows;
        let dimension = compiled.dimension.clone().into_unoptimized_plan();
        let cache_key = format!("{} {}", input.identity(), dimension.display_indent());
        let keys = table_keys(session, &cache_key, &dimension, rows, most).await;
        let Some(keys) = keys.map_err(Inputs::engine_error(self.job))? else {
            return Ok(None);
        };
        self.check_repeated(&input.field, input, key_name, keys.repeated)?;
        let attributes = compiled.attributes.iter().map(|(_, expr)| expr.clone());
        Ok(Some(TableLookup {
            spec: LookupSpec {
                cache_key,
                fact_key: compiled.fact_key.clone(),
                date: compiled.date.clone(),
                rows,
                attributes: attributes.collect(),
            },
            dimension,
            bytes: keys.bytes,
        }))
    }

    /// Fails if a key occurs twice: rows of the log would count twice.
    pub(crate) async fn check_unique(
        &self,
        field: &str,
        input: &Input,
        dimension: &DataFrame,
        key: &Expr,
        key_name: &str,
    ) -> Result<()> {
        let duplicates = self.duplicates(dimension, key)?.collect().await;
        let duplicates = duplicates.map_err(|e| self.plan_error(e))?;
        self.check_duplicates(field, input, key_name, &duplicates)
    }

    /// Some keys that occur twice.
    pub(super) fn duplicates(&self, dimension: &DataFrame, key: &Expr) -> Result<DataFrame> {
        dimension
            .clone()
            .filter(key.clone().is_not_null())
            .and_then(|d| d.aggregate(vec![key.clone()], vec![count_rows().alias("__n")]))
            .and_then(|d| d.filter(col("__n").gt(lit(1i64))))
            .and_then(|d| d.limit(0, Some(EXAMPLES)))
            .map_err(|e| self.plan_error(e))
    }

    /// An error if there are rows in the result of [`duplicates`](Self::duplicates).
    pub(super) fn check_duplicates(
        &self,
        field: &str,
        input: &Input,
        key_name: &str,
        duplicates: &[RecordBatch],
    ) -> Result<()> {
        let mut examples = Vec::new();
        for batch in duplicates {
            let texts = cast(batch.column(0), &DataType::Utf8);
            let texts = texts.map_err(|e| self.plan_error(e.into()))?;
            examples.extend(texts.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        self.check_repeated(field, input, key_name, examples)
    }

    /// An error for keys that a dimension has more than once, if there are some.
    fn check_repeated(
        &self,
        field: &str,
        input: &Input,
        key_name: &str,
        mut examples: Vec<String>,
    ) -> Result<()> {
        if examples.is_empty() {
            return Ok(());
        }
        examples.sort();
        Err(Error::DuplicateKey {
            job: self.job.to_owned(),
            field: field.to_owned(),
            path: input.source.base().to_string(),
            column: key_name.to_owned(),
            examples: examples.join(", "),
        })
    }
}

/// The literal for what has no value.
pub(super) fn unknown() -> Expr {
    let text = datafusion::common::ScalarValue::Utf8View(Some(UNKNOWN.to_owned()));
    Expr::Literal(text, None)
}

/// A dimension's columns without their qualifier, and the log's `date`.
fn with_date(dimension: &DFSchema) -> datafusion::error::Result<DFSchema> {
    let mut fields: Vec<Field> = dimension
        .fields()
        .iter()
        .filter(|field| field.name() != DATE_COLUMN)
        .map(|field| field.as_ref().clone())
        .collect();
    fields.push(Field::new(DATE_COLUMN, DataType::Date32, false));
    DFSchema::try_from(Schema::new(fields))
}
