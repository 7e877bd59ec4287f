//! The daemon and the operating system: privileges, sandbox, shutdown, secrets and the log.

pub(crate) mod needs;
pub(crate) mod occasional;
pub(crate) mod privileges;
pub(crate) mod sandbox;
pub(crate) mod secret;
pub(crate) mod shutdown;
pub mod telemetry;
