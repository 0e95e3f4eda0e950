//! The API over loopback sockets, by clients of its own protocols.

mod auth;
mod bounds;
mod faces;
mod openapi;
mod support;
mod tls;
