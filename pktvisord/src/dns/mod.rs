//! DNS: from packets to messages.

pub mod stream;
