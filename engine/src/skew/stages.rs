//! How evenly the tasks of each stage were loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use serde::{Deserialize, Serialize};

use super::metrics::told;
use super::{SkewReport, Spread, decisions};
use crate::fused::FusedExec;
use crate::joins::GraceJoinExec;
use crate::progress::LEFT_OUT_ROWS;
use crate::rank::RankExec;

/// What operators call the time that they work, besides `elapsed_compute`: scans of files, and
/// Ballista's writing of what goes to other stages.
const TIMES: [&str; 3] = ["time_elapsed_processing", "write_time", "repart_time"];
/// Tasks that a report keeps of a stage.
const KEPT_TASKS: usize = 256;

/// A part of a computation that runs as one task for each partition, without an exchange between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What it does.
    pub name: String,
    /// How many tasks it had.
    pub count: u64,
    /// The tasks; of very many an even choice, with the longest.
    pub tasks: Vec<TaskWork>,
}

/// What one task did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskWork {
    /// Rows that it read, from files or from other tasks.
    pub rows: u64,
    /// Bytes that it read: of files as they are there, of other tasks' rows as they are in memory.
    /// Where DataFusion's own operators take in the rows of other tasks on a cluster they aren't known:
    /// 0.
    pub bytes: u64,
    /// Microseconds that it worked.
    pub us: u64,
}

impl Stage {
    /// How a number of its tasks is spread.
    pub fn spread(&self, of: impl Fn(&TaskWork) -> u64) -> Spread {
        Spread::of(self.tasks.iter().map(of))
    }

    /// How much longer the longest task took than the one in the middle; 1 for a single task.
    pub fn straggling(&self) -> f64 {
        let time = self.spread(|task| task.us);
        time.max as f64 / (time.median as f64).max(1.0)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.tasks.extend(other.tasks);
        self.thin();
    }

    fn thin(&mut self) {
        while self.tasks.len() > KEPT_TASKS {
            self.tasks.sort_by_key(|task| std::cmp::Reverse(task.us));
            let kept = self.tasks.iter().copied().step_by(2);
            self.tasks = kept.collect();
        }
    }
}

/// The report of a plan that was executed in this process.
pub(crate) fn embedded(plan: &Arc<dyn ExecutionPlan>) -> SkewReport {
    let mut stages = Vec::new();
    let mut operators = Vec::new();
    visit(plan, &mut operators, &mut stages);
    stages.push(operators);
    let all = stages.iter().flatten();
    let (columns, notes) = told(all.map(|operator| &operator.metrics));
    let mut report = SkewReport {
        columns,
        decisions: decisions(plan),
        ..SkewReport::default()
    };
    report.decisions.extend(notes);
    for operators in stages {
        push(&mut report, stage(&operators));
    }
    report
}

/// The report of stages that were executed elsewhere, from the files on: of each its plan, and the
/// metrics of the operators that have any, in the plan's order (each before its children).
pub fn stages_report<'a>(
    stages: impl IntoIterator<Item = (&'a Arc<dyn ExecutionPlan>, &'a [MetricsSet])>,
) -> SkewReport {
    let mut report = SkewReport::default();
    let mut all = Vec::new();
    for (plan, metrics) in stages {
        all.extend(metrics);
        let mut operators = Vec::new();
        let mut rest = metrics.iter();
        if pair(plan, &mut rest, &mut operators) && rest.next().is_none() {
            push(&mut report, stage(&operators));
        }
    }
    (report.columns, report.decisions) = told(all);
    report
}

fn push(report: &mut SkewReport, stage: Option<Stage>) {
    let Some(mut stage) = stage else {
        return;
    };
    let same = report.stages.iter();
    let same = same.filter(|known| known.name.split(" (").next() == Some(&stage.name));
    let number = same.count() + 1;
    if number > 1 {
        stage.name = format!("{} ({number})", stage.name);
    }
    report.stages.push(stage);
}

/// An operator in a stage, and what it measured.
struct Operator {
    plan: Arc<dyn ExecutionPlan>,
    metrics: MetricsSet,
    /// Where the stage begins: it reads files, or what another stage sent.
    reads: bool,
}

fn is_exchange(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
}

/// Collects the operators of a stage; what lies behind exchanges are stages of their own.
fn visit(
    plan: &Arc<dyn ExecutionPlan>,
    operators: &mut Vec<Operator>,
    stages: &mut Vec<Vec<Operator>>,
) {
    let exchange = is_exchange(plan);
    operators.push(Operator {
        plan: Arc::clone(plan),
        metrics: plan.metrics().unwrap_or_default(),
        reads: exchange || plan.children().is_empty(),
    });
    for child in plan.children() {
        if exchange {
            let mut below = Vec::new();
            visit(child, &mut below, stages);
            stages.push(below);
        } else {
            visit(child, operators, stages);
        }
    }
}

