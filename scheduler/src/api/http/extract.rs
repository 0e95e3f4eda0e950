//! What handlers take from a request; whatever is wrong becomes a problem that names the field.

use std::collections::BTreeMap;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::api::problem::{Kind, Problem};
use crate::api::translate::idempotency_key;

/// A body of JSON.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|value| value.to_str().is_ok_and(is_json)) {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "the body must be JSON: Content-Type: application/json",
            ));
        }
        // The gate has read it, and bounded it.
        let body = to_bytes(request.into_body(), usize::MAX).await;
        let body = body.map_err(|_| Problem::new(Kind::Invalid, "the body can't be read"))?;
        from_json(&body).map(Self)
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take an array for an object's values in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::new(
            Kind::Invalid,
            "the body must be a JSON object",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_syntax() || error.is_eof() {
            return Problem::new(Kind::Invalid, format!("the body is not JSON: {error}"));
        }
        let reason = error.to_string();
        match (path.as_str(), missing_field(&reason)) {
            (".", Some(field)) => Problem::invalid(field, "it is missing"),
            (path, Some(field)) => Problem::invalid(format!("{path}.{field}"), "it is missing"),
            (".", None) => Problem::new(Kind::Invalid, format!("the body: {reason}")),
            (path, None) => Problem::invalid(path, reason),
        }
    })?;
    let not_json = |error| Problem::new(Kind::Invalid, format!("the body is not JSON: {error}"));
    json.end().map_err(not_json)?;
    Ok(value)
}

/// serde tells of a missing field in words only.
fn missing_field(reason: &str) -> Option<&str> {
    let (field, _) = reason.strip_prefix("missing field `")?.split_once('`')?;
    Some(field)
}

/// The parameters behind the `?`.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Only these may occur, each once.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let reason = format!("there is no such parameter; known: {}", known.join(", "));
                return Err(Problem::invalid(name, reason));
            }
            if found.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::invalid(name, "it is given twice"));
            }
        }
        Ok(Self(found))
    }

    /// A parameter; an empty one counts as left out.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    pub(super) fn require(&self, name: &str) -> Result<&str, Problem> {
        let missing = || Problem::invalid(name, "it is missing");
        self.get(name).ok_or_else(missing)
    }
}

/// The key in a request's `Idempotency-Key`.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    const KEY: &str = "Idempotency-Key";
    let mut keys = headers.get_all(KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            // What is empty or isn't ASCII becomes what isn't allowed.
            let key = key.to_str().ok().filter(|key| !key.is_empty());
            idempotency_key(KEY, key.unwrap_or("\0"))
        }
        (Some(_), Some(_)) => Err(Problem::invalid(KEY, "it is given twice")),
    }
}

/// The parameter in a path.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(segment) = Path::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Kind::Invalid, "the path is not UTF-8"))?;
        Ok(Self(segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SubmitRun;

    #[test]
    fn wrong_json_names_the_field() {
        let detail = |body: &str| {
            let problem = from_json::<SubmitRun>(body.as_bytes()).unwrap_err();
            problem.into_status().message().to_owned()
        };
        for (body, expected) in [
            (
                "",
                "the body is not JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                "{",
                "the body is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                "{} {}",
                "the body is not JSON: trailing characters at line 1 column 4",
            ),
            (r#" ["daily"]"#, "the body must be a JSON object"),
            (
                "1",
                "the body: invalid type: integer `1`, expected struct SubmitRun",
            ),
            (
                r#"{"job": 1}"#,
                "job: invalid type: integer `1`, expected a string at line 1 column 9",
            ),
            (
                r#"{"set": {"a": {}}}"#,
                "set.a: invalid type: map, expected a string at line 1 column 14",
            ),
            (r#"{"jobs": 1}"#, "jobs: unknown field `jobs`"),
        ] {
            let found = detail(body);
            assert!(found.starts_with(expected), "{body}: {found}");
        }
        let problem = from_json::<crate::model::BackfillRequest>(b"{\"job\":\"a\"}").unwrap_err();
        assert_eq!(problem.into_status().message(), "from: it is missing");
    }

    #[test]
    fn wrong_parameters_are_named() {
        let parse = |query| {
            Query::parse(Some(query), &["a", "b"]).map_err(|p| p.into_status().message().to_owned())
        };
        let query = parse("a=1%2C2&b=").unwrap();
        assert_eq!((query.get("a"), query.get("b")), (Some("1,2"), None));
        assert_eq!(
            parse("c=1").err().unwrap(),
            "c: there is no such parameter; known: a, b"
        );
        assert_eq!(parse("a=1&a=2").err().unwrap(), "a: it is given twice");
        assert!(Query::parse(None, &[]).unwrap().require("a").is_err());
    }

    #[test]
    fn json_by_its_content_type() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("text/plain"));
        assert!(!is_json("application/jsonx"));
        assert!(!is_json(""));
    }
}
