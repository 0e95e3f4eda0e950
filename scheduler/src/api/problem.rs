//! What goes wrong in a request, for both faces. This is the one place that maps errors to
//! HTTP's and gRPC's codes.

use std::fmt::Display;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use utoipa::ToSchema;

use super::auth::Role;
use crate::error::{Error, ErrorKind, public_reason};

/// Carries the address of the scheduler that leads, in an answer of a standby.
pub(super) const LEADER: &str = "rankmill-leader";

/// Standbys take over within seconds.
const STANDBY_RETRY_SECONDS: u64 = 2;

/// What is wrong with a request, or with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    Invalid,
    Conflict,
    Forbidden,
    Unavailable,
    Unsure,
    Internal,
    Unauthenticated,
    MethodNotAllowed,
    UnsupportedMediaType,
    TooLarge,
    TooMany,
    Slow,
}

impl Kind {
    /// Name for programs, title for people, and the codes.
    fn codes(self) -> (&'static str, &'static str, StatusCode, Code) {
        use StatusCode as S;
        match self {
            Self::NotFound => ("not-found", "Not found", S::NOT_FOUND, Code::NotFound),
            Self::Invalid => (
                "invalid",
                "Invalid request",
                S::BAD_REQUEST,
                Code::InvalidArgument,
            ),
            Self::Conflict => (
                "conflict",
                "Conflict",
                S::CONFLICT,
                Code::FailedPrecondition,
            ),
            Self::Forbidden => (
                "forbidden",
                "Forbidden",
                S::FORBIDDEN,
                Code::PermissionDenied,
            ),
            Self::Unavailable => (
                "unavailable",
                "Not available now",
                S::SERVICE_UNAVAILABLE,
                Code::Unavailable,
            ),
            // Not what a client takes for "nothing was done".
            Self::Unsure => (
                "outcome-unknown",
                "Not known whether it was done",
                S::INTERNAL_SERVER_ERROR,
                Code::Unknown,
            ),
            Self::Internal => (
                "internal",
                "Internal error",
                S::INTERNAL_SERVER_ERROR,
                Code::Internal,
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                "Not authenticated",
                S::UNAUTHORIZED,
                Code::Unauthenticated,
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "Method not allowed",
                S::METHOD_NOT_ALLOWED,
                Code::Unimplemented,
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                "Unsupported media type",
                S::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
            ),
            Self::TooLarge => (
                "too-large",
                "Request too large",
                S::PAYLOAD_TOO_LARGE,
                Code::ResourceExhausted,
            ),
            Self::TooMany => (
                "too-many-requests",
                "Too many requests",
                S::TOO_MANY_REQUESTS,
                Code::ResourceExhausted,
            ),
            Self::Slow => (
                "timeout",
                "Request timed out",
                S::REQUEST_TIMEOUT,
                Code::DeadlineExceeded,
            ),
        }
    }
}

/// An answer that says what is wrong.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    /// Field of the request, and what is wrong with it.
    errors: Vec<FieldError>,
    leader: Option<String>,
    retry_after_seconds: Option<u64>,
    /// Value of `WWW-Authenticate`.
    challenge: Option<String>,
}

