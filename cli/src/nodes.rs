//! What the long-running processes of a cluster have in common: being asked to stop, starting
//! anew, certificates.

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use futures::future::BoxFuture;
use rankmill_engine::transport::NodeTls;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::args::NodeTlsArgs;

/// What asks the process to stop: SIGTERM, Ctrl-C, or the end of standard input.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Stop {
    /// Listens from now on; to standard input only if told so.
    pub(crate) fn new(until_stdin_ends: bool) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            stdin: until_stdin_ends.then(stdin_ended),
        })
    }

    /// Ends when the process is asked to stop; called again, when it is asked once more.
    pub(crate) async fn asked(&mut self) {
        let stdin = async {
            match &mut self.stdin {
                Some(ended) => _ = ended.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = stdin => self.stdin = None,
        }
    }

    /// Runs what stops in order when the future that it is given ends. Who asks twice gets it
    /// stopped at once: none comes back.
    pub(crate) async fn run<T, F: Future<Output = T>>(
        mut self,
        run: impl FnOnce(BoxFuture<'static, ()>) -> F,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel::<()>();
        let running = run(Box::pin(async move {
            let _ = told.await;
        }));
        let twice = async {
            self.asked().await;
            let _ = tell.send(());
            self.asked().await;
        };
        tokio::select! {
            stopped = running => Some(stopped),
            () = twice => None,
        }
    }
}

/// Watched by a thread of its own: a runtime that ends would wait for one of its own that reads.
fn stdin_ended() -> oneshot::Receiver<()> {
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 1024];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        let _ = tell.send(());
    });
    ended
}

/// Starts this process anew, with the same arguments, environment and id: nothing of what it
/// did goes on. Comes back only if that fails.
pub(crate) fn start_anew() -> anyhow::Error {
    let itself = std::env::current_exe().ok().filter(|path| path.is_file());
    // Another version may have been installed over the file meanwhile.
    let itself = itself.unwrap_or_else(|| Path::new("/proc/self/exe").to_owned());
    let error = Command::new(itself)
        .args(std::env::args_os().skip(1))
        .exec();
    anyhow::Error::new(error).context("cannot start this process anew")
}

/// Tells the process's starter something; unlike results, nobody may be there to read it.
pub(crate) fn announce(text: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

/// Warns of ports at which whoever reaches them can have plans computed and files read: Ballista
/// asks nobody who they are.
pub(crate) fn warn_of_open_ports(bind: IpAddr, tls: &NodeTlsArgs) {
    if tls.node_cert.is_none() && !is_private(bind) {
        tracing::warn!(
            %bind,
            "anybody who reaches the ports between nodes can use them; bind to a private address, \
             or give --node-ca, --node-cert and --node-key"
        );
    }
}

/// Whether only machines nearby reach an address; all addresses of a machine count as public.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Name of this machine.
pub(crate) fn host_name() -> String {
    let known = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = known.or_else(|_| std::env::var("HOSTNAME"));
    let name = name.map(|name| name.trim().to_owned()).unwrap_or_default();
    match name.is_empty() {
        true => "localhost".to_owned(),
        false => name,
    }
}

impl NodeTlsArgs {
    /// All three, or none.
    pub(crate) fn files(&self) -> Option<NodeTls> {
        Some(NodeTls {
            ca: self.node_ca.clone()?,
            cert: self.node_cert.clone()?,
            key: self.node_key.clone()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses() {
        for (address, private) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("172.32.0.1", false),
            ("203.0.113.5", false),
            ("2001:db8::1", false),
            ("::ffff:203.0.113.5", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
