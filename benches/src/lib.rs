//! Measurement only.
