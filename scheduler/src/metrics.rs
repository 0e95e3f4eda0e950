//! What Prometheus is told. Labels are few and bounded: never a job, a run, a date or a key.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::model::{Executor, RunState};

/// Seconds; requests are answered from memory, except for gap checks.
const REQUEST_SECONDS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Seconds; runs take from an instant, where all is current, to hours.
const RUN_SECONDS: [f64; 13] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0,
];

/// The metrics of a scheduler. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    runs: Family<StateLabel, Gauge>,
    runs_finished: Family<OutcomeLabel, Counter>,
    run_duration: Histogram,
    run_queue: Histogram,
    late_runs: Counter,
    attempts_failed: Family<CauseLabel, Counter>,
    scanned_rows: Counter,
    scanned_bytes: Counter,
    executors: Gauge,
    executor_slots: Gauge<u64, AtomicU64>,
    executor_slots_busy: Gauge<u64, AtomicU64>,
    is_leader: Gauge,
    lease_epoch: Gauge<u64, AtomicU64>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// There is no input, or it can't be read, or the spec doesn't fit it.
    Input,
    /// The input changed again and again while it was read.
    InputChanged,
    /// An object store could not be reached.
    Store,
    /// An executor was lost.
    ExecutorLost,
    /// It made no progress.
    Stalled,
    /// It took longer than a run may.
    Timeout,
    /// The scheduler that ran it died.
    SchedulerLost,
    /// The result must not be published, or could not be.
    Publication,
    /// Anything else.
    Other,
}

impl FailureCause {
    const ALL: [Self; 9] = [
        Self::Input,
        Self::InputChanged,
        Self::Store,
        Self::ExecutorLost,
        Self::Stalled,
        Self::Timeout,
        Self::SchedulerLost,
        Self::Publication,
        Self::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::InputChanged => "input_changed",
            Self::Store => "store",
            Self::ExecutorLost => "executor_lost",
            Self::Stalled => "stalled",
            Self::Timeout => "timeout",
            Self::SchedulerLost => "scheduler_lost",
            Self::Publication => "publication",
            Self::Other => "other",
        }
    }
}

