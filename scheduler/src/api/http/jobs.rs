//! Jobs.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Http;
use super::extract::{Json, Segment};
use crate::api::problem::Problem;
use crate::model::JobView;
use crate::service::Caller;

/// A job to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyJob {
    /// The spec (YAML).
    spec: String,
    /// Values of its placeholders besides `{lake}` and `{date}`.
    #[serde(default)]
    set: BTreeMap<String, String>,
}

/// All jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobList {
    /// By name.
    jobs: Vec<JobView>,
}

/// Lists the jobs, by name.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs",
    operation_id = "listJobs", security(("token" = ["read"])),
    responses((status = 200, description = "The jobs.", body = JobList)))]
pub(super) async fn list(State(http): State<Http>) -> Result<axum::Json<JobList>, Problem> {
    let jobs = http.service.jobs().await?;
    Ok(axum::Json(JobList { jobs }))
}

/// Registers a job from its spec, or replaces the one of that name.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs",
    operation_id = "applyJob", security(("token" = ["admin"])),
    request_body = ApplyJob,
    responses(
        (status = 200, description = "It replaced the one of that name.", body = JobView),
        (status = 201, description = "It is new.", body = JobView,
            headers(("Location" = String, description = "Where it is.")))))]
pub(super) async fn apply(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<ApplyJob>,
) -> Result<Response, Problem> {
    let view = http
        .service
        .apply_job(&caller, &body.spec, body.set)
        .await?;
    if view.job.revision > 1 {
        return Ok(axum::Json(view).into_response());
    }
    let location = format!("/api/v1/jobs/{}", view.job.name);
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, axum::Json(view)).into_response())
}

/// One job.
#[utoipa::path(get, path = "/api/v1/jobs/{name}", tag = "jobs",
    operation_id = "getJob", security(("token" = ["read"])),
    params(("name" = String, Path, description = "Name of the job.")),
    responses((status = 200, description = "The job.", body = JobView)))]
pub(super) async fn get(
    State(http): State<Http>,
    Segment(name): Segment,
) -> Result<axum::Json<JobView>, Problem> {
    Ok(axum::Json(http.service.job(&name).await?))
}

/// Removes a job; its runs and rankings stay.
#[utoipa::path(delete, path = "/api/v1/jobs/{name}", tag = "jobs",
    operation_id = "deleteJob", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Name of the job.")),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn delete(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<StatusCode, Problem> {
    http.service.delete_job(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a job: its schedule doesn't start it, and its gaps aren't repaired. It can still be
/// submitted.
#[utoipa::path(post, path = "/api/v1/jobs/{name}/pause", tag = "jobs",
    operation_id = "pauseJob", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Name of the job.")),
    responses((status = 200, description = "The job.", body = JobView)))]
pub(super) async fn pause(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<axum::Json<JobView>, Problem> {
    Ok(axum::Json(
        http.service.set_paused(&caller, &name, true).await?,
    ))
}

/// Lets the schedule start a paused job again.
#[utoipa::path(post, path = "/api/v1/jobs/{name}/resume", tag = "jobs",
    operation_id = "resumeJob", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Name of the job.")),
    responses((status = 200, description = "The job.", body = JobView)))]
pub(super) async fn resume(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<axum::Json<JobView>, Problem> {
    Ok(axum::Json(
        http.service.set_paused(&caller, &name, false).await?,
    ))
}
