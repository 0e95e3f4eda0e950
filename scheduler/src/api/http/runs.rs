//! Runs.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};

use super::Http;
use super::extract::{Json, Query, Segment, key_of};
use crate::api::problem::Problem;
use crate::api::translate::run_id;
use crate::model::{RunState, RunView, SubmitRun};
use crate::service::{Caller, RunFilter, RunPage};

/// A comment goes out so often where nothing happens, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs",
    operation_id = "listRuns", security(("token" = ["read"])),
    params(
        ("job" = Option<String>, Query, description = "Only those of this job."),
        ("state" = Option<String>, Query,
            description = "Only those in one of these states, separated by commas: queued, \
                running, publishing, succeeded, failed, cancelled, fenced."),
        ("page_size" = Option<u32>, Query, description = "1 to 1000; 50 if left out."),
        ("page_token" = Option<String>, Query,
            description = "`next_page_token` of the page before.")),
    responses((status = 200, description = "A page of runs.", body = RunPage)))]
pub(super) async fn list(
    State(http): State<Http>,
    RawQuery(query): RawQuery,
) -> Result<axum::Json<RunPage>, Problem> {
    let query = Query::parse(
        query.as_deref(),
        &["job", "state", "page_size", "page_token"],
    )?;
    let states = query.get("state").unwrap_or_default().split(',');
    let filter = RunFilter {
        job: query.get("job").map(str::to_owned),
        states: states
            .filter(|name| !name.is_empty())
            .map(parse_state)
            .collect::<Result<_, _>>()?,
        page_size: match query.get("page_size") {
            None => 0,
            Some(size) => size
                .parse()
                .ok()
                .filter(|size| (1..=1000).contains(size))
                .ok_or_else(|| Problem::invalid("page_size", "must be 1 to 1000"))?,
        },
        page_token: query.get("page_token").map(str::to_owned),
    };
    Ok(axum::Json(http.service.runs(&filter).await?))
}

fn parse_state(name: &str) -> Result<RunState, Problem> {
    let state = serde_json::Value::from(name.trim());
    serde_json::from_value(state).map_err(|error| Problem::invalid("state", error))
}

/// Queues a run and answers at once.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs",
    operation_id = "submitRun", security(("token" = ["submit"])),
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 printable ASCII characters. The same key gives the run of the \
            first request instead of queuing another.")),
    request_body = SubmitRun,
    responses((status = 202, description = "The run.", body = RunView,
        headers(("Location" = String, description = "Where it is.")))))]
pub(super) async fn submit(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Json(request): Json<SubmitRun>,
) -> Result<Response, Problem> {
    let key = key_of(&headers)?;
    let run = http.service.submit(&caller, request, key).await?;
    Ok(accepted(run))
}

fn accepted(run: RunView) -> Response {
    let location = format!("/api/v1/runs/{}", run.summary.id);
    let headers = [(header::LOCATION, location)];
    (StatusCode::ACCEPTED, headers, axum::Json(run)).into_response()
}

/// One run.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs",
    operation_id = "getRun", security(("token" = ["read"])),
    params(("id" = String, Path, description = "Id of the run.")),
    responses((status = 200, description = "The run.", body = RunView)))]
pub(super) async fn get(
    State(http): State<Http>,
    Segment(id): Segment,
) -> Result<axum::Json<RunView>, Problem> {
    Ok(axum::Json(http.service.run(run_id(&id)?).await?))
}

/// Stops a run; one that has ended stays as it is.
#[utoipa::path(post, path = "/api/v1/runs/{id}/cancel", tag = "runs",
    operation_id = "cancelRun", security(("token" = ["submit"])),
    params(("id" = String, Path, description = "Id of the run.")),
    responses((status = 202, description = "The run; it stops soon.", body = RunView,
        headers(("Location" = String, description = "Where it is.")))))]
pub(super) async fn cancel(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let run = http.service.cancel(&caller, run_id(&id)?).await?;
    Ok(accepted(run))
}

/// Queues a new run like one that has ended.
#[utoipa::path(post, path = "/api/v1/runs/{id}/retry", tag = "runs",
    operation_id = "retryRun", security(("token" = ["submit"])),
    params(
        ("id" = String, Path, description = "Id of the run that has ended."),
        ("Idempotency-Key" = Option<String>, Header,
            description = "1 to 255 printable ASCII characters. The same key gives the run of \
                the first request instead of queuing another.")),
    responses((status = 202, description = "The new run.", body = RunView,
        headers(("Location" = String, description = "Where it is.")))))]
pub(super) async fn retry(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let key = key_of(&headers)?;
    let run = http.service.retry(&caller, run_id(&id)?, key).await?;
    Ok(accepted(run))
}

/// The run as it is now, then again at each change, until it has ended: server-sent events called
/// `run`, whose data is the run.
#[utoipa::path(get, path = "/api/v1/runs/{id}/events", tag = "runs",
    operation_id = "watchRun", security(("token" = ["read"])),
    params(("id" = String, Path, description = "Id of the run.")),
    responses((status = 200, description = "The run at each change.",
        content((RunView = "text/event-stream")))))]
pub(super) async fn events(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let watch = http.watches.begin(caller.name.as_deref())?;
    let runs = http.service.watch(run_id(&id)?).await?;
    let mut closing = http.closing.clone();
    let events = runs
        .map(move |run| {
            let _as_long_as_it_lasts = &watch;
            let event = Event::default().event("run").json_data(&run);
            // A run is always JSON.
            Ok(event.unwrap_or_default())
        })
        .take_until(async move { closing.wait_for(|closing| *closing).await.map(drop) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
