//! How the scheduler is.

use axum::extract::State;
use axum::http::{HeaderName, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Http, openapi as document};
use crate::api::problem::{Kind, Problem};
use crate::model::Executor;

/// The cluster's executors.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecutorList {
    /// None if the scheduler computes in its own process.
    executors: Vec<Executor>,
    /// The scheduler computes in its own process.
    embedded: bool,
}

/// Lists the executors.
#[utoipa::path(get, path = "/api/v1/executors", tag = "system",
    operation_id = "listExecutors", security(("token" = ["read"])),
    responses((status = 200, description = "The executors.", body = ExecutorList)))]
pub(super) async fn executors(
    State(http): State<Http>,
) -> Result<axum::Json<ExecutorList>, Problem> {
    Ok(axum::Json(ExecutorList {
        executors: http.service.executors().await?,
        embedded: http.service.is_embedded(),
    }))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "system",
    operation_id = "openApi", security(("token" = ["read"])),
    responses((status = 200, description = "An OpenAPI document.", body = Object)))]
pub(super) async fn openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, document::json())
}

/// Answers if the process lives.
#[utoipa::path(get, path = "/healthz", tag = "system",
    operation_id = "isAlive", security(()),
    responses((status = 200, description = "It lives.", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers 200 if this scheduler leads and can compute, else 503.
#[utoipa::path(get, path = "/readyz", tag = "system",
    operation_id = "isReady", security(()),
    responses((status = 200, description = "It is ready.", body = String)))]
pub(super) async fn readyz(State(http): State<Http>) -> Result<&'static str, Problem> {
    match http.service.readiness() {
        Ok(()) => Ok("ok\n"),
        Err(error) => Err(Problem::not_ready(error)),
    }
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system",
    operation_id = "metrics", security(()),
    responses((status = 200, description = "OpenMetrics text.", body = String,
        content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(
    State(http): State<Http>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let text = http.service.metrics().encode();
    let text = text.map_err(|_| Problem::new(Kind::Internal, "the metrics can't be written"))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}