/// Whether an operator's input is what other tasks sent: an exchange, or Ballista's reading of another
/// stage.
fn takes_in(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let sent = |input: &Arc<dyn ExecutionPlan>| {
        let read = input.children().is_empty() && !input.is::<DataSourceExec>();
        is_exchange(input) || read
    };
    plan.children().into_iter().any(sent)
}

/// Gives each operator that has metrics its own; whether there were enough.
fn pair<'a>(
    plan: &Arc<dyn ExecutionPlan>,
    rest: &mut impl Iterator<Item = &'a MetricsSet>,
    operators: &mut Vec<Operator>,
) -> bool {
    let metrics = match plan.metrics() {
        None => MetricsSet::new(),
        Some(_) => match rest.next() {
            Some(metrics) => metrics.clone(),
            None => return false,
        },
    };
    operators.push(Operator {
        plan: Arc::clone(plan),
        metrics,
        reads: plan.children().is_empty(),
    });
    let children = plan.children();
    children
        .into_iter()
        .all(|child| pair(child, rest, operators))
}

/// What the tasks did; none if nothing was measured.
fn stage(operators: &[Operator]) -> Option<Stage> {
    let mut tasks: BTreeMap<usize, TaskWork> = BTreeMap::new();
    // Rows and bytes by which operators say what they took in.
    let mut taken: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    // Bytes that exchanges of this process gave, with all that their buffers hold.
    let mut given: BTreeMap<usize, u64> = BTreeMap::new();
    for operator in operators {
        let exchange = is_exchange(&operator.plan);
        let takes_in = takes_in(&operator.plan);
        for metric in operator.metrics.iter() {
            let (Some(partition), value) = (metric.partition(), metric.value()) else {
                continue;
            };
            // What else an exchange does is done by the tasks that send.
            if exchange
                && !matches!(
                    value,
                    MetricValue::OutputRows(_) | MetricValue::OutputBytes(_)
                )
            {
                continue;
            }
            let task = tasks.entry(partition).or_default();
            match value {
                MetricValue::OutputRows(rows) if operator.reads => {
                    task.rows += rows.value() as u64;
                }
                MetricValue::OutputBytes(bytes) if exchange && operator.reads => {
                    *given.entry(partition).or_default() += bytes.value() as u64;
                }
                MetricValue::ElapsedCompute(time) => task.us += time.value() as u64 / 1000,
                MetricValue::Time { name, time } if TIMES.contains(&name.as_ref()) => {
                    task.us += time.value() as u64 / 1000;
                }
                MetricValue::Count { name, count } if name == "bytes_scanned" => {
                    task.bytes += count.value() as u64;
                }
                MetricValue::Count { name, count } if name == LEFT_OUT_ROWS => {
                    task.rows += count.value() as u64;
                }
                MetricValue::Count { name, count } if name == INPUT_ROWS => {
                    taken.entry(partition).or_default().0 += count.value() as u64;
                }
                MetricValue::Count { name, count } if name == INPUT_BYTES && takes_in => {
                    taken.entry(partition).or_default().1 += count.value() as u64;
                }
                _ => {}
            }
        }
    }
    // Not all that read say how much.
    for (partition, (rows, bytes)) in taken {
        let task = tasks.entry(partition).or_default();
        task.rows = task.rows.max(rows);
        task.bytes = task.bytes.max(bytes);
    }
    for (partition, bytes) in given {
        let task = tasks.entry(partition).or_default();
        if task.bytes == 0 {
            task.bytes = bytes;
        }
    }
    if tasks.is_empty() {
        return None;
    }
    let mut stage = Stage {
        name: name(operators),
        count: tasks.len() as u64,
        tasks: tasks.into_values().collect(),
    };
    stage.thin();
    Some(stage)
}

/// The counter by which an operator says how many rows it took in.
pub(crate) const INPUT_ROWS: &str = "rows_taken_in";
/// The counter by which an operator that may stand behind an exchange says how many bytes it took in:
/// those of a cluster don't, and the others count whole buffers.
pub(crate) const INPUT_BYTES: &str = "bytes_taken_in";

fn name(operators: &[Operator]) -> String {
    let mut plans = operators.iter().map(|operator| &operator.plan);
    if let Some(fused) = plans
        .clone()
        .find_map(|plan| plan.downcast_ref::<FusedExec>())
    {
        return format!("aggregate: {}", fused.step_name());
    }
    if plans.clone().any(|plan| plan.is::<RankExec>()) {
        return "rank".to_owned();
    }
    let joins =
        |plan: &Arc<dyn ExecutionPlan>| plan.is::<GraceJoinExec>() || plan.is::<HashJoinExec>();
    if plans.clone().any(joins) {
        return "join".to_owned();
    }
    match plans.any(|plan| plan.is::<DataSourceExec>()) {
        true => "read".to_owned(),
        false => "combine".to_owned(),
    }
}
