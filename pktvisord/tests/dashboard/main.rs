//! Tests of the dashboard with a real daemon.

mod client;
mod support;
mod terminal;
mod tls;