const STATES: [RunState; 7] = [
    RunState::Queued,
    RunState::Running,
    RunState::Publishing,
    RunState::Succeeded,
    RunState::Failed,
    RunState::Cancelled,
    RunState::Fenced,
];

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Publishing => "publishing",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Cancelled => "cancelled",
        RunState::Fenced => "fenced",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: &'static str,
    method: &'static str,
    route: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    face: &'static str,
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Metrics {
    /// All at nought.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rankmill");
        let build = Info::new(BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
        });
        registry.register("build", "This build", build);
        let request_duration = || Histogram::new(REQUEST_SECONDS);
        let request_duration =
            Family::<RouteLabels, Histogram>::new_with_constructor(request_duration);
        registry.register_with_unit(
            "api_request_duration",
            "Time to the head of an answer",
            Unit::Seconds,
            request_duration.clone(),
        );
        let inner = Inner {
            runs: register(&mut registry, "runs", "Runs by state"),
            runs_finished: register(&mut registry, "runs_finished", "Runs that ended"),
            run_duration: histogram(
                &mut registry,
                "run_duration",
                "From a run's first start to its end",
            ),
            run_queue: histogram(
                &mut registry,
                "run_queue",
                "From a run's submission to its first start",
            ),
            late_runs: register(
                &mut registry,
                "late_runs",
                "Runs that passed their deadline",
            ),
            attempts_failed: register(&mut registry, "attempts_failed", "Attempts that failed"),
            scanned_rows: register(&mut registry, "scanned_rows", "Rows read by runs"),
            scanned_bytes: {
                let counter = Counter::default();
                registry.register_with_unit(
                    "scanned",
                    "Bytes read by runs",
                    Unit::Bytes,
                    counter.clone(),
                );
                counter
            },
            executors: register(&mut registry, "executors", "Executors that are alive"),
            executor_slots: register(
                &mut registry,
                "executor_slots",
                "Tasks that the executors can work on at once",
            ),
            executor_slots_busy: register(
                &mut registry,
                "executor_slots_busy",
                "Tasks that the executors work on",
            ),
            is_leader: register(&mut registry, "is_leader", "1 if this scheduler leads"),
            lease_epoch: register(
                &mut registry,
                "lease_epoch",
                "The lease's epoch, as last seen",
            ),
            requests: register(&mut registry, "api_requests", "Requests answered"),
            request_duration,
            registry,
        };
        for state in STATES {
            let label = StateLabel {
                state: state_name(state),
            };
            drop(inner.runs.get_or_create(&label));
            if state.is_final() {
                let outcome = label.state;
                drop(inner.runs_finished.get_or_create(&OutcomeLabel { outcome }));
            }
        }
        for cause in FailureCause::ALL {
            let cause = cause.name();
            drop(inner.attempts_failed.get_or_create(&CauseLabel { cause }));
        }
        Self(Arc::new(inner))
    }

    /// Runs that are in a state now.
    pub fn set_runs(&self, state: RunState, count: usize) {
        let state = state_name(state);
        let gauge = self.0.runs.get_or_create(&StateLabel { state });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A run's first attempt begins, so long after it was submitted.
    pub fn run_started(&self, queued_for: Duration) {
        self.0.run_queue.observe(queued_for.as_secs_f64());
    }

    /// A run ended in a state, so long after its first attempt began.
    pub fn run_finished(&self, outcome: RunState, took: Duration) {
        let outcome = state_name(outcome);
        let counter = self
            .0
            .runs_finished
            .get_or_create(&OutcomeLabel { outcome });
        counter.inc();
        self.0.run_duration.observe(took.as_secs_f64());
    }

    /// A run passed its deadline; once for each.
    pub fn run_late(&self) {
        self.0.late_runs.inc();
    }

    /// An attempt failed, whether or not another follows.
    pub fn attempt_failed(&self, cause: FailureCause) {
        let cause = cause.name();
        let counter = self.0.attempts_failed.get_or_create(&CauseLabel { cause });
        counter.inc();
    }

    /// Rows and bytes read since the last call.
    pub fn scanned(&self, rows: u64, bytes: u64) {
        self.0.scanned_rows.inc_by(rows);
        self.0.scanned_bytes.inc_by(bytes);
    }

    /// The executors there are now.
    pub fn set_executors(&self, executors: &[Executor]) {
        let sum = |of: fn(&Executor) -> u32| executors.iter().map(|e| u64::from(of(e))).sum();
        let count = i64::try_from(executors.len()).unwrap_or(i64::MAX);
        self.0.executors.set(count);
        self.0.executor_slots.set(sum(|e| e.slots));
        self.0.executor_slots_busy.set(sum(|e| e.busy_slots));
    }

    /// Whether this scheduler leads, and the lease's epoch.
    pub fn set_leader(&self, leads: bool, epoch: u64) {
        self.0.is_leader.set(i64::from(leads));
        self.0.lease_epoch.set(epoch);
    }

    /// The head of an answer went out. `route` must be a pattern, not a path.
    pub(crate) fn request(
        &self,
        face: &'static str,
        method: &'static str,
        route: &str,
        status: &str,
        took: Duration,
    ) {
        let route = route.to_owned();
        let labels = RouteLabels {
            face,
            method,
            route: route.clone(),
        };
        let histogram = self.0.request_duration.get_or_create(&labels);
        histogram.observe(took.as_secs_f64());
        let labels = RequestLabels {
            face,
            method,
            route,
            status: status.to_owned(),
        };
        self.0.requests.get_or_create(&labels).inc();
    }

    /// All of them as OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(RUN_SECONDS);
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let metrics = Metrics::new();
        let other = metrics.clone();
        other.set_runs(RunState::Queued, 3);
        other.run_started(Duration::from_millis(700));
        other.run_finished(RunState::Failed, Duration::from_secs(20));
        other.run_late();
        other.attempt_failed(FailureCause::ExecutorLost);
        other.scanned(10, 2_000);
        other.set_leader(true, 7);
        let executor = |slots, busy_slots| Executor {
            id: String::new(),
            address: String::new(),
            slots,
            busy_slots,
            last_heartbeat_at: chrono::DateTime::UNIX_EPOCH,
            memory_bytes: 0,
        };
        other.set_executors(&[executor(2, 1), executor(4, 0)]);
        other.request("http", "GET", "/api/v1/jobs", "200", Duration::ZERO);
        let text = metrics.encode().unwrap();
        for expected in [
            "rankmill_build_info{version=\"0.1.0\"} 1",
            "rankmill_runs{state=\"queued\"} 3",
            "rankmill_runs{state=\"running\"} 0",
            "rankmill_run_queue_seconds_bucket{le=\"0.5\"} 0",
            "rankmill_run_queue_seconds_bucket{le=\"1.0\"} 1",
            "rankmill_runs_finished_total{outcome=\"failed\"} 1",
            "rankmill_runs_finished_total{outcome=\"succeeded\"} 0",
            "rankmill_run_duration_seconds_sum 20.0",
            "rankmill_late_runs_total 1",
            "rankmill_attempts_failed_total{cause=\"executor_lost\"} 1",
            "rankmill_attempts_failed_total{cause=\"stalled\"} 0",
            "rankmill_scanned_rows_total 10",
            "rankmill_scanned_bytes_total 2000",
            "rankmill_executors 2",
            "rankmill_executor_slots 6",
            "rankmill_executor_slots_busy 1",
            "rankmill_is_leader 1",
            "rankmill_lease_epoch 7",
            "rankmill_api_requests_total{face=\"http\",method=\"GET\",route=\"/api/v1/jobs\",\
             status=\"200\"} 1",
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected}
{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }

    /// A series that is missing until something happens can't be alerted on.
    #[test]
    fn every_series_without_a_route_is_there_from_the_start() {
        let text = Metrics::new().encode().unwrap();
        for state in STATES {
            assert!(text.contains(&format!(
                "rankmill_runs{{state=\"{}\"}} 0",
                state_name(state)
            )));
        }
        for cause in FailureCause::ALL {
            let series = format!(
                "rankmill_attempts_failed_total{{cause=\"{}\"}} 0",
                cause.name()
            );
            assert!(text.contains(&series));
        }
        assert!(text.contains("rankmill_late_runs_total 0"));
        assert!(text.contains("rankmill_run_duration_seconds_count 0"));
    }
}