/// What is wrong with a field of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// Its path, such as `set.country` or `sources.users.path`.
    field: String,
    /// What is wrong, and what would be right.
    reason: String,
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// Names the kind of problem: `urn:rankmill:problem:not-found` and so on.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// The fields that are wrong, where it is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
    /// Address of the scheduler that leads, where this one doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            leader: None,
            retry_after_seconds: None,
            challenge: None,
        }
    }

    /// A field of the request is wrong.
    pub(super) fn invalid(field: impl Into<String>, reason: impl Display) -> Self {
        Error::invalid(field, reason).into()
    }

    /// No token, or one that isn't known.
    pub(super) fn unauthenticated(known: Unauthenticated) -> Self {
        let (detail, challenge) = match known {
            Unauthenticated::NoToken => (
                "a token is needed: Authorization: Bearer …",
                r#"Bearer realm="rankmill""#,
            ),
            Unauthenticated::UnknownToken => (
                "the token is not known",
                r#"Bearer realm="rankmill", error="invalid_token""#,
            ),
        };
        Self {
            challenge: Some(challenge.to_owned()),
            ..Self::new(Kind::Unauthenticated, detail)
        }
    }

    /// A token of a lower role.
    pub(super) fn role_needed(needed: Role, has: Role) -> Self {
        Self {
            challenge: Some(format!(
                r#"Bearer realm="rankmill", error="insufficient_scope", scope="{needed}""#
            )),
            ..Self::new(
                Kind::Forbidden,
                format!("this needs a token of the role {needed}; this one's is {has}"),
            )
        }
    }

    /// Too much, too often.
    pub(super) fn too_many(detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self {
            retry_after_seconds: Some(retry_after_seconds),
            ..Self::new(Kind::TooMany, detail)
        }
    }

    /// A body over the limit.
    pub(super) fn too_large(max_bytes: usize) -> Self {
        let detail = format!("a request may have up to {max_bytes} bytes");
        Self::new(Kind::TooLarge, detail)
    }

    /// Whatever the reason: a scheduler that isn't ready is not available.
    pub(super) fn not_ready(error: Error) -> Self {
        Self {
            kind: Kind::Unavailable,
            retry_after_seconds: Some(STANDBY_RETRY_SECONDS),
            ..Self::from(error)
        }
    }

    /// The problem as gRPC has it.
    pub(super) fn into_status(self) -> Status {
        let (.., code) = self.kind.codes();
        let mut metadata = MetadataMap::new();
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = value.parse() {
                metadata.insert(name, value);
            }
        };
        if let Some(leader) = self.leader {
            add(LEADER, leader);
        }
        if let Some(seconds) = self.retry_after_seconds {
            add("retry-after", seconds.to_string());
        }
        Status::with_metadata(code, self.detail, metadata)
    }
}

