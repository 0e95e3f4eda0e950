//! The process that computes a task. Arrives with the cluster.
