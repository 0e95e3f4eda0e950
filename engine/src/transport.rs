//! Secured connections between the nodes of a cluster.

use std::path::PathBuf;

/// Certificates of a node.
#[derive(Debug, Clone)]
pub struct NodeTls {
    /// Certificate of the authority that signed those of all nodes (PEM).
    pub ca: PathBuf,
    /// This node's certificate (PEM).
    pub cert: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
}
