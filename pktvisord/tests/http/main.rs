//! The HTTP interface as its clients see it.

mod document;
mod metrics;
mod prometheus;
mod routes;
mod server;
mod support;
mod tokens;
