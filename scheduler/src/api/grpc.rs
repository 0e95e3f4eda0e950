//! The gRPC face: `rankmill.v1`, with reflection and health.

mod health;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use self::health::HealthOf;
use super::auth::Role;
use super::gate::{self, Gate};
use super::limits::Watches;
use super::problem::Problem;
use super::translate::{self as to, idempotency_key, run_id};
use crate::error::{Error, Result};
use crate::model::RunView;
use crate::proto;
use crate::proto::rankmill_server::{Rankmill, RankmillServer};
use crate::service::{Caller, Service};

/// Name of the service in paths, reflection and health.
const SERVICE: &str = "rankmill.v1.Rankmill";

/// Every method, and the role that it needs.
const METHODS: [(&str, Role); 15] = [
    ("ApplyJob", Role::Admin),
    ("ListJobs", Role::Read),
    ("GetJob", Role::Read),
    ("PauseJob", Role::Admin),
    ("ResumeJob", Role::Admin),
    ("DeleteJob", Role::Admin),
    ("SubmitRun", Role::Submit),
    ("ListRuns", Role::Read),
    ("GetRun", Role::Read),
    ("CancelRun", Role::Submit),
    ("RetryRun", Role::Submit),
    ("WatchRun", Role::Read),
    ("CheckGaps", Role::Read),
    ("Backfill", Role::Submit),
    ("ListExecutors", Role::Read),
];

/// The face, with the gate around it.
pub(super) fn router(
    service: Service,
    watches: Watches,
    closing: watch::Receiver<bool>,
    gate: &Arc<Gate>,
    max_request_bytes: usize,
) -> Result<Router> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let failed = |error: tonic_reflection::server::Error| Error::Setup {
        what: "gRPC reflection".to_owned(),
        reason: error.to_string(),
    };
    let health = HealthOf::new(service.clone(), closing.clone());
    let face = Face {
        service,
        watches,
        closing,
    };
    let face = RankmillServer::new(face).max_decoding_message_size(max_request_bytes);
    let routes = Routes::new(face)
        .add_service(health.into_server())
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?);
    let gate = from_fn_with_state(Arc::clone(gate), gate::grpc);
    Ok(routes.into_axum_router().layer(gate))
}

/// Service and method of a path.
fn parts_of(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

fn method_of(path: &str) -> Option<(&'static str, Role)> {
    let (service, method) = parts_of(path)?;
    let known = METHODS.into_iter().find(|(name, _)| *name == method);
    known.filter(|_| service == SERVICE)
}

/// Whether a path is one of those that tell how this scheduler is, to everybody.
pub(super) fn is_health(path: &str) -> bool {
    parts_of(path).is_some_and(|(service, _)| service == "grpc.health.v1.Health")
}

pub(super) fn is_reflection(path: &str) -> bool {
    parts_of(path).is_some_and(|(service, _)| service.starts_with("grpc.reflection."))
}

/// The role that a method needs; the highest where the method isn't known.
pub(super) fn role_for(path: &str) -> Role {
    match method_of(path) {
        Some((_, role)) => role,
        None if is_reflection(path) => Role::Read,
        None => Role::Admin,
    }
}

/// What a path is called in metrics.
pub(super) fn route(path: &str) -> &'static str {
    match method_of(path) {
        Some((method, _)) => method,
        None if is_health(path) => "Health",
        None if is_reflection(path) => "Reflection",
        None => "unmatched",
    }
}

struct Face {
    service: Service,
    watches: Watches,
    /// True when watches are to end.
    closing: watch::Receiver<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

/// Who asks and what; the gate has put down who.
fn open<T>(request: Request<T>) -> (Caller, T) {
    let (_, mut extensions, message) = request.into_parts();
    (extensions.remove::<Caller>().unwrap_or_default(), message)
}

fn failed(error: Error) -> Status {
    Problem::from(error).into_status()
}

#[tonic::async_trait]
impl Rankmill for Face {
    async fn apply_job(&self, request: Request<proto::ApplyJobRequest>) -> Answer<proto::Job> {
        let (caller, request) = open(request);
        let set = request.set.into_iter().collect();
        let job = self.service.apply_job(&caller, &request.spec, set).await;
        Ok(Response::new(to::job(job.map_err(failed)?)))
    }

