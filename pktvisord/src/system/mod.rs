//! The daemon and the operating system: privileges, sandbox, shutdown, secrets and the log.

pub mod needs;
pub(crate) mod occasional;
pub mod privileges;
pub mod sandbox;
pub(crate) mod secret;
pub mod shutdown;
pub mod telemetry;
