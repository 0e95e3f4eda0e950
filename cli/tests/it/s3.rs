//! A real S3 server, SeaweedFS, one for all tests of the process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::prefix::PrefixStore;

use crate::support::{Lake, scratch, watchdog};

pub(crate) const KEY: &str = "rankmill-test";
pub(crate) const SECRET: &str = "rankmill-secret";
const READY_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) port: u16,
    filer_port: u16,
    /// Held for its standard input: the server ends with this process.
    _watchdog: Child,
}

/// The server, started when first asked for.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// A lake in a bucket of its own, below a prefix.
pub(crate) fn bucket_with_prefix(prefix: &str) -> Lake {
    let lake = bucket();
    let path = object_store::path::Path::parse(prefix).unwrap();
    Lake {
        address: format!("{}/{prefix}", lake.address),
        store: Arc::new(PrefixStore::new(lake.store, path)),
        ..lake
    }
}

/// A lake that is a bucket of its own.
pub(crate) fn bucket() -> Lake {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = server();
    server.create_bucket(&name);
    server.lake(&name)
}

fn executable() -> PathBuf {
    let executable = match std::env::var_os("RANKMILL_WEED") {
        Some(path) => PathBuf::from(path),
        None => {
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            home.join(".cache/rankmill/venv/bin/weed")
        }
    };
    assert!(
        executable.is_file(),
        "there is no SeaweedFS at '{}': run `make test`, which installs it, or set RANKMILL_WEED",
        executable.display()
    );
    executable
}

/// Ports that were free a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Server {
    fn start() -> Self {
        let folder = scratch().join("seaweedfs");
        std::fs::create_dir_all(&folder).unwrap();
        let identities = serde_json::json!({ "identities": [{
            "name": "rankmill",
            "credentials": [{ "accessKey": KEY, "secretKey": SECRET }],
            // Not Admin: to one of those a bucket that is missing is made on the fly.
            "actions": ["Read", "List", "Tagging", "Write"],
        }]});
        let config = folder.join("s3.json");
        std::fs::write(&config, identities.to_string()).unwrap();
        let ports = free_ports::<8>();
        let [port, filer_port, ..] = ports;
        // The sockets that it leaves in /tmp carry its port numbers.
        let script = r#"
            weed=$1; folder=$2; shift 2
            "$weed" server "-dir=$folder" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 \
                "-s3.config=$folder/s3.json" "-s3.port=$1" "-filer.port=$2" \
                "-s3.port.grpc=$3" "-filer.port.grpc=$4" "-master.port=$5" \
                "-master.port.grpc=$6" "-volume.port=$7" "-volume.port.grpc=$8" \
                -volume.max=1000 -master.volumeSizeLimitMB=64 -master.telemetry=false \
                -s3.port.iceberg=0 -s3.port.lance=0 \
                >"$folder/log" 2>&1 </dev/null &
            cat >/dev/null
            kill -9 $!
            for port; do rm -f /tmp/seaweedfs-*-"$port".sock; done
        "#;
        let weed = executable();
        let ports = ports.map(|port| port.to_string());
        let mut arguments = vec!["sh", weed.to_str().unwrap(), folder.to_str().unwrap()];
        arguments.extend(ports.iter().map(String::as_str));
        let server = Self {
            port,
            filer_port,
            _watchdog: watchdog(script, &arguments),
        };
        let deadline = Instant::now() + READY_WITHIN;
        while !server.is_ready() {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "SeaweedFS doesn't answer: {}",
                log()
            );
            sleep(Duration::from_millis(50));
        }
        server
    }

    /// Whether an object can be written and read: volumes come some time after the port.
    fn is_ready(&self) -> bool {
        let put = "PUT /buckets/ready/object HTTP/1.1\r\nContent-Length: 2\r\n";
        self.filer(put, "ok")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 201"))
            && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// The S3 API would want a signature; to the file server a bucket is a folder.
    fn create_bucket(&self, name: &str) {
        let post = format!("POST /buckets/{name}/ HTTP/1.1\r\nContent-Length: 0\r\n");
        let answer = self.filer(&post, "").unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    fn filer(&self, head: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.filer_port)).ok()?;
        let request = format!("{head}Host: filer\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A bucket, whether it is there or not.
    pub(crate) fn lake(&self, bucket: &str) -> Lake {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let store = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET)
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .unwrap();
        Lake::bucket(bucket, Arc::new(store), variables(&endpoint))
    }
}

/// What the environment of a process that uses `endpoint` has.
pub(crate) fn variables(endpoint: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
