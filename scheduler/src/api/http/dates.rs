//! Dates of jobs: what they need, and backfills.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Http;
use super::extract::{Json, Query, Segment, key_of};
use crate::api::problem::Problem;
use crate::model::{BackfillPlan, BackfillRequest, DateStatus};
use crate::service::Caller;

/// What dates of a job need.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapList {
    /// In order.
    dates: Vec<DateStatus>,
}

/// Says what each date of a job needs: missing, stale, published or without source.
#[utoipa::path(get, path = "/api/v1/jobs/{name}/gaps", tag = "dates",
    operation_id = "checkGaps", security(("token" = ["read"])),
    params(
        ("name" = String, Path, description = "Name of the job."),
        ("from" = String, Query,
            description = "First date: `2026-01-31`, `today` or `yesterday` in the job's zone."),
        ("to" = Option<String>, Query, description = "Last date; `from` if left out.")),
    responses((status = 200, description = "The dates.", body = GapList)))]
pub(super) async fn gaps(
    State(http): State<Http>,
    Segment(name): Segment,
    RawQuery(query): RawQuery,
) -> Result<axum::Json<GapList>, Problem> {
    let query = Query::parse(query.as_deref(), &["from", "to"])?;
    let from = http.service.date_of(&name, query.require("from")?).await?;
    let to = match query.get("to") {
        None => from,
        Some(to) => http.service.date_of(&name, to).await?,
    };
    let dates = http.service.gaps(&name, from, to).await?;
    Ok(axum::Json(GapList { dates }))
}

/// Queues runs for the dates of a job that need it.
#[utoipa::path(post, path = "/api/v1/backfills", tag = "dates",
    operation_id = "backfill", security(("token" = ["submit"])),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 printable ASCII characters. The same key gives the plan of the \
            first request, and queues only what that one did not get to.")),
    request_body = BackfillRequest,
    responses(
        (status = 200, description = "What would be queued (`dry_run`).", body = BackfillPlan),
        (status = 202, description = "What is queued.", body = BackfillPlan)))]
pub(super) async fn backfill(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Json(request): Json<BackfillRequest>,
) -> Result<(StatusCode, axum::Json<BackfillPlan>), Problem> {
    let status = match request.dry_run {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let key = key_of(&headers)?;
    let plan = http.service.backfill(&caller, request, key).await?;
    Ok((status, axum::Json(plan)))
}