/// Why a caller isn't known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unauthenticated {
    NoToken,
    UnknownToken,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Conflict => Kind::Conflict,
            ErrorKind::Forbidden => Kind::Forbidden,
            ErrorKind::Unavailable => Kind::Unavailable,
            ErrorKind::Unsure => Kind::Unsure,
            ErrorKind::Internal => Kind::Internal,
        };
        if kind == Kind::Internal {
            tracing::error!("a request failed: {}", error.describe());
        }
        let mut problem = Self::new(kind, public_reason(&error));
        match error {
            Error::Invalid { field, reason } => problem.errors.push(FieldError { field, reason }),
            Error::Forbidden { field, .. } => problem.errors.push(FieldError {
                field,
                reason: problem.detail.clone(),
            }),
            Error::Job(rankmill_jobs::Error::Spec(spec)) if !spec.field.is_empty() => {
                problem.errors.push(FieldError {
                    field: spec.field,
                    reason: spec.message,
                });
            }
            Error::Job(
                rankmill_jobs::Error::Sql { field, reason, .. }
                | rankmill_jobs::Error::Field { field, reason, .. },
            ) => problem.errors.push(FieldError { field, reason }),
            Error::Standby { leader } => problem.leader = leader,
            _ => {}
        }
        if kind == Kind::Unavailable {
            problem.retry_after_seconds = Some(STANDBY_RETRY_SECONDS);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, title, status, _) = self.kind.codes();
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        add(header::CONTENT_TYPE, "application/problem+json");
        if let Some(challenge) = &self.challenge {
            add(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_seconds {
            add(header::RETRY_AFTER, &seconds.to_string());
        }
        if let Some(leader) = &self.leader {
            add(HeaderName::from_static(LEADER), leader);
        }
        let body = ProblemBody {
            kind: format!("urn:rankmill:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
            leader: self.leader,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        (status, headers, body).into_response()
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.into_status()
    }
}

#[cfg(test)]
mod tests {
    use rankmill_engine::Error as EngineError;
    use rankmill_jobs::Error as JobError;
    use rankmill_jobs::spec::{Params, parse};

    use super::*;

    fn store_error() -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: "<AWSAccessKeyId>AKIA123</AWSAccessKeyId>".into(),
        }
    }

    #[test]
    fn errors_have_the_same_meaning_on_both_faces() {
        let standby = |leader: Option<&str>| Error::Standby {
            leader: leader.map(str::to_owned),
        };
        let spec = parse("version: 2", "x", &Params::default()).unwrap_err();
        let list = EngineError::List {
            path: "s3://lake/x".to_owned(),
            source: store_error(),
        };
        let forbidden = Error::Forbidden {
            field: "source.path".to_owned(),
            path: "/etc".to_owned(),
        };
        let conflict = Error::Conflict {
            reason: "it runs".to_owned(),
        };
        let not_found = Error::NotFound {
            what: "job",
            name: "x".to_owned(),
        };
        let store = Error::Store {
            operation: "read",
            path: "_rankmill/x".to_owned(),
            source: store_error(),
        };
        for (error, status, code, detail) in [
            (not_found, 404, Code::NotFound, "there is no job 'x'"),
            (
                Error::invalid("from", "no date"),
                400,
                Code::InvalidArgument,
                "from: no date",
            ),
            (
                Error::Job(JobError::Spec(spec)),
                400,
                Code::InvalidArgument,
                "x:1:1: name: this field is missing",
            ),
            (conflict, 409, Code::FailedPrecondition, "it runs"),
            (
                forbidden,
                403,
                Code::PermissionDenied,
                "source.path: '/etc' is not under one of the allowed prefixes",
            ),
            (
                standby(Some("10.0.0.1:7400")),
                503,
                Code::Unavailable,
                "this scheduler is a standby",
            ),
            (
                standby(None),
                503,
                Code::Unavailable,
                "this scheduler is a standby",
            ),
            (
                Error::Fenced { epoch: 3 },
                503,
                Code::Unavailable,
                "another scheduler has taken over (epoch 3)",
            ),
            // What a store says stays here.
            (store, 503, Code::Unavailable, "cannot read _rankmill/x"),
            (
                Error::Job(JobError::Engine {
                    job: "x".to_owned(),
                    source: Box::new(list),
                }),
                503,
                Code::Unavailable,
                "x: computing failed: cannot list 's3://lake/x'",
            ),
            (
                Error::Standby { leader: None }.unsure(),
                500,
                Code::Unknown,
                "it is not known whether this was done; look before asking again, or ask under \
                 the same idempotency key: this scheduler is a standby",
            ),
        ] {
            let problem = Problem::from(error);
            let answer = problem.clone().into_response();
            assert_eq!(answer.status(), status, "{detail}");
            assert_eq!(answer.headers().contains_key("retry-after"), status == 503);
            let leader = answer.headers().get(LEADER).cloned();
            let body = serde_json::to_string(&format!("{problem:?}")).unwrap();
            assert!(!body.contains("AKIA123"));
            assert_eq!(problem.detail, detail);
            let status = problem.into_status();
            assert_eq!((status.code(), status.message()), (code, detail));
            let told = status.metadata().get(LEADER);
            assert_eq!(
                told.map(|l| l.as_bytes()),
                leader.as_ref().map(|l| l.as_bytes())
            );
        }
    }

    #[test]
    fn a_standby_names_the_leader() {
        let leader = Some("10.0.0.1:7400".to_owned());
        let problem = Problem::from(Error::Standby { leader });
        let answer = problem.clone().into_response();
        assert_eq!(answer.headers()[LEADER], "10.0.0.1:7400");
        assert_eq!(
            problem.into_status().metadata().get(LEADER).unwrap(),
            "10.0.0.1:7400"
        );
        // A name that no header can carry is left out there.
        let leader = Some("\n".to_owned());
        let answer = Problem::from(Error::Standby { leader }).into_response();
        assert_eq!(answer.status(), 503);
        assert!(!answer.headers().contains_key(LEADER));
    }
}
