//! Fuzz target `pcapng_read`.

#![no_main]

include!("common/capture.rs");
