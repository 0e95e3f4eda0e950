//! The HTTP face: JSON under `/api/v1`, errors as `application/problem+json`.

mod dates;
mod extract;
mod jobs;
mod openapi;
mod runs;
mod system;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gate::{self, Gate};
use super::limits::Watches;
use super::problem::{Kind, Problem};
use crate::service::Service;

/// What the handlers share.
#[derive(Clone)]
struct Http {
    service: Service,
    watches: Watches,
    /// True when watches are to end.
    closing: watch::Receiver<bool>,
}

/// The face, with the gate around it.
pub(super) fn router(
    service: Service,
    watches: Watches,
    closing: watch::Receiver<bool>,
    gate: &Arc<Gate>,
) -> Router {
    let state = Http {
        service,
        watches,
        closing,
    };
    let (router, _) = routes().split_for_parts();
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
        .layer(from_fn_with_state(Arc::clone(gate), gate::http))
}

/// Every route, with its description.
fn routes() -> OpenApiRouter<Http> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(jobs::list, jobs::apply))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(dates::gaps))
        .routes(routes!(runs::list, runs::submit))
        .routes(routes!(runs::get))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(runs::events))
        .routes(routes!(dates::backfill))
        .routes(routes!(system::executors))
        .routes(routes!(system::openapi))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

/// Whether a path is one of those that tell how this scheduler is, to everybody.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

async fn not_found(uri: Uri) -> Problem {
    let detail = format!(
        "there is nothing at {}; /api/v1/openapi.json tells what there is",
        uri.path()
    );
    Problem::new(Kind::NotFound, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}", uri.path());
    Problem::new(Kind::MethodNotAllowed, detail)
}
