//! Tokens and certificates of the API, and certificates between the nodes of a cluster.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use rankmill_engine::transport::{NodeTls, endpoint_override};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::node::{Helper, Node, PATIENCE};
use crate::small::{DATE, SPEC, assert_sound, fill, written};
use crate::support::{Lake, runtime};

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

/// An authority, and a node's certificate of it, in files of this name.
fn certificates(folder: &Path, name: &str) -> NodeTls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let node_key = KeyPair::generate().unwrap();
    let node = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let node = node.signed_by(&node_key, &issuer).unwrap();
    let write = |kind: &str, pem: String| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, pem).unwrap();
        path
    };
    NodeTls {
        ca: write("ca", ca.pem()),
        cert: write("cert", node.pem()),
        key: write("key", node_key.serialize_pem()),
    }
}

/// The options that give a node its certificates.
fn arguments(tls: &NodeTls) -> Vec<&str> {
    vec![
        "--node-ca",
        tls.ca.to_str().unwrap(),
        "--node-cert",
        tls.cert.to_str().unwrap(),
        "--node-key",
        tls.key.to_str().unwrap(),
    ]
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// An executor of a cluster, at ports of its own; the first gives out intermediate results.
fn executor(lake: &Lake, scheduler: &str, work: &Path, tls: &[&str]) -> (Helper, u16, u16) {
    let (port, grpc_port) = (free_port(), free_port());
    let own = [
        &["executor", "--scheduler", scheduler, "--slots", "1"][..],
        &["--port", &port, "--grpc-port", &grpc_port],
        &["--work-dir", work.to_str().unwrap()],
        tls,
    ];
    let helper = Helper::start(lake.command(&own.concat()));
    (helper, port.parse().unwrap(), grpc_port.parse().unwrap())
}

/// Asks a node for a file by a ticket that is none; fails if it gives no answer at all.
fn fetch(endpoint: Endpoint) -> Result<(), String> {
    runtime().block_on(async {
        let endpoint = endpoint.timeout(PATIENCE);
        let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
        let mut client = FlightServiceClient::new(channel);
        let ticket = Ticket::new("no ticket of ours");
        match client.do_get(ticket).await {
            // Whatever comes of it.
            Ok(_) => Ok(()),
            Err(status) => {
                let said = status.message();
                // What a server of Ballista's says, not the connection.
                let answered = status.code() == tonic::Code::Unimplemented
                    || said.contains("Ballista Error")
                    || said.contains("404 Not Found");
                answered.then_some(()).ok_or_else(|| status.to_string())
            }
        }
    })
}

#[test]
fn nodes_know_each_other_by_certificates() {
    let lake = Lake::local();
    fill(&lake);
    let folder = tempfile::tempdir().unwrap();
    let ours = certificates(folder.path(), "ours");
    let theirs = certificates(folder.path(), "theirs");
    let cluster_port = free_port();
    let own = [
        &["scheduler", "--bind", "127.0.0.1:0"][..],
        &["--cluster-port", &cluster_port],
        &arguments(&ours),
    ];
    let mut node = Node::start(&lake, lake.command(&own.concat()));
    node.client = vec!["--cluster".into(), node.url().into()];
    let scheduler = format!("127.0.0.1:{cluster_port}");
    let work = |name: &str| folder.path().join(name);

    // Nobody gets in without a certificate, or with one of another authority, …
    let (mut plain, ..) = executor(&lake, &scheduler, &work("plain"), &[]);
    let (mut stranger, ..) = executor(&lake, &scheduler, &work("stranger"), &arguments(&theirs));
    // … nor by knowing which authority is the right one.
    let mixed = NodeTls {
        ca: ours.ca.clone(),
        ..theirs.clone()
    };
    let (mut mixed, ..) = executor(&lake, &scheduler, &work("mixed"), &arguments(&mixed));
    for outsider in [&mut plain, &mut stranger, &mut mixed] {
        outsider.until_said("no scheduler yet");
    }
    let count = |node: &Node| {
        let answer = node.json(&["executors"]);
        answer["executors"].as_array().unwrap().len()
    };
    assert_eq!(count(&node), 0);

    let (mut member, flight, tasks) =
        executor(&lake, &scheduler, &work("member"), &arguments(&ours));
    member.until_said("joined");
    node.until(&["executors"], |answer| {
        let executors = answer["executors"].as_array().unwrap();
        (!executors.is_empty()).then_some(())
    });
    let (_folder, file) = written(SPEC);
    node.run(&["jobs", "apply", &file]).ok();
    let done = node.json(&["submit", "shop", "--date", DATE, "--wait"]);
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_sound(&lake);
    assert_eq!(count(&node), 1);

    // Nor do others get at what a node holds, or give it tasks.
    let ca = Certificate::from_pem(std::fs::read(&ours.ca).unwrap());
    let [ours, theirs] = [&ours, &theirs].map(|tls| endpoint_override(Some(tls.load().unwrap())));
    let address =
        |scheme: &str, port: u16| Endpoint::new(format!("{scheme}://127.0.0.1:{port}")).unwrap();
    for port in [flight, tasks, cluster_port.parse().unwrap()] {
        let who = |result: Result<(), String>, who: &str, gets_in: bool| {
            assert_eq!(result.is_ok(), gets_in, "{who} at {port}: {result:?}");
        };
        who(fetch(ours(address("http", port)).unwrap()), "a node", true);
        who(fetch(address("http", port)), "without TLS", false);
        let of_others = theirs(address("http", port)).unwrap();
        who(fetch(of_others), "another authority", false);
        let nameless = ClientTlsConfig::new().ca_certificate(ca.clone());
        let nameless = address("https", port).tls_config(nameless).unwrap();
        who(fetch(nameless), "no certificate", false);
    }
    for other in [&mut plain, &mut stranger, &mut mixed, &mut member] {
        other.stop();
    }
    node.stop();
}

/// All three files, or none: a node never falls back to plain connections.
#[test]
fn half_a_certificate_is_refused() {
    let lake = Lake::local();
    let folder = tempfile::tempdir().unwrap();
    let ours = certificates(folder.path(), "ours");
    let all = arguments(&ours);
    for role in ["scheduler", "executor"] {
        for part in [&all[..2], &all[2..4], &all[4..], &all[..4], &all[2..]] {
            lake.run(&[&[role][..], part].concat())
                .fails(2, &["--node-"]);
        }
    }
}
