//! Room for a cluster on this machine: ports, and a turn.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Ports of clusters lie below those that the kernel gives out.
const PORTS: Range<u16> = 20_000..30_000;
const PORTS_OF_ONE: u16 = 125;
/// Held for as long as the cluster is there: who has it has the ports beside it.
const CLAIM: u16 = 120;
/// Clusters at once: they wait more than they compute, but each is six processes.
const AT_ONCE: usize = 2;

/// How many there are.
static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Room for one, until it is dropped.
pub(super) struct Place {
    pub(super) base: u16,
    _claim: TcpListener,
}

impl Place {
    /// Waits for a turn, and finds ports that nobody listens at.
    pub(super) fn claim() -> Self {
        let (taken, given) = &TAKEN;
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = given.wait_while(taken, |taken| *taken >= AT_ONCE);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;

        static NEXT: AtomicU16 = AtomicU16::new(0);
        let blocks = (PORTS.end - PORTS.start) / PORTS_OF_ONE;
        // Other processes begin elsewhere.
        let first = (std::process::id() % u32::from(blocks)) as u16;
        for _ in 0..blocks {
            let block = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
            let base = PORTS.start + block * PORTS_OF_ONE;
            let Ok(_claim) = TcpListener::bind(("127.0.0.1", base + CLAIM)) else {
                continue;
            };
            let used = [0, 1, 50, 51, 60, 61, 62].into_iter().chain(100..108);
            let mut ports = used.map(|port| TcpListener::bind(("127.0.0.1", base + port)));
            if ports.all(|port| port.is_ok()) {
                return Self { base, _claim };
            }
        }
        panic!("no ports are free");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TAKEN.1.notify_one();
    }
}
