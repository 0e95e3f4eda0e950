//! A network connection between nodes that a test can cut.

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

#[derive(Clone, Copy)]
struct State {
    line: Line,
    /// How often it broke: a connection hears of it even if the line is open again by then.
    breaks: u32,
}

/// Passes connections from one address on to another.
pub(crate) struct Link {
    state: watch::Sender<State>,
}

impl Link {
    pub(crate) fn new(from: (&str, u16), to: (&'static str, u16)) -> Self {
        let listener = runtime().block_on(TcpListener::bind(from)).unwrap();
        let (line, breaks) = (Line::Open, 0);
        let state = watch::channel(State { line, breaks }).0;
        let mut ended = state.subscribe();
        runtime().spawn(async move {
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (client, _) = accepted.unwrap();
                        runtime().spawn(pass(client, to, ended.clone()));
                    }
                    gone = ended.changed() => if gone.is_err() {
                        return;
                    },
                }
            }
        });
        Self { state }
    }

    pub(crate) fn set(&self, line: Line) {
        self.state.send_modify(|state| {
            state.line = line;
            state.breaks += u32::from(line == Line::Broken);
        });
    }
}

type Watch = watch::Receiver<State>;

async fn until_open(state: &mut Watch) {
    // A link that is gone ends its connections.
    let _ = state.wait_for(|state| state.line == Line::Open).await;
}

/// A connection, until its sides end it or the line breaks.
async fn pass(mut client: TcpStream, to: (&'static str, u16), state: Watch) {
    let before = *state.borrow();
    let mut server = None;
    let mut breaks = state.clone();
    let in_order = tokio::select! {
        passed = both_ways(&mut client, &mut server, to, &state) => passed.is_ok(),
        _ = breaks.wait_for(|now| now.line == Line::Broken || now.breaks != before.breaks) => false,
    };
    if !in_order {
        // When they are closed, both sides are told that it broke.
        for stream in [Some(client), server].into_iter().flatten() {
            let _ = stream.set_zero_linger();
        }
    }
}

async fn both_ways(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    to: (&str, u16),
    state: &Watch,
) -> std::io::Result<()> {
    until_open(&mut state.clone()).await;
    let server = server.insert(TcpStream::connect(to).await?);
    for stream in [&*client, &*server] {
        stream.set_nodelay(true)?;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::try_join!(
        copy(&mut from_client, &mut to_server, state.clone()),
        copy(&mut from_server, &mut to_client, state.clone()),
    )?;
    Ok(())
}

/// One way, to its end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: Watch,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await;
        until_open(&mut state).await;
        match read? {
            0 => return to.shutdown().await,
            read => to.write_all(&bytes[..read]).await?,
        }
    }
}