    async fn list_jobs(
        &self,
        _: Request<proto::ListJobsRequest>,
    ) -> Answer<proto::ListJobsResponse> {
        let jobs = self.service.jobs().await.map_err(failed)?;
        let jobs = jobs.into_iter().map(to::job).collect();
        Ok(Response::new(proto::ListJobsResponse { jobs }))
    }

    async fn get_job(&self, request: Request<proto::GetJobRequest>) -> Answer<proto::Job> {
        let job = self.service.job(&request.get_ref().name).await;
        Ok(Response::new(to::job(job.map_err(failed)?)))
    }

    async fn pause_job(&self, request: Request<proto::PauseJobRequest>) -> Answer<proto::Job> {
        let (caller, request) = open(request);
        let job = self.service.set_paused(&caller, &request.name, true).await;
        Ok(Response::new(to::job(job.map_err(failed)?)))
    }

    async fn resume_job(&self, request: Request<proto::ResumeJobRequest>) -> Answer<proto::Job> {
        let (caller, request) = open(request);
        let job = self.service.set_paused(&caller, &request.name, false).await;
        Ok(Response::new(to::job(job.map_err(failed)?)))
    }

    async fn delete_job(
        &self,
        request: Request<proto::DeleteJobRequest>,
    ) -> Answer<proto::DeleteJobResponse> {
        let (caller, request) = open(request);
        let deleted = self.service.delete_job(&caller, &request.name).await;
        deleted.map_err(failed)?;
        Ok(Response::new(proto::DeleteJobResponse {}))
    }

    async fn submit_run(&self, request: Request<proto::SubmitRunRequest>) -> Answer<proto::Run> {
        let (caller, request) = open(request);
        let (request, key) = to::submit(request)?;
        let run = self.service.submit(&caller, request, key).await;
        Ok(Response::new(to::run(run.map_err(failed)?)))
    }

    async fn list_runs(
        &self,
        request: Request<proto::ListRunsRequest>,
    ) -> Answer<proto::ListRunsResponse> {
        let filter = to::run_filter(request.into_inner())?;
        let page = self.service.runs(&filter).await.map_err(failed)?;
        Ok(Response::new(to::run_page(page)))
    }

    async fn get_run(&self, request: Request<proto::GetRunRequest>) -> Answer<proto::Run> {
        let run = self.service.run(run_id(&request.get_ref().id)?).await;
        Ok(Response::new(to::run(run.map_err(failed)?)))
    }

    async fn cancel_run(&self, request: Request<proto::CancelRunRequest>) -> Answer<proto::Run> {
        let (caller, request) = open(request);
        let run = self.service.cancel(&caller, run_id(&request.id)?).await;
        Ok(Response::new(to::run(run.map_err(failed)?)))
    }

    async fn retry_run(&self, request: Request<proto::RetryRunRequest>) -> Answer<proto::Run> {
        let (caller, request) = open(request);
        let key = idempotency_key("idempotency_key", &request.idempotency_key)?;
        let run = self.service.retry(&caller, run_id(&request.id)?, key);
        let run = run.await;
        Ok(Response::new(to::run(run.map_err(failed)?)))
    }

    type WatchRunStream = BoxStream<'static, Result<proto::Run, Status>>;

    async fn watch_run(
        &self,
        request: Request<proto::WatchRunRequest>,
    ) -> Answer<Self::WatchRunStream> {
        let (caller, request) = open(request);
        let watch = self.watches.begin(caller.name.as_deref())?;
        let runs = self.service.watch(run_id(&request.id)?).await;
        let runs = runs.map_err(failed)?.inspect(move |_| {
            let _as_long_as_it_lasts = &watch;
        });
        let mut closing = self.closing.clone();
        let closed = async move { closing.wait_for(|closing| *closing).await.map(drop) };
        let has_ended = |run: &RunView| run.summary.state.is_final();
        let runs = until(runs, has_ended, closed).map_ok(to::run);
        Ok(Response::new(runs.boxed()))
    }

    async fn check_gaps(
        &self,
        request: Request<proto::CheckGapsRequest>,
    ) -> Answer<proto::CheckGapsResponse> {
        let request = request.into_inner();
        let job = &request.job;
        let from = self.service.date_of(job, &request.from).await;
        let from = from.map_err(failed)?;
        let to = match request.to.as_str() {
            "" => from,
            to => self.service.date_of(job, to).await.map_err(failed)?,
        };
        let dates = self.service.gaps(job, from, to).await.map_err(failed)?;
        let dates = dates.into_iter().map(to::date_status).collect();
        Ok(Response::new(proto::CheckGapsResponse { dates }))
    }

