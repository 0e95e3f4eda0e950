//! A network connection between nodes that a test can cut.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::runtime;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Line {
    /// It arrives.
    Open,
    /// It waits, and nobody is told, as if a cable was pulled: it arrives once the line is open.
    Silent,
    /// Connections break at once, new ones too.
    Broken,
}

/// Passes connections from one address on to another.
pub(crate) struct Link {
    line: Arc<watch::Sender<Line>>,
}

impl Link {
    pub(crate) fn new(from: (&str, u16), to: (&'static str, u16)) -> Self {
        let listener = runtime().block_on(TcpListener::bind(from)).unwrap();
        let line = Arc::new(watch::channel(Line::Open).0);
        let lines = Arc::clone(&line);
        runtime().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                runtime().spawn(pass(client, to, lines.subscribe()));
            }
        });
        Self { line }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn is(line: &mut watch::Receiver<Line>, wanted: Line) {
    // It goes on for ever if the link is gone.
    if line.wait_for(|line| *line == wanted).await.is_err() {
        std::future::pending().await
    }
}

async fn pass(mut client: TcpStream, to: (&'static str, u16), line: watch::Receiver<Line>) {
    let (mut open, mut broken) = (line.clone(), line.clone());
    let opened = async {
        is(&mut open, Line::Open).await;
        TcpStream::connect(to).await
    };
    let server = tokio::select! {
        server = opened => server.ok(),
        () = is(&mut broken, Line::Broken) => None,
    };
    let Some(mut server) = server else {
        return reset(&client);
    };
    let ended = {
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let both = async {
            tokio::join!(
                copy(&mut from_client, &mut to_server, line.clone()),
                copy(&mut from_server, &mut to_client, line.clone()),
            )
        };
        tokio::select! {
            _ = both => true,
            () = is(&mut broken, Line::Broken) => false,
        }
    };
    if !ended {
        reset(&client);
        reset(&server);
    }
}

/// One way, to its end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await;
        is(&mut line, Line::Open).await;
        match read? {
            0 => return to.shutdown().await,
            read => to.write_all(&bytes[..read]).await?,
        }
    }
}

/// When it is closed, the other side is told that it broke.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
