//! Tokens and certificates of the API.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::node::Node;
use crate::small::{DATE, SPEC, assert_sound, fill, written};
use crate::support::Lake;

const READ: &str = "3f1c0a6be2a94d0f8d5b7c9e1a2b3c4d";
const ADMIN: &str = "9a8b7c6d5e4f30213243546576879809";

#[test]
fn tokens_and_tls() {
    let lake = Lake::local();
    fill(&lake);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        // What others may read is refused.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]);
    let key = key.unwrap();
    let cert = write("api.crt", &key.cert.pem());
    let private = write("api.key", &key.signing_key.serialize_pem());
    let tokens = write(
        "tokens",
        &format!("# who may\nlooker read {READ}\nowner admin {ADMIN}\n"),
    );
    let tls = [
        "--tls-cert",
        &cert,
        "--tls-key",
        &private,
        "--tokens",
        &tokens,
    ];
    let mut node = Node::embedded(&lake, &tls);
    assert!(node.url().starts_with("https://127.0.0.1:"));

    // Without the authority's certificate the connection is refused, without a token the request.
    node.run(&["jobs", "list"]).fails(2, &["certificate"]);
    node.client.extend(["--ca".to_owned(), cert.clone()]);
    node.run(&["jobs", "list"]).fails(2, &["RANKMILL_TOKEN"]);

    let (_folder, file) = written(SPEC);
    let with = |token: &str, arguments: &[&str]| {
        let mut command = node.command(arguments);
        let output = command.env("RANKMILL_TOKEN", token).output().unwrap();
        crate::support::Outcome::of(arguments, output)
    };
    with("guess", &["jobs", "list"]).fails(2, &["RANKMILL_TOKEN"]);
    with(READ, &["jobs", "list"]).ok();
    with(READ, &["jobs", "apply", &file]).fails(2, &["admin"]);
    with(ADMIN, &["jobs", "apply", &file]).ok();
    let token_file = write("token", &format!("{ADMIN}\n"));
    let submit = ["submit", "shop", "--date", DATE, "--wait"];
    let done = node.json(&[&submit[..], &["--token-file", &token_file]].concat());
    assert_eq!(done["submitted_by"], "owner");
    assert_sound(&lake);

    // A spec keeps to the lake.
    let outside = SPEC.replace("{lake}/users/", "/etc/");
    let (_folder, outside) = written(&outside);
    with(ADMIN, &["jobs", "apply", &outside]).fails(2, &["'/etc'"]);

    // Nothing of it is told to anybody.
    let log = node.said();
    let records = lake.list("_rankmill");
    assert!(!records.is_empty());
    for secret in [READ, ADMIN] {
        assert!(!log.contains(secret), "{log}");
        for record in &records {
            let text = lake.get(record).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains(secret), "{record}: {text}");
        }
    }
    let (_folder, broken) = written("not a token: it has blanks\n");
    node.run(&["jobs", "list", "--token-file", &broken])
        .fails(2, &["is not one"]);
}

/// Open to other machines without tokens it doesn't start.
#[test]
fn an_open_api_wants_tokens() {
    let lake = Lake::local();
    lake.run(&["scheduler", "--embedded", "--bind", "0.0.0.0:0"])
        .fails(2, &["tokens"]);
}
