//! The dashboard against a daemon.

mod client;
mod support;
mod terminal;
mod tls;
