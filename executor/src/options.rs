//! How an executor runs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rankmill_engine::store::RetryPolicy;
use rankmill_engine::transport::NodeTls;
use rankmill_engine::work::Workers;

use crate::error::{Error, Result};

/// Memory that a task needs at least; with less, sorts can't even spill.
const MIN_TASK_BYTES: u64 = 16 << 20;

/// How an executor runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of each scheduler's Ballista port, tried in turn.
    pub schedulers: Vec<String>,
    /// The address to listen at: one of this machine, or all of them (`0.0.0.0`).
    pub bind: IpAddr,
    /// The host name or address by which the other nodes reach this one, if not by `bind`. If
    /// `bind` is all addresses: by default the one from which the scheduler was reached.
    pub advertise: Option<String>,
    /// Port from which others fetch shuffle files; 0 is any free one.
    pub port: u16,
    /// Port to which the scheduler sends tasks; 0 is any free one.
    pub grpc_port: u16,
    /// Tasks computed at once.
    pub slots: usize,
    /// Bytes that the operators of all tasks may hold before they spill, an equal share for each
    /// slot; by default 70 % of the machine's or the control group's memory.
    pub memory_bytes: Option<u64>,
    /// Folder for shuffle files and spills, shared with other executors of this machine or not.
    pub work_dir: PathBuf,
    /// Certificates for mutual TLS between nodes.
    pub tls: Option<NodeTls>,
    /// How long leaving may take at most.
    pub drain_timeout: Duration,
    /// How hard to try on S3.
    pub retry: RetryPolicy,
    /// Who does what isn't a query.
    pub workers: Workers,
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |option, reason: String| Err(Error::Option { option, reason });
        if self.schedulers.is_empty() {
            return wrong("schedulers", "give at least one host:port".into());
        }
        for scheduler in &self.schedulers {
            let port = scheduler.rsplit_once(':').map(|(_, port)| port.parse());
            if !matches!(port, Some(Ok(1u16..))) {
                return wrong("schedulers", format!("'{scheduler}' is not host:port"));
            }
        }
        if self.slots == 0 {
            return wrong("slots", "an executor needs at least 1".into());
        }
        if let Some(bytes) = self.memory_bytes {
            let least = MIN_TASK_BYTES * self.slots as u64;
            if bytes < least {
                let reason = format!(
                    "{bytes} bytes are too few for {} slots: give at least {least}",
                    self.slots
                );
                return wrong("memory_bytes", reason);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            schedulers: vec!["node-1:7450".into(), "[::1]:7450".into()],
            bind: IpAddr::from([127, 0, 0, 1]),
            advertise: None,
            port: 0,
            grpc_port: 0,
            slots: 2,
            memory_bytes: Some(64 << 20),
            work_dir: "/tmp".into(),
            tls: None,
            drain_timeout: Duration::ZERO,
            retry: RetryPolicy::default(),
            workers: Default::default(),
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        options().check().unwrap();
        let refused = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert!(refused(|o| o.schedulers.clear()).starts_with("schedulers: "));
        assert!(refused(|o| o.schedulers[0] = "node-1".into()).contains("'node-1'"));
        assert!(refused(|o| o.schedulers[0] = "node-1:0".into()).contains("'node-1:0'"));
        assert!(refused(|o| o.slots = 0).starts_with("slots: "));
        assert!(refused(|o| o.memory_bytes = Some(1)).contains("at least 33554432"));
    }
}
