//! The `rankmill` binary.
fn main() {}
