//! Fuzz target `pcap_read`.

#![no_main]

include!("common/capture.rs");
