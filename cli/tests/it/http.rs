//! Between rankmill and its S3 server: a proxy that passes bytes on unchanged until a test says
//! stop, and a store that takes no notice of conditions.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request or an answer, as it came.
pub(crate) struct Message {
    /// Everything up to and with the empty line.
    pub(crate) head: String,
    /// As sent, with the marks of its chunks.
    body: Vec<u8>,
}

impl Message {
    /// `None` at the end of the connection.
    fn read(from: &mut impl BufRead, has_body: bool) -> Result<Option<Self>> {
        let mut head = String::new();
        loop {
            if from.read_line(&mut head)? == 0 {
                return Ok(None);
            }
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        let mut message = Self {
            head,
            body: Vec::new(),
        };
        if !has_body {
            return Ok(Some(message));
        }
        if message.header("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let mut size = String::new();
                from.read_line(&mut size)?;
                let bytes = u64::from_str_radix(size.trim(), 16).unwrap();
                message.body.extend_from_slice(size.as_bytes());
                from.take(bytes + 2).read_to_end(&mut message.body)?;
                if bytes == 0 {
                    break;
                }
            }
        } else if let Some(bytes) = message.header("content-length") {
            from.take(bytes.parse().unwrap())
                .read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    fn header(&self, name: &str) -> Option<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    }

    fn write(&self, to: &mut impl Write) -> Result<()> {
        to.write_all(self.head.as_bytes())?;
        to.write_all(&self.body)?;
        to.flush()
    }

    /// `PUT` and the like.
    fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether it writes an object whose path has `part`.
    pub(crate) fn puts(&self, part: &str) -> bool {
        self.is("PUT", part)
    }

    /// Whether it reads one.
    pub(crate) fn gets(&self, part: &str) -> bool {
        self.is("GET", part)
    }

    fn is(&self, method: &str, part: &str) -> bool {
        // A path's `=` may come escaped.
        self.method() == method && self.path().replace("%3D", "=").contains(part)
    }
}

/// When, of a request's way, something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    /// It came, and the server hasn't seen it.
    Before,
    /// The server has acted on it; the answer is not passed on yet.
    Acted,
    /// The answer is passed on.
    Answered,
}

/// Says whether to go on; if not, the connection ends there.
pub(crate) type Hook = dyn Fn(Moment, &Message) -> bool + Send + Sync;

/// Passes requests on to `port`; returns its own port. Host and body stay as they are, so the
/// signature holds.
pub(crate) fn proxy(port: u16, hook: Arc<Hook>) -> u16 {
    serve(move |client| {
        let server = TcpStream::connect(("127.0.0.1", port))?;
        server.set_nodelay(true)?;
        let (mut to_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
        let (mut client, mut server) = (BufReader::new(client), BufReader::new(server));
        while let Some(request) = Message::read(&mut client, true)? {
            if !hook(Moment::Before, &request) {
                break;
            }
            request.write(&mut to_server)?;
            let has_body = request.method() != "HEAD";
            let Some(answer) = Message::read(&mut server, has_body)? else {
                break;
            };
            if !hook(Moment::Acted, &request) {
                break;
            }
            answer.write(&mut to_client)?;
            if !hook(Moment::Answered, &request) {
                break;
            }
        }
        Ok(())
    })
}

/// What lies in a store, by path.
pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// An S3 server of the old kind, that knows neither If-Match nor If-None-Match; returns its port
/// and what was written to it.
pub(crate) fn careless_store() -> (u16, Objects) {
    let objects = Objects::default();
    let shared = Arc::clone(&objects);
    let port = serve(move |client| {
        let mut to_client = client.try_clone()?;
        let mut client = BufReader::new(client);
        while let Some(request) = Message::read(&mut client, true)? {
            let mut objects = shared.lock().unwrap();
            let path = request.path().to_owned();
            let (status, body) = match request.method() {
                "PUT" => {
                    objects.insert(path.clone(), request.body.clone());
                    ("200 OK", Vec::new())
                }
                // The deletion of several keys at once.
                "POST" => {
                    let xml = String::from_utf8_lossy(&request.body).into_owned();
                    for part in xml.split("<Key>").skip(1) {
                        let (key, _) = part.split_once("</Key>").unwrap();
                        objects.retain(|path, _| !path.ends_with(key));
                    }
                    ("200 OK", b"<DeleteResult></DeleteResult>".to_vec())
                }
                _ => match objects.get(&path) {
                    Some(body) => ("200 OK", body.clone()),
                    None => ("404 Not Found", Vec::new()),
                },
            };
            // An ETag that changes with the content, as S3's does.
            let bytes = objects.get(&path).into_iter().flatten();
            let sum: u64 = bytes.map(|&byte| u64::from(byte)).sum();
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"{sum:x}\"\r\nContent-Length: {}\r\n\
                 Last-Modified: Mon, 01 Jun 2026 00:00:00 GMT\r\n\r\n",
                body.len()
            );
            Message { head, body }.write(&mut to_client)?;
        }
        Ok(())
    });
    (port, objects)
}

/// An S3 server that has the same answer to everything; returns its port.
pub(crate) fn stubborn_store(status: &'static str, code: &'static str) -> u16 {
    serve(move |client| {
        let mut to_client = client.try_clone()?;
        let mut client = BufReader::new(client);
        while Message::read(&mut client, true)?.is_some() {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let body = body.into_bytes();
            Message { head, body }.write(&mut to_client)?;
        }
        Ok(())
    })
}

/// Accepts connections until the process ends, each on a thread of its own.
fn serve(handle: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let handle = Arc::clone(&handle);
            thread::spawn(move || {
                let _ = client.set_nodelay(true);
                // A client that was killed is no failure of the server.
                let _ = handle(client);
            });
        }
    });
    port
}
