//! The OpenAPI document and the routes are the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{ADMIN, READ, SUBMIT, Server};

/// Method, path and role of every operation that the document tells of.
fn operations(document: &Value) -> Vec<(String, String, Option<String>)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = &operation["security"][0]["token"][0];
            let role = scope.as_str().map(str::to_owned);
            operations.push((method.to_uppercase(), path.clone(), role));
        }
    }
    operations
}

#[tokio::test]
async fn the_document_tells_of_every_route() {
    let server = Server::start(|_| {}).await;
    let document = server.get("/api/v1/openapi.json", READ).await.json();
    let found: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(method, path, role)| {
            format!("{method} {path} {}", role.unwrap_or_default())
                .trim()
                .to_owned()
        })
        .collect();
    let expected = [
        "DELETE /api/v1/jobs/{name} admin",
        "GET /api/v1/executors read",
        "GET /api/v1/jobs read",
        "GET /api/v1/jobs/{name} read",
        "GET /api/v1/jobs/{name}/gaps read",
        "GET /api/v1/openapi.json read",
        "GET /api/v1/runs read",
        "GET /api/v1/runs/{id} read",
        "GET /api/v1/runs/{id}/events read",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "POST /api/v1/backfills submit",
        "POST /api/v1/jobs admin",
        "POST /api/v1/jobs/{name}/pause admin",
        "POST /api/v1/jobs/{name}/resume admin",
        "POST /api/v1/runs submit",
        "POST /api/v1/runs/{id}/cancel submit",
        "POST /api/v1/runs/{id}/retry submit",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    server.stop().await;
}

/// What it tells of is there, needs the role that it says, and nothing else is there.
#[tokio::test]
async fn the_routes_are_what_the_document_tells() {
    let server = Server::start(|_| {}).await;
    let document = server.get("/api/v1/openapi.json", READ).await.json();
    let operations = operations(&document);
    let paths: BTreeSet<&String> = operations.iter().map(|(_, path, _)| path).collect();
    for path in paths {
        let place = path.replace("{name}", "x").replace("{id}", "x");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let told = operations.iter().find(|(m, p, _)| m == method && p == path);
            let open = server.ask(&format!("{method} {place}"), "").await.status;
            let mut allowed = Vec::new();
            for (role, token) in [("read", READ), ("submit", SUBMIT), ("admin", ADMIN)] {
                let head = format!("{method} {place}\nAuthorization: Bearer {token}");
                let status = server.ask(&head, "").await.status;
                let there = status != 405;
                if status != 403 {
                    assert_eq!(there, told.is_some(), "{method} {path}: {status}");
                    allowed.push(role);
                }
            }
            if let Some((_, _, role)) = told {
                match role {
                    None => assert!(open == 200 || open == 503, "{method} {path}"),
                    Some(role) => {
                        assert_eq!(open, 401, "{method} {path}");
                        assert_eq!(allowed[0], role, "{method} {path}");
                    }
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_document_is_whole() {
    let server = Server::start(|_| {}).await;
    let answer = server.get("/api/v1/openapi.json", READ).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut missing = Vec::new();
    each(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            if document.pointer(pointer).is_none() {
                missing.push(reference.to_owned());
            }
        }
    });
    assert!(missing.is_empty(), "{missing:?}");
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{operation}"
            );
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem");
        }
    }
    server.stop().await;
}

fn each(value: &Value, visit: &mut dyn FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, visit)),
        _ => {}
    }
}