    async fn backfill(
        &self,
        request: Request<proto::BackfillRequest>,
    ) -> Answer<proto::BackfillResponse> {
        let (caller, request) = open(request);
        let (request, key) = to::backfill(request)?;
        let plan = self.service.backfill(&caller, request, key).await;
        Ok(Response::new(to::backfill_plan(plan.map_err(failed)?)))
    }

    async fn list_executors(
        &self,
        _: Request<proto::ListExecutorsRequest>,
    ) -> Answer<proto::ListExecutorsResponse> {
        let executors = self.service.executors().await.map_err(failed)?;
        Ok(Response::new(proto::ListExecutorsResponse {
            executors: executors.into_iter().map(to::executor).collect(),
            embedded: self.service.is_embedded(),
        }))
    }
}

/// A run until it has ended. If `closed` comes first, or there is nobody left to tell of it, the
/// stream ends in an error: whoever watches must not take the end of the scheduler for the end of
/// the run.
fn until<T: Send + 'static, E: Send + 'static>(
    runs: impl Stream<Item = T> + Send + 'static,
    has_ended: impl Fn(&T) -> bool + Send + Copy + 'static,
    closed: impl Future<Output = Result<(), E>> + Send + 'static,
) -> BoxStream<'static, Result<T, Status>> {
    let state = Some((Box::pin(runs), Box::pin(closed), false));
    stream::unfold(state, move |state| async move {
        let (mut runs, mut closed, ended) = state?;
        let next = tokio::select! {
            next = runs.next() => next,
            _ = &mut closed => None,
        };
        match next {
            Some(run) => {
                let ended = has_ended(&run);
                Some((Ok(run), Some((runs, closed, ended))))
            }
            None if ended => None,
            None => {
                let error = Status::unavailable("this scheduler is going down");
                Some((Err(error), None))
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_has_a_role() {
        let files = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let services = files.file.iter().flat_map(|file| {
            let package = file.package();
            file.service
                .iter()
                .map(move |service| (format!("{package}.{}", service.name()), &service.method))
        });
        let mut names: Vec<String> = Vec::new();
        for (service, methods) in services {
            assert_eq!(service, SERVICE);
            names.extend(methods.iter().map(|method| method.name().to_owned()));
        }
        assert_eq!(names, METHODS.map(|(name, _)| name));
    }

    #[test]
    fn roles_of_paths() {
        for (path, role) in [
            ("/rankmill.v1.Rankmill/ListJobs", Role::Read),
            ("/rankmill.v1.Rankmill/SubmitRun", Role::Submit),
            ("/rankmill.v1.Rankmill/ApplyJob", Role::Admin),
            ("/rankmill.v1.Rankmill/New", Role::Admin),
            ("/other.Rankmill/ListJobs", Role::Admin),
            ("/grpc.reflection.v1.ServerReflection/x", Role::Read),
            ("/", Role::Admin),
        ] {
            assert_eq!(role_for(path), role, "{path}");
        }
        assert!(is_health("/grpc.health.v1.Health/Check"));
        assert!(!is_health("/grpc.health.v1.HealthX/Check"));
        assert_eq!(route("/rankmill.v1.Rankmill/GetRun"), "GetRun");
        assert_eq!(route("/rankmill.v1.Rankmill/GetRun/"), "unmatched");
    }

    #[tokio::test]
    async fn a_watch_ends_with_its_run_or_in_an_error() {
        let two = || stream::iter([1, 2]);
        let never = std::future::pending::<Result<(), ()>>;
        let is_two = |run: &i32| *run == 2;
        let whole: Vec<i32> = until(two(), is_two, never()).try_collect().await.unwrap();
        assert_eq!(whole, [1, 2]);
        // Nobody is left to tell of it, but it has not ended.
        let lost: Result<Vec<i32>, Status> = until(two(), |_| false, never()).try_collect().await;
        assert_eq!(lost.unwrap_err().code(), tonic::Code::Unavailable);
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let mut cut = until(two().chain(stream::pending()), |_| false, closed);
        assert_eq!(cut.try_next().await.unwrap(), Some(1));
        assert_eq!(cut.try_next().await.unwrap(), Some(2));
        close.send(()).unwrap();
        let error = cut.try_next().await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable);
        assert!(cut.next().await.is_none());
    }
}
