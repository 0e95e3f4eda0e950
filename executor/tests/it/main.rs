//! Executors of a real cluster: in this process where nothing is killed, as processes of their
//! own where something is.

mod computing;
mod disk;
mod leaving;
mod losing;
mod process;
mod support;
mod tls;
