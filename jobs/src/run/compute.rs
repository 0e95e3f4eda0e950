//! Computes the results of some dates, embedded in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::internal_datafusion_err;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use rankmill_engine::fused::WindowPlan;
use rankmill_engine::skew::SkewReport;
use rankmill_engine::source::find_broken_file;
use rankmill_engine::{ScanProgress, Session};

use super::Observer;
use crate::compile::{Compiler, WindowQuery, compile_query, compile_ranking};
use crate::error::{Error, Result};
use crate::inputs::{Input, Inputs};
use crate::result::{Totals, attach_labels, published_rows, query_rows, take_totals};
use crate::spec::{Params, RankingSpec, Spec};

/// The results of some dates, not yet split.
pub(super) struct Computed {
    rows: Rows,
    /// Of a ranking; a date without any row is missing.
    pub(super) totals: BTreeMap<NaiveDate, Totals>,
    pub(super) scanned: ScanProgress,
    pub(super) skew: SkewReport,
}

enum Rows {
    /// Of a ranking for all dates.
    Ranking(RecordBatch),
    /// Of a query, as they are published.
    Query(BTreeMap<NaiveDate, RecordBatch>),
}

impl Computed {
    /// The result of a date, as it is published (without rank changes).
    pub(super) fn rows_of(&mut self, spec: &Spec, date: NaiveDate) -> Result<RecordBatch> {
        let failed = |e: DataFusionError| Inputs::engine_error(&spec.name)(e.into());
        match (&mut self.rows, &spec.ranking) {
            (Rows::Ranking(rows), Some(ranking)) => {
                published_rows(spec, ranking, rows, date).map_err(failed)
            }
            (Rows::Query(rows), None) => rows
                .remove(&date)
                .ok_or_else(|| failed(internal_datafusion_err!("{date} wasn't computed"))),
            _ => Err(failed(internal_datafusion_err!(
                "a ranking was computed as a query, or a query as a ranking"
            ))),
        }
    }
}

/// Computes a ranking for all dates in one pass over the files; a query for each of those that share
/// their days, or for its one date.
pub(super) async fn compute(
    session: &Session,
    spec: &Spec,
    inputs: &Inputs,
    dates: &[NaiveDate],
    shared: Option<SharedDays>,
    observer: &dyn Observer,
) -> Result<Computed> {
    let result = match (&spec.ranking, &spec.sql, shared) {
        (_, _, Some(shared)) => shared.compute(spec, inputs, dates, observer).await,
        (Some(ranking), ..) => {
            compute_ranking(session, spec, ranking, inputs, dates, observer).await
        }
        (None, Some(sql), _) => compute_query(session, spec, sql, inputs, dates[0], observer).await,
        (None, None, _) => Err(Error::Field {
            job: spec.name.clone(),
            field: "ranking".to_owned(),
            reason: "a job needs 'ranking' or 'sql'".to_owned(),
        }),
    };
    match result {
        Err(error) => Err(name_broken_file(session, spec, inputs, error).await),
        result => result,
    }
}

async fn compute_ranking(
    session: &Session,
    spec: &Spec,
    ranking: &RankingSpec,
    inputs: &Inputs,
    dates: &[NaiveDate],
    observer: &dyn Observer,
) -> Result<Computed> {
    let failed = |e: DataFusionError| Inputs::engine_error(&spec.name)(e.into());
    let compiled = compile_ranking(session, spec, ranking, inputs, dates).await?;
    let announced = announce(session, spec, inputs, dates, observer);
    announced.await?;
    let name = name_of(spec, dates);
    let computed = execute(session, spec, &name, &compiled.plan, observer).await?;
    let rows = concat_batches(&computed.schema, &computed.batches).map_err(|e| failed(e.into()))?;
    let (rows, totals) = take_totals(&rows, &compiled.unmatched).map_err(failed)?;
    let rows = attach_labels(session, spec, &ranking.item, inputs, dates, rows).await?;
    Ok(Computed {
        rows: Rows::Ranking(rows),
        totals,
        scanned: computed.scanned,
        skew: computed.skew,
    })
}

/// Logs that dates may share: what their days come to is held in memory, two or three times as much.
const SHARED_BYTES: u64 = 2 << 30;
/// Days are shared where each is read so many times otherwise.
const LEAST_READS: u64 = 2;

/// A query whose dates share what their days come to.
pub(super) struct SharedDays {
    session: Session,
    query: WindowQuery,
    plan: WindowPlan,
}

