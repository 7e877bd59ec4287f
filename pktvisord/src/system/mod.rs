//! What the daemon may do, when it ends, and what it tells the log.

pub mod needs;
pub(crate) mod occasional;
pub mod privileges;
pub mod sandbox;
pub(crate) mod secret;
pub mod shutdown;
pub mod telemetry;
