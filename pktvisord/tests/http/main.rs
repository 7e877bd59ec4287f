//! Tests of the HTTP interface from the view of a client.

mod document;
mod metrics;
mod prometheus;
mod routes;
mod server;
mod support;
mod tokens;