/// How the dates of a query may share their days; none if they can't, or if it isn't worth it. What
/// can't be compiled for all dates may be for one.
pub(super) async fn shared_days(
    session: &Session,
    spec: &Spec,
    inputs: &Inputs,
    dates: &[NaiveDate],
) -> Result<Option<SharedDays>> {
    let (Some(sql), [input]) = (&spec.sql, &inputs.logs[..]) else {
        return Ok(None);
    };
    let Ok(table) = input.open(session, &spec.name, dates).await else {
        return Ok(None);
    };
    let alone: u64 = dates.iter().map(|date| inputs.log_bytes(*date)).sum();
    let together = table.bytes();
    let is_small = together <= SHARED_BYTES && alone >= LEAST_READS.saturating_mul(together);
    // A date's columns are those of its own files.
    if !is_small || !table.has_one_schema() {
        return Ok(None);
    }
    let session = own_tables(session, spec)?;
    let Ok(plan) = compile_query(&session, spec, sql, inputs, dates).await else {
        return Ok(None);
    };
    let Ok(Some(query)) = WindowQuery::new(plan) else {
        return Ok(None);
    };
    let Ok(by_day) = query.by_day() else {
        return Ok(None);
    };
    let windows = dates
        .iter()
        .map(|date| input.days_of(*date).next().unwrap_or(*date)..=*date);
    let plan = WindowPlan::new(&session, &by_day, &windows.collect::<Vec<_>>()).await;
    let plan = plan.map_err(Inputs::engine_error(&spec.name))?;
    Ok(plan.map(|plan| SharedDays {
        session,
        query,
        plan,
    }))
}

impl SharedDays {
    /// Aggregates each day once, and computes the query for each date.
    async fn compute(
        self,
        spec: &Spec,
        inputs: &Inputs,
        dates: &[NaiveDate],
        observer: &dyn Observer,
    ) -> Result<Computed> {
        let failed = |e: DataFusionError| Inputs::engine_error(&spec.name)(e.into());
        let session = &self.session;
        let threads = session.context().copied_config().target_partitions();
        announce(session, spec, inputs, dates, observer).await?;
        let progress = |scanned| observer.progress(scanned);
        let groups = self.plan.compute(session, &progress);
        let mut groups = groups.await.map_err(Inputs::engine_error(&spec.name))?;
        let mut rows = BTreeMap::new();
        for date in dates {
            let of_window = groups.next_window().await;
            let of_window = of_window.map_err(Inputs::engine_error(&spec.name))?;
            let Some(of_window) = of_window else {
                return Err(failed(internal_datafusion_err!("{date} has no window")));
            };
            let plan = self.query.over(&of_window, threads).map_err(failed)?;
            drop(of_window);
            let name = name_of(spec, &[*date]);
            // The log's rows have been counted; these are groups.
            let computed = session.execute(&name, &plan, &|_| ());
            let computed = computed.await.map_err(Inputs::engine_error(&spec.name))?;
            rows.insert(*date, query_rows_of(spec, &computed)?);
        }
        Ok(Computed {
            rows: Rows::Query(rows),
            totals: BTreeMap::new(),
            scanned: groups.scanned,
            skew: groups.skew,
        })
    }
}

async fn compute_query(
    session: &Session,
    spec: &Spec,
    sql: &str,
    inputs: &Inputs,
    date: NaiveDate,
    observer: &dyn Observer,
) -> Result<Computed> {
    let session = own_tables(session, spec)?;
    let plan = compile_query(&session, spec, sql, inputs, &[date]).await?;
    announce(&session, spec, inputs, &[date], observer).await?;
    let computed = execute(&session, spec, &name_of(spec, &[date]), &plan, observer).await?;
    let rows = query_rows_of(spec, &computed)?;
    Ok(Computed {
        rows: Rows::Query(BTreeMap::from([(date, rows)])),
        totals: BTreeMap::new(),
        scanned: computed.scanned,
        skew: computed.skew,
    })
}

/// A session in which what another run registered is not there.
fn own_tables(session: &Session, spec: &Spec) -> Result<Session> {
    let session = session.without_tables();
    session.map_err(Inputs::engine_error(&spec.name))
}

async fn execute(
    session: &Session,
    spec: &Spec,
    name: &str,
    plan: &LogicalPlan,
    observer: &dyn Observer,
) -> Result<rankmill_engine::Computed> {
    let progress = |scanned| observer.progress(scanned);
    let executed = session.execute(name, plan, &progress);
    executed.await.map_err(Inputs::engine_error(&spec.name))
}

