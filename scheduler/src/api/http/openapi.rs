//! The OpenAPI document, made from the routes themselves.

use std::sync::LazyLock;

use utoipa::openapi::security::{Http as HttpScheme, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Built, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

use crate::api::problem::{FieldError, ProblemBody};

/// What the document says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "rankmill",
        description = "The API of a rankmill scheduler. Everything under /api/v1 needs a bearer \
            token, if the scheduler has tokens; the scope of an operation is the role its token \
            needs, and each of read, submit, admin includes those before it."
    ),
    components(schemas(ProblemBody, FieldError)),
    modifiers(&Token),
    tags(
        (name = "jobs", description = "What to compute, and when."),
        (name = "runs", description = "What was and is computed."),
        (name = "dates", description = "What dates of jobs need."),
        (name = "system", description = "The scheduler and its cluster."),
    )
)]
pub(super) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Built) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(HttpScheme::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
    }
}

/// The document.
pub(super) fn json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| build().to_json().unwrap_or_default());
    &JSON
}

fn build() -> Built {
    let mut document = super::routes().into_openapi();
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            let mut problem = Response::new("What went wrong.");
            problem.content.insert(
                "application/problem+json".to_owned(),
                RefOr::T(Content::new(Some(Ref::from_schema_name("Problem")))),
            );
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), RefOr::T(problem));
        }
    }
    document
}
