//! Whether a scheduler is there: which one to join, and when it is lost.
//!
//! The question is `GET /healthz` on Ballista's port, over one connection that stays open. A
//! frozen process keeps its port open but doesn't answer; a dead one's connection breaks at once,
//! even if another process listens there a moment later.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rankmill_engine::transport::Tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A scheduler that takes longer for the first answer is passed over.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the scheduler is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// A scheduler that takes longer to answer is lost.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Pause between rounds over all schedulers, …
const PAUSE: Duration = Duration::from_millis(500);
/// … and how often the search is told of.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The head of an answer is no longer than this.
const MAX_HEAD_BYTES: usize = 16 << 10;

trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// A connection to a living scheduler.
pub(crate) struct Link {
    scheduler: String,
    io: Box<dyn Io>,
    local: IpAddr,
}

impl Link {
    /// The scheduler's `host:port`.
    pub(crate) fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// The address of this machine from which it was reached.
    pub(crate) fn local(&self) -> IpAddr {
        self.local
    }

    async fn open(scheduler: &str, tls: Option<&Tls>) -> Result<Self, String> {
        let opening = async {
            let stream = TcpStream::connect(scheduler).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?.ip();
            let io: Box<dyn Io> = match tls {
                Some(tls) => Box::new(tls.connect(host_of(scheduler), stream).await?),
                None => Box::new(stream),
            };
            let mut link = Self {
                scheduler: scheduler.to_owned(),
                io,
                local,
            };
            link.ask().await?;
            Ok::<_, std::io::Error>(link)
        };
        match timeout(JOIN_TIMEOUT, opening).await {
            Ok(opened) => opened.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no answer within {} s", JOIN_TIMEOUT.as_secs())),
        }
    }

    /// One question and its answer.
    async fn ask(&mut self) -> std::io::Result<()> {
        let host = &self.scheduler;
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.io.write_all(request.as_bytes()).await?;
        self.io.flush().await?;
        let mut answer = Vec::new();
        let (head, length) = loop {
            if let Some(head) = head_of(&answer) {
                break head?;
            }
            if answer.len() > MAX_HEAD_BYTES {
                return Err(std::io::Error::other("the answer is not HTTP"));
            }
            if self.io.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let mut rest = vec![0; (head + length).saturating_sub(answer.len())];
        self.io.read_exact(&mut rest).await?;
        Ok(())
    }

    /// Asks again and again; returns when the scheduler is lost, with the reason.
    pub(crate) async fn lost(&mut self) -> String {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match timeout(LOST_AFTER, self.ask()).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return format!("the connection broke: {e}"),
                Err(_) => return format!("no answer for {} s", LOST_AFTER.as_secs()),
            }
        }
    }
}

/// The first scheduler that answers; tries all in turn, for ever.
pub(crate) async fn find(schedulers: &[String], tls: Option<&Tls>) -> Link {
    let begun = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let mut failures = Vec::new();
        for scheduler in schedulers {
            match Link::open(scheduler, tls).await {
                Ok(link) => return link,
                Err(reason) => failures.push(format!("{scheduler}: {reason}")),
            }
        }
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            let seconds = begun.elapsed().as_secs();
            tracing::warn!(seconds, "no scheduler yet: {}", failures.join("; "));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn host_of(scheduler: &str) -> &str {
    scheduler
        .rsplit_once(':')
        .map_or(scheduler, |(host, _)| host)
}

/// Once the head of an answer is whole: where it ends, and how many bytes follow. An error if it
/// isn't "200 OK".
fn head_of(answer: &[u8]) -> Option<std::io::Result<(usize, usize)>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    Some(match (status.split(' ').nth(1), length) {
        (Some("200"), Some(length)) => Ok((end, length)),
        _ => Err(std::io::Error::other(format!("it answered '{status}'"))),
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn answers() {
        assert!(head_of(b"HTTP/1.1 200 OK\r\nContent-Le").is_none());
        let ok = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-LENGTH: 2\r\n\r\nok";
        assert_eq!(head_of(ok).unwrap().unwrap(), (ok.len() - 2, 2));
        let not = head_of(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert!(not.unwrap_err().to_string().contains("503"));
    }

    /// Answers `answers` questions on one connection, then closes it.
    async fn scheduler(answers: usize) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..answers {
                let mut question = Vec::new();
                while !question.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut question).await.unwrap();
                }
                // In pieces: the head and the body need not come at once.
                for piece in ["HTTP/1.1 200 OK\r\nconte", "nt-length: 2\r\n\r\n", "ok"] {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        (address, serving)
    }

    #[tokio::test]
    async fn a_frozen_scheduler_is_passed_over() {
        // Accepts in the kernel only, and never answers.
        let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed_address = closed.local_addr().unwrap().to_string();
        drop(closed);
        let (living, _serving) = scheduler(1).await;
        let frozen_address = frozen.local_addr().unwrap().to_string();
        let link = find(&[closed_address, frozen_address, living.clone()], None).await;
        assert_eq!(link.scheduler(), living);
    }

    #[tokio::test]
    async fn a_broken_connection_is_a_lost_scheduler() {
        let (address, _serving) = scheduler(2).await;
        let mut link = find(&[address], None).await;
        assert!(link.lost().await.contains("broke"));
    }
}