fn query_rows_of(spec: &Spec, computed: &rankmill_engine::Computed) -> Result<RecordBatch> {
    query_rows(&computed.schema, &computed.batches)
        .map_err(|e| Inputs::engine_error(&spec.name)(e.into()))
}

/// What a computation is called where people see it.
fn name_of(spec: &Spec, dates: &[NaiveDate]) -> String {
    match dates {
        [] => spec.name.clone(),
        [date] => format!("{} {date}", spec.name),
        [first, .., last] => format!("{} {first}..{last}", spec.name),
    }
}

/// Tells the observer how much there is to read.
async fn announce(
    session: &Session,
    spec: &Spec,
    inputs: &Inputs,
    dates: &[NaiveDate],
    observer: &dyn Observer,
) -> Result<()> {
    let (mut files, mut rows, mut bytes) = (0, Some(0), 0);
    for input in inputs.logs.iter().chain(&inputs.lookups) {
        let table = input.open(session, &spec.name, dates).await?;
        files += table.files().len();
        bytes += table.bytes();
        rows = rows.zip(table.rows()).map(|(sum, rows)| sum + rows);
    }
    observer.reading(files, rows, bytes);
    Ok(())
}

/// Whether a log whose date is in a column has a row of a date, whatever `where` says.
pub(crate) async fn has_rows(
    session: &Session,
    spec: &Spec,
    inputs: &Inputs,
    input: &Input,
    date: NaiveDate,
) -> Result<bool> {
    if input.surely_has(date) {
        return Ok(true);
    }
    let compiler = Compiler {
        job: &spec.name,
        context: session.context(),
    };
    let table = input.open(session, &spec.name, &[date]).await?;
    match compiler.has_rows(input, table, date).await {
        Ok(found) => Ok(found),
        Err(e) => Err(name_broken_file(session, spec, inputs, e).await),
    }
}

/// Decoders don't say in which file they failed: if it looks like one did, look for it.
async fn name_broken_file(session: &Session, spec: &Spec, inputs: &Inputs, error: Error) -> Error {
    let Error::Engine { source, .. } = &error else {
        return error;
    };
    let rankmill_engine::Error::Compute(cause) = source.as_ref() else {
        return error;
    };
    let decoding = matches!(
        cause.find_root(),
        DataFusionError::ParquetError(_)
            | DataFusionError::ArrowError(_, _)
            | DataFusionError::External(_)
    );
    // A condition that a scan checks fails as if the file did.
    let in_condition = cause
        .to_string()
        .contains("Error evaluating filter predicate");
    if !decoding || in_condition {
        return error;
    }
    for input in inputs
        .logs
        .iter()
        .chain(&inputs.lookups)
        .chain(&inputs.labels)
    {
        let (source, format) = (&input.source, input.format);
        if let Some(broken) = find_broken_file(session, source, format, &input.files()).await {
            return Inputs::engine_error(&spec.name)(broken);
        }
    }
    error
}

/// The logical and the physical plan of a job for some dates, as text.
pub async fn explain(
    session: &Session,
    spec: &Spec,
    params: &Params,
    dates: &[NaiveDate],
) -> Result<String> {
    let first = dates.first().copied().unwrap_or_default();
    let spec = spec.fill(params, first);
    let failed = |e: DataFusionError| Inputs::engine_error(&spec.name)(e.into());
    let session = session
        .without_tables()
        .map_err(Inputs::engine_error(&spec.name))?;
    let inputs = Inputs::list(&session, &spec, dates).await?;
    let plan = match (&spec.ranking, &spec.sql) {
        (Some(ranking), _) => {
            compile_ranking(&session, &spec, ranking, &inputs, dates)
                .await?
                .plan
        }
        (None, sql) => {
            let sql = sql.as_deref().unwrap_or_default();
            compile_query(&session, &spec, sql, &inputs, &[first]).await?
        }
    };
    let state = session.context().state();
    let optimized = state.optimize(&plan).map_err(failed)?;
    let physical: Arc<dyn ExecutionPlan> =
        state.create_physical_plan(&plan).await.map_err(failed)?;
    Ok(format!(
        "Logical plan\n{}\n\nPhysical plan\n{}",
        optimized.display_indent(),
        displayable(physical.as_ref()).indent(false)
    ))
}
